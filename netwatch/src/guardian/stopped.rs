//! Guardians that are stopped (SIGSTOP): neither do they serve netwatch, nor do they undo the run
//! after its death.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use super::process::NAME;
use crate::error::{Error, Result};
use crate::pidfd;
use crate::proc::stat::ProcStat;
use crate::undo::{RunCard, RunDir};

/// What has stopped a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoppedBy {
    /// SIGCONT continues it.
    Signal,
    /// Only the debugger continues it.
    Debugger,
}

/// What has stopped this process; `None` if it is not stopped.
pub(super) fn stopped_by(pid: Pid) -> Option<StoppedBy> {
    match ProcStat::of(pid.as_raw().cast_unsigned())?.state {
        'T' => Some(StoppedBy::Signal),
        't' => Some(StoppedBy::Debugger),
        _ => None,
    }
}

/// Lets the guardian of a live run continue if a signal stopped it. Returns whether it was stopped.
pub fn continue_guardian(run: &RunCard) -> Result<bool> {
    let Some(pid) = run.guardian else { return Ok(false) };
    let lock = RunDir::path_of(&run.id).join("alive");
    pidfd::signal_if(pid, libc::SIGCONT, || is_stopped_guardian(Pid::from_raw(pid), &lock))
        .map_err(|error| Error::os("continue the guardian of run", run.id.as_str(), error))
}

/// The guardian holds the lock of its run, so no other process that has the pid is taken for it.
fn is_stopped_guardian(pid: Pid, lock: &Path) -> bool {
    let is_guardian =
        ProcStat::of(pid.as_raw().cast_unsigned()).is_some_and(|stat| stat.comm.as_bytes() == NAME.to_bytes());
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut files = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    stopped_by(pid) == Some(StoppedBy::Signal) && is_guardian && files.any(|file| file == lock)
}
