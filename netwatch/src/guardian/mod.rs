//! The guardian: the privileged helper process between netwatch and the target, with a fixed list
//! of verbs (`protocol`). It is the parent of the target and the subreaper of all its descendants,
//! so it receives every one of their exits. It undoes what the run changed on the host, also when
//! netwatch dies. It parses nothing from the network but the kernel's netlink replies; the process
//! that parses packets and DNS messages is netwatch itself.
//!
//! Why a process: PDEATHSIG is cleared by setuid, follows a thread and misses grandchildren; a PID
//! namespace would change what the target finds.

mod child;
mod client;
mod descendants;
mod fork;
mod growth;
mod limits;
mod process;
mod protocol;
mod session;
mod signals;
mod stopped;
mod terminal;

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

pub use client::{Guardian, GuardianClient};
pub use descendants::kill_descendants_of;
pub use limits::OpenFileLimit;
pub use protocol::{MAX_CAPTURES, Prepare, Reply, StartCapture};
pub use signals::{InheritedSignals, block_signals, ignore_file_size_signal, reset_fault_signals};
pub use stopped::continue_guardian;

use crate::error::{Error, Result};
use crate::target::command::Command;
use crate::target::user::Identity;
use crate::undo::{RunId, UndoRegistry};

/// What the guardian is forked with.
#[derive(Debug)]
pub struct LaunchSpec {
    /// The command.
    pub command: Command,
    /// The user that it runs as.
    pub user: Identity,
    /// The groups of the user, looked up by netwatch, because the user database may be queried over
    /// the network.
    pub groups: Vec<nix::unistd::Gid>,
    /// Signal dispositions and mask that netwatch inherited, for the command to inherit.
    pub inherited: InheritedSignals,
    /// The run.
    pub run: RunId,
    /// The directory of the run.
    pub run_dir: PathBuf,
    /// Maximum number of flows in the kernel's table.
    pub max_flows: u32,
    /// Descriptors of files that are locked against other runs, which the guardian closes.
    pub locked: Vec<RawFd>,
    /// How the run is undone.
    pub undo_steps: UndoRegistry,
    /// The limit that netwatch inherited and raised, for the command to inherit.
    pub open_files: OpenFileLimit,
    /// The command runs as another user than netwatch, and must not reach into its session.
    pub is_foreign: bool,
    /// netwatch may draw a status line on the terminal of standard error.
    pub has_status_line: bool,
}

/// Orphans of this process's descendants become its children, so that none gets lost (prctl(2),
/// PR_SET_CHILD_SUBREAPER).
fn become_subreaper() -> Result<()> {
    // SAFETY: prctl with plain integers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(Error::os("become subreaper", "", io::Error::last_os_error())),
    }
}

/// Redirects standard input and output of this process to /dev/null, so that a reader of the
/// command's output receives the end of file when the command closes it. Standard error stays:
/// netwatch writes its own messages to it.
pub fn release_stdio() {
    let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") else { return };
    // Without /dev/null the pipes only stay open a little longer.
    let _ = nix::unistd::dup2_stdin(&null);
    let _ = nix::unistd::dup2_stdout(&null);
}
