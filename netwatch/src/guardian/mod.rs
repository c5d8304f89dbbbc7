//! The guardian: a small process between netwatch and the command. It is the command's parent and the subreaper of all its
//! descendants, so it sees every one of them end; and when netwatch dies, however it dies, the guardian ends them and undoes
//! what the run changed on the host. It counts nothing and configures nothing.
//!
//! Why a process: PDEATHSIG is cleared by setuid, follows a thread and misses grandchildren; a PID namespace would change
//! what the command sees.

mod child;
mod descendants;
mod fork;
mod process;
mod protocol;
mod signals;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, fork};
use tokio::io::unix::AsyncFd;

pub use descendants::kill_all_of;
pub use protocol::{Prepare, Reply};
pub use signals::{Inherited, block};

use crate::error::{Error, Result};
use crate::readiness::{Watched, watch};
use crate::target::command::Command;
use crate::target::mounts::{self, MountPlan};
use crate::target::user::Identity;
use crate::undo::UndoRegistry;
use protocol::Request;

/// What the guardian knows from the start, because it is forked with it.
#[derive(Debug)]
pub struct Charge {
    /// The command.
    pub command: Command,
    /// Who it runs as.
    pub user: Identity,
    /// Their groups: looked up outside, since the user data base may be asked over the network.
    pub groups: Vec<nix::unistd::Gid>,
    /// Signal dispositions and mask that netwatch was started with, for the command to inherit.
    pub inherited: Inherited,
    /// The run's directory, whose journal is undone when netwatch dies.
    pub run_dir: PathBuf,
    /// How its journal is undone.
    pub undo_steps: UndoRegistry,
}

/// netwatch's end of the line to its guardian.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    socket: OwnedFd,
}

impl Guardian {
    /// Forks the guardian. To be called while the process has one thread and no runtime.
    pub fn start(charge: Charge) -> Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|errno| Error::os("create a socket pair", "", errno))?;
        become_subreaper()?;
        // SAFETY: the process has a single thread, so the child may go on with ordinary code.
        match unsafe { fork() }.map_err(|errno| Error::os("fork", "the guardian", errno))? {
            ForkResult::Parent { child } => Ok(Self { pid: child, socket: ours }),
            ForkResult::Child => {
                drop(ours);
                process::run(theirs, charge)
            }
        }
    }

    /// Turns the line into one that a runtime can wait on.
    pub fn listen(self) -> Result<Line> {
        let socket = watch(self.socket, "the guardian")?;
        Ok(Line { pid: self.pid, socket, early: VecDeque::new() })
    }
}

/// The same, inside a runtime.
#[derive(Debug)]
pub struct Line {
    pid: Pid,
    socket: AsyncFd<Watched<OwnedFd>>,
    early: VecDeque<Reply>,
}

impl Line {
    /// Makes the command's process: into the network namespace, with its private mounts, waiting for [`Self::go`].
    pub fn prepare(&self, prepare: Prepare, netns: BorrowedFd<'_>) -> Result<()> {
        protocol::send(self.socket.get_ref(), &Request::Prepare(prepare), Some(netns.as_raw_fd()))
    }

    /// Lets the command run.
    pub fn go(&self) -> Result<()> {
        protocol::send(self.socket.get_ref(), &Request::Go, None)
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        protocol::send(self.socket.get_ref(), &Request::Signal(signal as i32), None)
    }

    /// Ends what is left of the command's processes: TERM, and KILL after a moment. Answered by [`Reply::Ended`].
    pub fn end_rest(&self) -> Result<()> {
        protocol::send(self.socket.get_ref(), &Request::EndRest, None)
    }

    /// The next thing the guardian has to say. `None` when it is gone.
    pub async fn reply(&mut self) -> Result<Option<Reply>> {
        if let Some(reply) = self.early.pop_front() {
            return Ok(Some(reply));
        }
        self.receive().await
    }

    /// Waits for the first reply that `wanted` accepts; others are kept for [`Self::reply`].
    pub async fn await_reply<T>(&mut self, mut wanted: impl FnMut(&Reply) -> Option<T>) -> Result<Option<T>> {
        if let Some(index) = self.early.iter().position(|reply| wanted(reply).is_some()) {
            let reply = self.early.remove(index).expect("it was just found");
            return Ok(wanted(&reply));
        }
        while let Some(reply) = self.receive().await? {
            match wanted(&reply) {
                Some(value) => return Ok(Some(value)),
                None => self.early.push_back(reply),
            }
        }
        Ok(None)
    }

    async fn receive(&self) -> Result<Option<Reply>> {
        loop {
            let mut ready =
                self.socket.readable().await.map_err(|error| Error::os("wait for", "the guardian", error))?;
            match protocol::receive::<Reply>(ready.get_inner()) {
                Err(error) if error.errno() == Some(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error),
                Ok(message) => return Ok(message.map(|(reply, _)| reply)),
            }
        }
    }

    /// Lets the guardian go, with everything undone by us, and waits for its end.
    pub fn finish(self) -> Result<()> {
        let sent = protocol::send(self.socket.get_ref(), &Request::Finish, None);
        drop(self.socket);
        // ECHILD: it was reaped already, by whoever ended it.
        let _ = nix::sys::wait::waitpid(self.pid, None);
        sent
    }
}

/// Orphans of this process's descendants become its children, so that none gets lost (prctl(2), PR_SET_CHILD_SUBREAPER).
fn become_subreaper() -> Result<()> {
    // SAFETY: prctl with plain integers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(Error::os("become subreaper", "", io::Error::last_os_error())),
    }
}

/// Gives this process's standard input and output to nobody, so that whoever reads the command's output sees its end when the command closes it.
/// Standard error stays: it is netwatch's own voice.
pub fn let_go_of_stdio() {
    let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") else { return };
    // Without /dev/null the pipes only stay open a little longer; nothing is lost by going on.
    let _ = nix::unistd::dup2_stdin(&null);
    let _ = nix::unistd::dup2_stdout(&null);
}

/// The private mounts of the command. What it will miss is said: it is the host's peculiarity, not a failure.
fn mount(prepare: &Prepare) -> Result<()> {
    let plan = MountPlan {
        resolv_conf: prepare.resolv_conf.clone(),
        private: prepare.private.clone(),
        netns: prepare.netns.clone(),
    };
    for missed in mounts::prepare(&plan)? {
        eprintln!("netwatch: {missed}");
    }
    Ok(())
}
