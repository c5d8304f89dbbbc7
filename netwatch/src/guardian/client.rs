//! netwatch's end of the connection to the guardian.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::growth::{self, MemoryGrowth};
use super::protocol::{self, GuardianRequest, Prepare, Reply, StartCapture};
use super::session::SharedGroup;
use super::stopped::{self, StoppedBy};
use super::{LaunchSpec, become_subreaper, process};
use crate::error::{Error, Result};
use crate::host::link::HostEndCounters;
use crate::meter::MemorySource;
use crate::pidfd;
use crate::readiness::{Watched, watch};

/// How long a reply may take before netwatch checks whether the guardian is stopped.
const STOPPED_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Closes files of the parent in a forked process, which would otherwise keep their locks if the
/// parent is killed. Nothing else may use or close them in this process.
fn close_inherited(files: &[RawFd]) {
    for file in files {
        // SAFETY: guaranteed by the caller. An error leaves nothing to do.
        unsafe { libc::close(*file) };
    }
}

/// A guardian that was forked, before there is an event loop.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    socket: OwnedFd,
    growth: MemoryGrowth,
}

impl Guardian {
    /// Forks the guardian. The process must have a single thread and no event loop yet.
    pub fn start(spec: LaunchSpec) -> Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|errno| Error::os("create a socket pair", "", errno))?;
        let (growth, growth_server) = growth::pair(spec.max_flows)?;
        become_subreaper()?;
        let group = SharedGroup::current();
        // SAFETY: the process has a single thread, so the child may execute ordinary code.
        match unsafe { fork() }.map_err(|errno| Error::os("fork", "the guardian", errno))? {
            ForkResult::Parent { child } => {
                group.separate(child);
                Ok(Self { pid: child, socket: ours, growth })
            }
            ForkResult::Child => {
                drop((ours, growth));
                close_inherited(&spec.locked);
                process::run(theirs, growth_server, spec, group)
            }
        }
    }

    /// Registers the connection with the event loop, in which this is called.
    pub fn connect(self) -> Result<GuardianClient> {
        let socket = watch(self.socket, "the guardian")?;
        let growth = Arc::new(self.growth);
        Ok(GuardianClient { pid: self.pid, socket, growth, early: VecDeque::new(), fds: Vec::new() })
    }
}

/// Sends verbs to the guardian and receives its replies, in an event loop. Sending never blocks.
#[derive(Debug)]
pub struct GuardianClient {
    pid: Pid,
    socket: AsyncFd<Watched<OwnedFd>>,
    growth: Arc<MemoryGrowth>,
    /// Replies that arrived while another one was awaited.
    early: VecDeque<Reply>,
    /// Descriptors that came with the last reply that carried some.
    fds: Vec<OwnedFd>,
}

impl GuardianClient {
    /// The process id of the guardian.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets a guardian that a signal stopped continue, and kills one that a debugger stopped: a run
    /// without a guardian can be ended, one with a guardian that serves nothing cannot.
    pub fn revive(&self) {
        revive(self.pid);
    }

    /// Makes the target's process: in the network namespace, with its private mounts, waiting for
    /// [`Self::go`].
    pub fn prepare(&self, prepare: Prepare, netns: BorrowedFd<'_>) -> Result<()> {
        self.send(&GuardianRequest::Prepare(prepare), Some(netns))
    }

    /// Lets the target run.
    pub fn go(&self) -> Result<()> {
        self.send(&GuardianRequest::Go, None)
    }

    /// Sends the main process of the target a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.send(&GuardianRequest::Signal(signal as i32), None)
    }

    /// Ends the processes that are left of the target: SIGTERM, then SIGKILL. Answered by
    /// [`Reply::Killed`].
    pub fn kill(&self) -> Result<()> {
        self.send(&GuardianRequest::Kill, None)
    }

    /// The guardian as the source of the classifier's memory.
    pub fn memory_growth(&self) -> Arc<dyn MemorySource> {
        self.growth.clone()
    }

    /// Replaces the contents of the target's resolv.conf. Answered by [`Reply::ResolverWritten`].
    pub fn write_resolver(&self, text: Vec<u8>) -> Result<()> {
        self.send(&GuardianRequest::WriteResolver(text), None)
    }

    /// Puts back what a reload of the host's firewall removed. Answered by
    /// [`Reply::FirewallRepaired`].
    pub fn repair_firewall(&self) -> Result<()> {
        self.send(&GuardianRequest::RepairFirewall, None)
    }

    /// Gives the guardian a reference to the socket that owns the run's nftables table, so that the
    /// table outlives netwatch until the guardian exits.
    pub fn hold_table(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.send(&GuardianRequest::HoldTable, Some(socket))
    }

    /// Starts a capture on the link. Returns the descriptors of its ring and its counters, and why
    /// the kernel does not apply the filter, if it does not.
    pub async fn start_capture(&mut self, capture: StartCapture) -> Result<([OwnedFd; 2], Option<String>)> {
        self.send(&GuardianRequest::StartCapture(capture), None)?;
        let reply = self.await_reply(|reply| match reply {
            Reply::CaptureStarted(started) => Ok(started),
            other => Err(other),
        });
        let filter_error = reply.await?.ok_or_else(guardian_is_gone)??;
        let fds = <[OwnedFd; 2]>::try_from(std::mem::take(&mut self.fds));
        let fds = fds.map_err(|_| Error::other("start", "the capture", "the guardian sent no descriptors"))?;
        Ok((fds, filter_error))
    }

    /// Detaches the programs of the capture in this slot.
    pub fn stop_capture(&self, slot: u16) -> Result<()> {
        self.send(&GuardianRequest::StopCapture(slot), None)
    }

    /// Takes the host's end of the link down, then reads its counters: `None` if the interface is
    /// gone.
    pub async fn link_down(&mut self) -> Result<Option<HostEndCounters>> {
        self.send(&GuardianRequest::LinkDown, None)?;
        let reply = self.await_reply(|reply| match reply {
            Reply::LinkDown(counters) => Ok(counters),
            other => Err(other),
        });
        reply.await?.ok_or_else(guardian_is_gone)?
    }

    /// Undoes the run; the inner result is that of undoing, the outer error means that the guardian
    /// was killed. May wait for the lock as long as another run holds it.
    pub async fn undo(&mut self) -> Result<Result<()>> {
        self.send(&GuardianRequest::Undo, None)?;
        let reply = self.await_reply(|reply| match reply {
            Reply::Undone(result) => Ok(result),
            other => Err(other),
        });
        reply.await?.ok_or_else(guardian_is_gone)
    }

    /// The next reply. `None` when the guardian is gone.
    pub async fn reply(&mut self) -> Result<Option<Reply>> {
        if let Some(reply) = self.early.pop_front() {
            return Ok(Some(reply));
        }
        self.receive().await
    }

    /// Waits for the first reply that `select` accepts. It returns the others, which are kept for
    /// [`Self::reply`]. Fails if a request is refused.
    pub async fn await_reply<T>(&mut self, mut select: impl FnMut(Reply) -> Result<T, Reply>) -> Result<Option<T>> {
        for _ in 0..self.early.len() {
            match self.early.pop_front().map(&mut select) {
                Some(Ok(value)) => return Ok(Some(value)),
                Some(Err(other)) => self.early.push_back(other),
                None => {}
            }
        }
        loop {
            let Ok(received) = timeout(STOPPED_CHECK_INTERVAL, self.receive()).await else {
                self.revive();
                continue;
            };
            let received = match received? {
                Some(Reply::Refused(error)) => return Err(error),
                received => received,
            };
            match received.map(&mut select) {
                Some(Ok(value)) => return Ok(Some(value)),
                Some(Err(other)) => self.early.push_back(other),
                None => return Ok(None),
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Reply>> {
        loop {
            let mut ready =
                self.socket.readable().await.map_err(|error| Error::os("wait for", "the guardian", error))?;
            match protocol::receive::<Reply>(ready.get_inner()) {
                Err(error) if error.errno() == Some(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error),
                Ok(message) => {
                    return Ok(message.map(|(reply, fds)| {
                        if !fds.is_empty() {
                            self.fds = fds;
                        }
                        reply
                    }));
                }
            }
        }
    }

    fn send(&self, request: &GuardianRequest, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        protocol::send(self.socket.get_ref(), request, &fds)
    }

    /// Lets the guardian exit, with everything undone, and waits for its end. Nothing can be sent
    /// afterwards.
    pub async fn finish(&mut self) -> Result<()> {
        let sent = self.send(&GuardianRequest::Finish, None);
        // It waits for nothing that netwatch should receive. Fails only if it has exited.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let mut exit = None;
        // ECHILD: it was killed and has been waited for.
        while waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let exit = match &exit {
                Some(exit) => exit,
                None => exit.insert(watch_exit(self.pid)?),
            };
            match timeout(STOPPED_CHECK_INTERVAL, exit.readable()).await {
                // A debugger has to wait for it first.
                Ok(ready) => ready.map_err(|error| Error::os("wait for", "the guardian", error))?.clear_ready(),
                Err(_) => self.revive(),
            }
        }
        sent
    }
}

/// Becomes readable when the process has exited.
fn watch_exit(pid: Pid) -> Result<AsyncFd<Watched<OwnedFd>>> {
    let process = pidfd::open(pid.as_raw()).map_err(|error| Error::os("open", "the guardian process", error))?;
    watch(process, "the guardian")
}

/// See [`GuardianClient::revive`]. This process is the parent of the guardian and has not waited
/// for it, so the pid is its own.
fn revive(guardian: Pid) {
    match stopped::stopped_by(guardian) {
        Some(StoppedBy::Signal) => {
            let _ = kill(guardian, Signal::SIGCONT);
            report("the guardian of the run was stopped; netwatch lets it continue");
        }
        Some(StoppedBy::Debugger) => {
            let _ = kill(guardian, Signal::SIGKILL);
            report("a debugger has stopped the guardian of the run; netwatch kills it and ends the run");
        }
        None => {}
    }
}

/// On a thread of its own, because standard error may be a pipe that is not read.
fn report(message: &'static str) {
    // Without a thread the message is lost, and the run continues.
    let _ = thread::Builder::new().name("message".into()).spawn(move || {
        let _ = writeln!(std::io::stderr(), "netwatch: {message}");
    });
}

/// For verbs whose reply does not come.
fn guardian_is_gone() -> Error {
    Error::other("receive from", "the guardian", "the guardian process was killed")
}
