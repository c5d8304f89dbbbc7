//! Locks files against other runs of netwatch. A lock belongs to the open file, not to the process
//! (fcntl(2), "Open file description locks"): a process that was forked shares it, and the kernel
//! releases it when the last of them has closed the file.

use std::fs::File;
use std::io;

use nix::fcntl::{FcntlArg, fcntl};

/// The byte that netwatch locks, which SQLite never locks (https://sqlite.org/src/file/src/os.h):
/// SQLite's locks belong to the process, and the two conflict.
const LOCK_BYTE: libc::off_t = 1 << 62;

/// Another run has locked the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken;

/// Locks a file that is open for writing. Without support for such locks in the kernel or file
/// system (EINVAL, ENOLCK), nothing is locked.
pub(crate) fn lock(file: &File) -> Result<(), Taken> {
    match set(file, libc::F_WRLCK) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Err(Taken),
        _ => Ok(()),
    }
}

/// Releases the lock, also for forked processes that have not closed the file.
pub(crate) fn unlock(file: &File) {
    // Fails only where there are no locks.
    let _ = set(file, libc::F_UNLCK);
}

/// Whether a part of the file is locked through another descriptor.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
    let ours = libc::flock { l_start: LOCK_BYTE, l_len: 1, ..whole(kind) };
    fcntl(file, FcntlArg::F_OFD_SETLK(&ours))?;
    Ok(())
}

/// A lock on the whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
