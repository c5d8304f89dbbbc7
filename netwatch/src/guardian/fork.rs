//! A fork straight into a cgroup. A process that moves into one by itself waits for a grace period of RCU, around 10 ms (the kernel's
//! `cgroup_attach_lock`); one that is born there does not wait.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, fork};

/// include/uapi/linux/sched.h; in `libc` it is of a type that is too small for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// What came of it, and whether a child is in the cgroup already: not where the kernel or a filter of system calls would not have it; it may
/// then move by itself, or learn why not.
///
/// # Safety
/// As [`fork`]: the process has a single thread.
pub(super) unsafe fn fork_into(cgroup: Option<&Path>) -> nix::Result<(ForkResult, bool)> {
    let directory = cgroup.and_then(|path| File::open(path).ok());
    if let Some(directory) = &directory
        // SAFETY: the caller's promise.
        && let Ok(born) = unsafe { clone_into(directory) }
    {
        return Ok((born, true));
    }
    // SAFETY: the caller's promise.
    unsafe { fork() }.map(|born| (born, false))
}

/// # Safety
/// As [`fork_into`].
unsafe fn clone_into(directory: &File) -> nix::Result<ForkResult> {
    // SAFETY: plain numbers, of which zero means "not asked for".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = directory.as_raw_fd() as u64;
    // SAFETY: no stack of its own is asked for, so that the child has a copy of everything, as after fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match Errno::result(pid)? {
        0 => Ok(ForkResult::Child),
        pid => Ok(ForkResult::Parent { child: Pid::from_raw(pid as i32) }),
    }
}
