//! The guardian's own loop: executes the verbs, waits for the target's processes, and cleans up
//! after netwatch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, pipe2};

use super::fork::fork_into;
use super::growth::GrowthServer;
use super::protocol::{GuardianRequest, Prepare, Reply, StartCapture, receive, send};
use super::session::SharedGroup;
use super::{LaunchSpec, child, descendants, signals};
use crate::error::{Error, Result};
use crate::host::firewall::{self, FirewallNeeds, RepairedFirewall};
use crate::host::link;
use crate::meter::PacketTap;
use crate::target::mounts;
use crate::undo::{Exclusive, Journal, UndoCause};

/// Time between SIGTERM and SIGKILL: enough to close a file, and the whole end of a run stays under
/// a second.
const TERM_TIMEOUT: Duration = Duration::from_millis(400);
/// Pause between two checks of the processes that are being ended, milliseconds.
const KILL_INTERVAL_MS: u8 = 5;
/// Time to print the error that ends the guardian.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);
/// The process name in `ps`, `top` and `pkill`: not `netwatch`, so that `pkill netwatch` leaves the
/// guardian to clean up.
pub(super) const NAME: &std::ffi::CStr = c"nw-guardian";

/// Runs in the guardian and never returns.
pub(super) fn run(socket: OwnedFd, growth: GrowthServer, spec: LaunchSpec, group: SharedGroup) -> ! {
    let code = match GuardianLoop::new(socket, growth, spec, group).and_then(GuardianLoop::run) {
        Ok(()) => 0,
        Err(error) => {
            print_last(error);
            125
        }
    };
    // SAFETY: ends this process without running destructors of state that it shares with netwatch.
    unsafe { libc::_exit(code) }
}

/// Prints the error that ends the guardian. In a thread, because standard error can be a pipe that
/// is not read: the error is lost then.
fn print_last(error: Error) {
    let (done, printed) = mpsc::channel();
    // Without a thread the error is lost.
    let _ = thread::Builder::new().name("message".into()).spawn(move || {
        let _ = writeln!(io::stderr(), "netwatch: guardian: {error}");
        let _ = done.send(());
    });
    let _is_printed = printed.recv_timeout(PRINT_TIMEOUT);
}

struct GuardianLoop {
    socket: OwnedFd,
    /// Until netwatch closes it.
    growth: Option<GrowthServer>,
    spec: LaunchSpec,
    /// The process group for the command.
    group: SharedGroup,
    /// Readable when a child has exited.
    children: SignalFd,
    target: Option<TargetProcess>,
    /// The cgroup of the run.
    cgroup: Option<PathBuf>,
    /// What the host's firewall has to let pass, once the network is set up.
    firewall: Option<FirewallNeeds>,
    /// Set while processes are being ended.
    killing: Option<Killing>,
    /// No child is left. The guardian is a subreaper, so then there is no descendant either.
    is_childless: bool,
    is_all_gone_sent: bool,
    /// The socket of the run's nftables table, which is removed when the last reference is closed.
    _table: Option<OwnedFd>,
    /// The attached captures by slot, each of which is detached when it is dropped.
    captures: BTreeMap<u16, PacketTap>,
}

/// The main process of the target, from fork to exit.
struct TargetProcess {
    pid: Pid,
    /// Carries [`child::READY`] and, on failure, an error; closed by `execve`.
    status: Option<File>,
    /// Written to let the process execute the command.
    go: Option<File>,
    /// What was read from `status` so far.
    status_text: Vec<u8>,
    has_exited: bool,
}

/// The processes of the target are being ended.
#[derive(Clone, Copy)]
struct Killing {
    /// Number of processes there were.
    processes: usize,
    /// When SIGKILL follows SIGTERM.
    deadline: Instant,
}

/// What ended a wait.
enum LoopEvent {
    GuardianRequest(GuardianRequest, Option<OwnedFd>),
    NetwatchGone,
    Other,
}

impl GuardianLoop {
    fn new(socket: OwnedFd, growth: GrowthServer, spec: LaunchSpec, group: SharedGroup) -> Result<Self> {
        // SAFETY: prctl with a valid string.
        unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0) };
        group.leave()?;
        super::become_subreaper()?;
        signals::ignore_all_but_child().map_err(|errno| Error::os("ignore", "signals", errno))?;
        let mask = signals::block_signals(&[Signal::SIGCHLD])?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Error::os("watch", "child processes", errno))?;
        Ok(Self {
            socket,
            growth: Some(growth),
            spec,
            group,
            children,
            target: None,
            cgroup: None,
            firewall: None,
            killing: None,
            is_childless: true,
            is_all_gone_sent: false,
            _table: None,
            captures: BTreeMap::new(),
        })
    }

    fn run(mut self) -> Result<()> {
        loop {
            match self.wait()? {
                LoopEvent::GuardianRequest(GuardianRequest::Finish, _) => return Ok(()),
                LoopEvent::GuardianRequest(request, fd) => self.serve(request, fd),
                LoopEvent::NetwatchGone => return self.clean_up(),
                LoopEvent::Other => {}
            }
            self.growth.take_if(|growth| !growth.serve());
            self.read_status();
            self.reap();
            self.continue_killing();
        }
    }

    fn wait(&self) -> Result<LoopEvent> {
        let mut fds = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.growth.as_ref().map(|growth| PollFd::new(growth.as_fd(), PollFlags::POLLIN)));
        if let Some(status) = self.target.as_ref().and_then(|target| target.status.as_ref()) {
            fds.push(PollFd::new(status.as_fd(), PollFlags::POLLIN));
        }
        let timeout = self.killing.map_or(PollTimeout::NONE, |_| PollTimeout::from(KILL_INTERVAL_MS));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os("wait for", "events", errno)),
        }
        match receive::<GuardianRequest>(&self.socket) {
            Ok(Some((request, fds))) => Ok(LoopEvent::GuardianRequest(request, fds.into_iter().next())),
            Err(error) if error.errno() == Some(Errno::EAGAIN) => Ok(LoopEvent::Other),
            Ok(None) | Err(_) => Ok(LoopEvent::NetwatchGone),
        }
    }

    fn serve(&mut self, request: GuardianRequest, fd: Option<OwnedFd>) {
        if let Err(error) = request.check(&self.spec.run, fd.is_some()) {
            return self.refuse(&request, error);
        }
        match (request, fd) {
            (GuardianRequest::Prepare(prepare), Some(netns)) => match self.fork_target(&prepare, netns) {
                Ok(target) => {
                    self.target = Some(target);
                    self.cgroup = prepare.cgroup().map(Path::to_owned);
                    self.firewall = Some(prepare.firewall);
                    self.is_childless = false;
                }
                Err(error) => self.refuse(&GuardianRequest::Prepare(prepare), error),
            },
            (GuardianRequest::Go, _) => self.go(),
            (GuardianRequest::Signal(number), _) => self.signal(number),
            (GuardianRequest::Kill, _) => self.start_killing(),
            (GuardianRequest::WriteResolver(text), _) => self.send(&Reply::ResolverWritten(self.write_resolver(&text))),
            (GuardianRequest::RepairFirewall, _) => self.send(&Reply::FirewallRepaired(self.repair_firewall())),
            (GuardianRequest::LinkDown, _) => {
                self.send(&Reply::LinkDown(link::take_down_and_count(&self.spec.run.interface())))
            }
            (GuardianRequest::StartCapture(capture), _) => self.start_capture(capture),
            (GuardianRequest::StopCapture(slot), _) => drop(self.captures.remove(&slot)),
            (GuardianRequest::HoldTable, table) => self._table = table,
            (GuardianRequest::Undo, _) => self.send(&Reply::Undone(self.undo(UndoCause::Ended))),
            (GuardianRequest::Prepare(_) | GuardianRequest::GrowTable(_) | GuardianRequest::Finish, _) => {}
        }
    }

    /// A run whose target cannot be prepared fails with this error; for other verbs it is a defect
    /// of netwatch.
    fn refuse(&self, request: &GuardianRequest, error: Error) {
        self.send(&match request {
            GuardianRequest::Prepare(_) => Reply::NotStarted { message: error.to_string(), code: 125 },
            _ => Reply::Refused(error),
        });
    }

    /// A second capture in a slot replaces the first.
    fn start_capture(&mut self, capture: StartCapture) {
        let slot = capture.slot;
        self.captures.remove(&slot);
        match capture.attach(&self.spec.run.interface()) {
            Ok(tap) => {
                let filter_error = tap.filter_error().map(str::to_owned);
                self.send_with(&Reply::CaptureStarted(Ok(filter_error)), &tap.descriptors().map(|fd| fd.as_raw_fd()));
                self.captures.insert(slot, tap);
            }
            Err(error) => self.send(&Reply::CaptureStarted(Err(error))),
        }
    }

    fn fork_target(&self, prepare: &Prepare, netns: OwnedFd) -> Result<TargetProcess> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::os("create", "a pipe", errno));
        let (status, status_child) = pipe()?;
        let (go_child, go) = pipe()?;
        // SAFETY: the guardian has a single thread.
        let forked = unsafe { fork_into(prepare.cgroup()) }.map_err(|errno| Error::os("fork", "the command", errno))?;
        match forked {
            (ForkResult::Child, is_inside) => {
                drop((status, go));
                let cgroup_procs = prepare.cgroup_procs.as_deref().filter(|_| !is_inside);
                let context = child::ProcessContext { netns, cgroup_procs };
                child::run(&self.spec, prepare, context, status_child, go_child)
            }
            (ForkResult::Parent { child: pid }, _) => {
                self.group.join_and_make_session(pid)?;
                Ok(TargetProcess {
                    pid,
                    status: Some(File::from(status)),
                    go: Some(File::from(go)),
                    status_text: Vec::new(),
                    has_exited: false,
                })
            }
        }
    }

    /// From here on the terminal and the pipes of the caller belong to the command alone.
    fn go(&mut self) {
        if let Some(mut go) = self.target.as_mut().and_then(|target| target.go.take()) {
            // EPIPE: it has died meanwhile, which `reap` reports.
            let _ = go.write_all(b"g");
        }
        super::release_stdio();
    }

    fn signal(&self, number: i32) {
        if let (Some(target), Ok(signal)) = (&self.target, Signal::try_from(number))
            && !target.has_exited
        {
            // ESRCH is impossible: this is the parent and has not waited for it.
            let _ = kill(target.pid, signal);
        }
    }

    fn start_killing(&mut self) {
        // A second request neither extends the deadline nor continues what is stopped to be killed.
        if self.killing.is_some() {
            return;
        }
        // A process that does not execute the command yet still blocks SIGTERM, and has nothing to
        // clean up.
        if let Some(target) = self.target.as_ref().filter(|target| target.go.is_some() && !target.has_exited) {
            let _ = kill(target.pid, Signal::SIGKILL);
        }
        let found = descendants::signal_all(getpid(), Signal::SIGTERM);
        // The main process is not counted: it was not left behind.
        let is_running = self.target.as_ref().is_some_and(|target| !target.has_exited);
        let processes = found.saturating_sub(usize::from(is_running));
        // A stopped process cannot handle SIGTERM.
        descendants::signal_all(getpid(), Signal::SIGCONT);
        self.killing = Some(Killing { processes, deadline: Instant::now() + TERM_TIMEOUT });
    }

    /// Sends SIGKILL after the deadline, and the reply when no process is left.
    fn continue_killing(&mut self) {
        let Some(Killing { processes, deadline }) = self.killing else { return };
        if self.is_childless {
            self.killing = None;
            self.send(&Reply::Killed { processes: u32::try_from(processes).unwrap_or(u32::MAX) });
        } else if Instant::now() >= deadline {
            descendants::kill_round(getpid(), self.cgroup.as_deref());
        }
    }

    fn write_resolver(&self, text: &[u8]) -> Result<()> {
        mounts::write_readable(&mounts::MountPlan::of_run(&self.spec.run_dir, None).resolv_conf, text)
    }

    fn repair_firewall(&self) -> Result<RepairedFirewall> {
        let Some(needs) = &self.firewall else {
            return Err(Error::other("accept request", "repair-firewall", "the network is not set up yet"));
        };
        let run = &self.spec.run;
        firewall::repair(&needs.of(run, &run.interface()), &Journal::open_in(&self.spec.run_dir, run)?)
    }

    /// The child writes [`child::READY`]; then it closes the pipe by executing the command, or
    /// writes why it could not.
    fn read_status(&mut self) {
        let Some(target) = &mut self.target else { return };
        let Some(status) = &mut target.status else { return };
        let mut readable = [PollFd::new(status.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut readable, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let mut buffer = [0u8; 4096];
        let length = status.read(&mut buffer).unwrap_or(0);
        target.status_text.extend_from_slice(&buffer[..length]);
        let reply = match (length, target.status_text.strip_prefix(child::READY)) {
            (0, Some([])) => Some(Reply::Started),
            (0, after) => Some(not_started(after.unwrap_or(&target.status_text))),
            (_, Some([])) => Some(Reply::Prepared { pid: target.pid.as_raw() }),
            (_, _) => None,
        };
        if length == 0 {
            target.status = None;
        }
        if let Some(reply) = reply {
            self.send(&reply);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let reply = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if self.is_target(pid) => Reply::Exited { code: code as u8 },
                Ok(WaitStatus::Signaled(pid, signal, _)) if self.is_target(pid) => {
                    Reply::Signalled { signal: signal as i32 }
                }
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) => continue,
                Err(Errno::ECHILD) => {
                    self.is_childless = true;
                    return self.send_all_gone();
                }
                Err(_) => return,
            };
            while self.target.as_ref().is_some_and(|target| target.status.is_some()) {
                self.read_status();
            }
            if let Some(target) = &mut self.target {
                target.has_exited = true;
            }
            self.send(&reply);
        }
    }

    fn is_target(&self, pid: Pid) -> bool {
        self.target.as_ref().is_some_and(|target| target.pid == pid)
    }

    fn send_all_gone(&mut self) {
        if self.target.as_ref().is_some_and(|target| target.has_exited) && !self.is_all_gone_sent {
            self.is_all_gone_sent = true;
            self.send(&Reply::AllGone);
        }
    }

    /// A reply that cannot be delivered means that netwatch is gone, which the next wait reports.
    fn send(&self, reply: &Reply) {
        self.send_with(reply, &[]);
    }

    fn send_with(&self, reply: &Reply, fds: &[RawFd]) {
        // The socket is non-blocking for the sake of `wait`. netwatch reads its replies in the
        // event loop, which never blocks.
        while let Err(error) = send(&self.socket, reply, fds) {
            let mut writable = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            match error.errno() {
                Some(Errno::EAGAIN) if matches!(poll(&mut writable, PollTimeout::NONE), Ok(_) | Err(Errno::EINTR)) => {}
                // Longer than a message may be: no verb has such a reply.
                Some(Errno::EMSGSIZE) => return,
                _ => return self.give_up_connection(),
            }
        }
    }

    /// netwatch would wait for the lost reply indefinitely. It receives the end of the connection
    /// instead, as if the guardian had died, and the next wait does here.
    fn give_up_connection(&self) {
        // ENOTCONN: netwatch is gone.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    fn undo(&self, cause: UndoCause) -> Result<()> {
        let held = Exclusive::take()?;
        self.spec.undo_steps.undo_run(&self.spec.run_dir, cause, &held)
    }

    /// netwatch died: no process of the run may outlive it, and nothing of the run may stay on the
    /// host.
    fn clean_up(self) -> Result<()> {
        descendants::kill_descendants_of(getpid(), self.cgroup.as_deref());
        if self.spec.has_status_line {
            super::terminal::reset_scroll_region();
        }
        self.undo(UndoCause::Died)
    }
}

/// Parses `126 cannot run …`: the exit code and the error, as the child wrote them.
fn not_started(status: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(status);
    match text.split_once(' ').and_then(|(code, message)| Some((code.parse().ok()?, message))) {
        Some((code, message)) => Reply::NotStarted { message: message.to_owned(), code },
        None => Reply::NotStarted { message: "the process of the command died before it ran".into(), code: 125 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_why_the_command_did_not_run() {
        let Reply::NotStarted { message, code } = not_started(b"126 cannot run /x: Permission denied (EACCES)") else {
            panic!()
        };
        assert_eq!((message.as_str(), code), ("cannot run /x: Permission denied (EACCES)", 126));
        assert!(matches!(not_started(b""), Reply::NotStarted { code: 125, .. }));
    }
}
