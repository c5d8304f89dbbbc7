//! The boundary between a session and a command of another user in it: `netwatch run -u USER` in a
//! root shell, or under sudo, which may also have been called in a root shell. The command shares
//! the terminal and inherits descriptors, and must not gain rights through either. If it runs as
//! the same user as netwatch, nothing is restricted.

use std::fs;
use std::os::fd::RawFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::error::{Error, Result};
use crate::seccomp::{
    ALLOW, ARCHITECTURE, FIRST_ARGUMENT, FilteredThreads, Instruction, NUMBER, REFUSE, install, jump, load,
    unless_equal, verdict,
};

/// ioctl(2) on each architecture whose programs the kernel runs: `AUDIT_ARCH_*`, and the number of
/// the call.
#[cfg(target_arch = "x86_64")]
const IOCTL: [(u32, u32); 3] = [(0xc000_003e, 16), (0xc000_003e, 0x4000_0000 | 514), (0x4000_0003, 54)];
#[cfg(target_arch = "aarch64")]
const IOCTL: [(u32, u32); 2] = [(0xc000_00b7, 29), (0x4000_0028, 54)];

/// Requests that put input into a terminal: TIOCSTI, and those of a virtual console.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

/// The kernel uses the lower half of a request, the second argument.
const REQUEST: u32 = FIRST_ARGUMENT + 8;

/// Makes every ioctl that puts input into a terminal fail with EPERM, in this process and its
/// descendants: a shell on the terminal would execute that input with its own rights. The kernel
/// itself refuses TIOCSTI only where `dev.tty.legacy_tiocsti` is 0 (Linux 6.2). The filter is
/// installed with CAP_SYS_ADMIN instead of no_new_privs, so set-user-ID programs keep working.
pub fn forbid_terminal_input() -> Result<()> {
    install(filter(), FilteredThreads::Caller).map_err(|errno| {
        let error = Error::os("protect", "the terminal from the command", errno);
        error.hint("-u needs a kernel with CONFIG_SECCOMP_FILTER")
    })
}

/// Refuses the requests in the ioctl of each architecture.
fn filter() -> Vec<Instruction> {
    let mut filter = Vec::new();
    for (architecture, number) in IOCTL {
        filter.extend([
            load(ARCHITECTURE),
            unless_equal(architecture, 6),
            load(NUMBER),
            unless_equal(number, 4),
            load(REQUEST),
            jump(TIOCSTI, 1, 0),
            unless_equal(TIOCLINUX, 1),
            verdict(REFUSE),
        ]);
    }
    filter.push(verdict(ALLOW));
    filter
}

/// Closes every descriptor except the standard streams when the command is executed: root may have
/// opened files that the user may not read.
pub fn close_descriptors() -> Result<()> {
    let path = "/proc/self/fd";
    let entries = fs::read_dir(path).map_err(|error| Error::os("list", path, error))?;
    let open: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > libc::STDERR_FILENO) {
        // EBADF: the descriptor of the directory that was just read.
        // SAFETY: only a flag of the descriptor changes, and its owner keeps it open.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}
