//! Signals a process by pid, without the risk of reaching another process that reused the pid.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Opens a descriptor of the process, which is readable when the process has exited.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends SIGKILL to the process if `is_meant` returns true, as [`signal_if`].
pub fn kill_if(pid: i32, is_meant: impl FnOnce() -> bool) -> io::Result<()> {
    signal_if(pid, libc::SIGKILL, is_meant).map(drop)
}

/// Sends a signal to the process if `is_meant` returns true; returns whether it was sent. A pidfd
/// is held during the check, so the signal goes to the process that had the pid when this function
/// was called. If another process reuses the pid during the check, nothing is sent. Succeeds if
/// the process has exited.
pub fn signal_if(pid: i32, signal: i32, is_meant: impl FnOnce() -> bool) -> io::Result<bool> {
    let process = match open(pid) {
        Ok(process) => process,
        Err(error) => return ignore_exited(error),
    };
    if !is_meant() {
        return Ok(false);
    }
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no signal information is passed.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
    if sent == 0 { Ok(true) } else { ignore_exited(io::Error::last_os_error()) }
}

fn ignore_exited(error: io::Error) -> io::Result<bool> {
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn kills_only_if_the_check_returns_true() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        kill_if(pid, || false).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        kill_if(pid, || true).unwrap();
        assert!(!child.wait().unwrap().success());
        kill_if(pid, || panic!("it has exited")).unwrap();
    }
}
