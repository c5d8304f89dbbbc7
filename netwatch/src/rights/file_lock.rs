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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;
    use nix::unistd::{ForkResult, Pid, fork, pause};

    use super::*;

    /// Forks a process that closes these files, or only reports that, and waits.
    fn forked(close: bool, file: &File) -> Pid {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        // SAFETY: the child makes system calls only.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => {
                drop(writer);
                io::Read::read_exact(&mut reader, &mut [0]).expect("the child is ready");
                child
            }
            ForkResult::Child => {
                // SAFETY: prctl with plain integers. The process ends also if the test fails.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
                if close {
                    // SAFETY: this process does not use the file.
                    unsafe { libc::close(file.as_raw_fd()) };
                }
                let _ = io::Write::write_all(&mut &writer, &[0]);
                loop {
                    pause();
                }
            }
        }
    }

    #[test]
    fn a_forked_process_that_closes_the_file_keeps_no_lock() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        for (closes, expected) in [(true, Ok(())), (false, Err(Taken))] {
            let file = path.reopen().expect("opened");
            lock(&file).expect("free");
            let child = forked(closes, &file);
            // As when this process is killed: the lock is not released.
            drop(file);
            let lock_again = || lock(&path.reopen().expect("opened"));
            // A process that another test forks shares the lock for a moment.
            let deadline = Instant::now() + Duration::from_secs(10);
            while expected.is_ok() && lock_again() != expected && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(lock_again(), expected);
            kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)).expect("ended");
        }
    }
}
