//! The guardian's own loop: forks the command, watches it and netwatch, and cleans up after either.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, pipe2};

use super::fork::fork_into;
use super::protocol::{Prepare, Reply, Request, receive, send};
use super::{Charge, child, descendants, signals};
use crate::error::{Error, Result};
use crate::undo::{Exclusive, UndoCause};

/// How long processes have between TERM and KILL: long enough to close a file, and the whole stays under a second.
const GRACE: Duration = Duration::from_millis(400);
/// What `ps`, `top` and `pkill` show: not `netwatch`, so that who kills that by name leaves the guardian to clean up.
const NAME: &std::ffi::CStr = c"nw-guardian";

/// Runs in the guardian and never returns.
pub(super) fn run(socket: OwnedFd, charge: Charge) -> ! {
    let code = match Watch::begin(socket, charge).and_then(Watch::run) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("netwatch: guardian: {error}");
            125
        }
    };
    // SAFETY: nothing of netwatch's own state may be touched by destructors here.
    unsafe { libc::_exit(code) }
}

struct Watch {
    socket: OwnedFd,
    charge: Charge,
    children: SignalFd,
    command: Option<Command>,
    /// Set while processes are being ended: how many there were, and when to stop asking.
    ending: Option<(usize, Instant)>,
    /// No child is left: with a subreaper that means no descendant.
    childless: bool,
    all_gone_said: bool,
}

/// The command's process, from fork to exit.
struct Command {
    pid: Pid,
    /// What it says until it executes; closed by `execve`.
    status: Option<File>,
    /// Written to let it go.
    go: Option<File>,
    said: Vec<u8>,
    exited: bool,
}

/// What a round of waiting brought.
enum Woken {
    Request(Request, Option<OwnedFd>),
    NetwatchGone,
    Other,
}

impl Watch {
    fn begin(socket: OwnedFd, charge: Charge) -> Result<Self> {
        // SAFETY: prctl with a valid string.
        unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0) };
        super::become_subreaper()?;
        signals::ignore_all_but_child().map_err(|errno| Error::os("ignore", "signals", errno))?;
        let mask = signals::block(&[Signal::SIGCHLD])?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Error::os("watch", "child processes", errno))?;
        Ok(Self { socket, charge, children, command: None, ending: None, childless: true, all_gone_said: false })
    }

    fn run(mut self) -> Result<()> {
        loop {
            match self.wait()? {
                Woken::Request(Request::Finish, _) => return Ok(()),
                Woken::Request(request, fd) => self.serve(request, fd)?,
                Woken::NetwatchGone => return self.clean_up(),
                Woken::Other => {}
            }
            self.read_status();
            self.reap();
            self.press_on();
        }
    }

    fn wait(&self) -> Result<Woken> {
        let mut fds = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(status) = self.command.as_ref().and_then(|command| command.status.as_ref()) {
            fds.push(PollFd::new(status.as_fd(), PollFlags::POLLIN));
        }
        let timeout = if self.ending.is_some() { PollTimeout::from(5u8) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os("wait for", "events", errno)),
        }
        match receive::<Request>(&self.socket) {
            Ok(Some((request, fd))) => Ok(Woken::Request(request, fd)),
            Ok(None) => Ok(Woken::NetwatchGone),
            Err(error) if error.errno() == Some(Errno::EAGAIN) => Ok(Woken::Other),
            Err(_) => Ok(Woken::NetwatchGone),
        }
    }

    fn serve(&mut self, request: Request, fd: Option<OwnedFd>) -> Result<()> {
        match request {
            Request::Prepare(prepare) => {
                let netns =
                    fd.ok_or_else(|| Error::said("prepare", "the command", "no namespace came with the request"))?;
                self.command = Some(self.fork_command(&prepare, netns)?);
                self.childless = false;
            }
            Request::Go => self.go(),
            Request::Signal(number) => self.signal(number),
            Request::EndRest => self.end_rest(),
            Request::Finish => {}
        }
        Ok(())
    }

    fn fork_command(&self, prepare: &Prepare, netns: OwnedFd) -> Result<Command> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::os("create", "a pipe", errno));
        let (status, status_child) = pipe()?;
        let (go_child, go) = pipe()?;
        let cgroup = prepare.cgroup_procs.as_deref().and_then(Path::parent);
        // SAFETY: the guardian has a single thread.
        let born = unsafe { fork_into(cgroup) }.map_err(|errno| Error::os("fork", "the command", errno))?;
        match born {
            (ForkResult::Child, is_inside) => {
                drop((status, go));
                let place = child::Place { netns, cgroup: prepare.cgroup_procs.as_deref().filter(|_| !is_inside) };
                child::run(&self.charge, prepare, place, status_child, go_child)
            }
            (ForkResult::Parent { child: pid }, _) => Ok(Command {
                pid,
                status: Some(File::from(status)),
                go: Some(File::from(go)),
                said: Vec::new(),
                exited: false,
            }),
        }
    }

    /// From here on the terminal and the pipes of the caller belong to the command alone: whoever reads its output sees the end when it closes it.
    fn go(&mut self) {
        if let Some(mut go) = self.command.as_mut().and_then(|command| command.go.take()) {
            // EPIPE: it has died meanwhile, which `reap` reports.
            let _ = go.write_all(b"g");
        }
        super::let_go_of_stdio();
    }

    fn signal(&self, number: i32) {
        if let (Some(command), Ok(signal)) = (&self.command, Signal::try_from(number))
            && !command.exited
        {
            // ESRCH cannot be: we are the parent and have not reaped it.
            let _ = kill(command.pid, signal);
        }
    }

    fn end_rest(&mut self) {
        // What has not been let go is ours still: it has nothing to put in order, and does not hear TERM.
        if let Some(command) = self.command.as_ref().filter(|command| command.go.is_some() && !command.exited) {
            let _ = kill(command.pid, Signal::SIGKILL);
        }
        let found = descendants::signal_all(getpid(), Signal::SIGTERM);
        // The command's own process is not one that it left behind.
        let found = found.saturating_sub(usize::from(self.command.as_ref().is_some_and(|command| !command.exited)));
        // A stopped process cannot act on TERM.
        descendants::signal_all(getpid(), Signal::SIGCONT);
        // Asked again, the first deadline stands.
        self.ending.get_or_insert((found, Instant::now() + GRACE));
    }

    /// While ending: KILL once the grace is over, and the answer once nobody is left.
    fn press_on(&mut self) {
        let Some((found, deadline)) = self.ending else { return };
        if self.childless {
            self.ending = None;
            self.say(&Reply::Ended { processes: u32::try_from(found).unwrap_or(u32::MAX) });
        } else if Instant::now() >= deadline {
            descendants::signal_all(getpid(), Signal::SIGKILL);
        }
    }

    /// The child says `ready`, then either closes the pipe by executing or says why it could not.
    fn read_status(&mut self) {
        let Some(command) = &mut self.command else { return };
        let Some(status) = &mut command.status else { return };
        let mut readable = [PollFd::new(status.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut readable, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let mut buffer = [0u8; 4096];
        let length = status.read(&mut buffer).unwrap_or(0);
        command.said.extend_from_slice(&buffer[..length]);
        let reply = match (length, command.said.strip_prefix(child::READY)) {
            (0, Some([])) => Some(Reply::Started),
            (0, after) => Some(not_started(after.unwrap_or(&command.said))),
            (_, Some([])) => Some(Reply::Prepared { pid: command.pid.as_raw() }),
            (_, _) => None,
        };
        if length == 0 {
            command.status = None;
        }
        if let Some(reply) = reply {
            self.say(&reply);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let reply = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if self.is_command(pid) => Reply::Exited { code: code as u8 },
                Ok(WaitStatus::Signaled(pid, signal, _)) if self.is_command(pid) => {
                    Reply::Signalled { signal: signal as i32 }
                }
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) => continue,
                Err(Errno::ECHILD) => {
                    self.childless = true;
                    return self.say_all_gone();
                }
                Err(_) => return,
            };
            while self.command.as_ref().is_some_and(|command| command.status.is_some()) {
                self.read_status();
            }
            if let Some(command) = &mut self.command {
                command.exited = true;
            }
            self.say(&reply);
        }
    }

    fn is_command(&self, pid: Pid) -> bool {
        self.command.as_ref().is_some_and(|command| command.pid == pid)
    }

    fn say_all_gone(&mut self) {
        if self.command.as_ref().is_some_and(|command| command.exited) && !self.all_gone_said {
            self.all_gone_said = true;
            self.say(&Reply::AllGone);
        }
    }

    /// A reply that cannot be delivered means that netwatch is gone, which the next round sees.
    fn say(&self, reply: &Reply) {
        let _ = send(&self.socket, reply, None);
    }

    /// netwatch died: nobody of the run may outlive it, and nothing of it may stay on the host.
    fn clean_up(self) -> Result<()> {
        descendants::kill_all_of(getpid());
        let held = Exclusive::take()?;
        self.charge.undo_steps.undo_run(&self.charge.run_dir, UndoCause::Died, &held)
    }
}

/// `126 cannot run …`: the code and the line, as the child wrote them.
fn not_started(said: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(said);
    match text.split_once(' ').and_then(|(code, message)| Some((code.parse().ok()?, message))) {
        Some((code, message)) => Reply::NotStarted { message: message.to_owned(), code },
        None => Reply::NotStarted { message: "the command's process died before it ran".into(), code: 125 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_refusal() {
        let reply = not_started(b"126 cannot run /x: Permission denied (EACCES)");
        assert_eq!(reply, Reply::NotStarted { message: "cannot run /x: Permission denied (EACCES)".into(), code: 126 });
        assert!(matches!(not_started(b""), Reply::NotStarted { code: 125, .. }));
    }
}
