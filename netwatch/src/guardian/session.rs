//! The process groups of a run: the command shares netwatch's, so that control keys, job control
//! and `timeout` reach both as they reach any program. The guardian is outside, so that a signal to
//! the whole group cannot kill it together with netwatch.
//!
//! Before the command is forked, the guardian has a process group of its own; afterwards, a session
//! of its own. Why not a session from the start: the command could not join netwatch's group any
//! more (setpgid(2), EPERM). Why not a group to the end: a parent in another group of the same
//! session is taken for a shell that could continue the command (credentials(7), orphaned process
//! groups), so `^Z` would stop it also where no shell can.

use nix::unistd::{Pid, getpgrp, setpgid, setsid};

use crate::error::{Error, Result};

/// Itself, for setpgid(2).
const SELF: Pid = Pid::from_raw(0);

/// The process group that netwatch and the command share. Its number is 0 if it is that of a
/// process outside of the PID namespace, as below `unshare --pid --fork` and in an init of a
/// kernel: setpgid(2) cannot join it then, so the guardian stays in it until it makes a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedGroup(Pid);

impl SharedGroup {
    /// The group of the calling process, which is netwatch.
    pub(super) fn current() -> Self {
        Self(getpgrp())
    }

    /// Moves a child that has just been forked into a process group of its own. It does so itself
    /// too; whichever comes first, no signal to the shared group reaches it after this call.
    pub(super) fn separate(self, child: Pid) {
        if self.0 != SELF {
            // Fails only if the child has exited, or has made a session.
            let _ = setpgid(child, child);
        }
    }

    /// Moves the calling process into a group of its own.
    pub(super) fn leave(self) -> Result<()> {
        if self.0 == SELF {
            return Ok(());
        }
        setpgid(SELF, SELF).map_err(|errno| Error::os("leave", "the process group of netwatch", errno))
    }

    /// Moves a child of the calling process into the shared group, and the calling process into a
    /// session of its own. The leader of a group cannot make a session (setsid(2)), so the caller
    /// is in the shared group too for the time of one system call.
    pub(super) fn join_and_make_session(self, child: Pid) -> Result<()> {
        let failed = |errno| Error::os("move", "the command into the process group of netwatch", errno);
        if self.0 == SELF {
            return setsid().map(drop).map_err(failed);
        }
        let joined = setpgid(child, self.0).and_then(|()| setpgid(SELF, self.0)).and_then(|()| setsid());
        joined.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork, getpid, getsid, pause};

    use super::*;

    /// In a forked process, because the groups belong to the whole process.
    #[test]
    fn the_child_is_in_the_shared_group_and_the_caller_in_a_session_of_its_own() {
        let is_right = || -> Result<bool, Box<dyn std::error::Error>> {
            let (group, session) = (getpgrp(), getsid(None)?);
            let shared = SharedGroup::current();
            shared.leave()?;
            let is_alone = getpgrp() == getpid() && getsid(None)? == session;
            // SAFETY: the child only waits.
            let ForkResult::Parent { child } = (unsafe { fork() })? else {
                // SAFETY: prctl with plain integers. The process ends also if the test fails.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
                loop {
                    pause();
                }
            };
            shared.join_and_make_session(child)?;
            let joined = (nix::unistd::getpgid(Some(child))?, getsid(Some(child))?) == (group, session);
            nix::sys::signal::kill(child, nix::sys::signal::SIGKILL)?;
            Ok(is_alone && joined && getsid(None)? == getpid())
        };
        // SAFETY: the child only makes system calls and exits.
        match unsafe { fork() }.expect("fork") {
            // SAFETY: ends the child without running destructors of the test.
            ForkResult::Child => unsafe { libc::_exit(i32::from(!is_right().unwrap_or(false))) },
            ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
        }
    }
}
