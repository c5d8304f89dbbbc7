//! `fork` into a cgroup. A process that moves to another cgroup waits for an RCU grace period,
//! around 10 ms (the kernel's `cgroup_attach_lock`); one that is forked into it does not wait.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, fork};

/// include/uapi/linux/sched.h; the constant in `libc` has a type that is too small for the value.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Forks, and returns whether the child is in the cgroup already. It is not where the kernel or a
/// seccomp filter refuses CLONE_INTO_CGROUP; the child then moves to the cgroup by itself, or
/// reports why it cannot.
///
/// # Safety
/// As [`fork`]: the process has a single thread.
pub(super) unsafe fn fork_into(cgroup: Option<&Path>) -> nix::Result<(ForkResult, bool)> {
    let directory = cgroup.and_then(|path| File::open(path).ok());
    if let Some(directory) = &directory
        // SAFETY: the caller guarantees a single thread.
        && let Ok(forked) = unsafe { clone_into(directory) }
    {
        return Ok((forked, true));
    }
    // SAFETY: the caller guarantees a single thread.
    unsafe { fork() }.map(|forked| (forked, false))
}

/// # Safety
/// As [`fork_into`].
unsafe fn clone_into(directory: &File) -> nix::Result<ForkResult> {
    // SAFETY: a struct of plain integers, in which zero means "not requested".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = directory.as_raw_fd() as u64;
    // SAFETY: no separate stack is requested, so the child has a copy of everything, as after
    // fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match Errno::result(pid)? {
        0 => Ok(ForkResult::Child),
        pid => Ok(ForkResult::Parent { child: Pid::from_raw(pid as i32) }),
    }
}
