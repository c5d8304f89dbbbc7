//! Sets what a child process inherits to known values, so that no test depends on how the tests
//! were started. Under `nohup`, or in a background job of a non-interactive shell, HUP, INT and
//! QUIT are inherited ignored.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Variables that change what netwatch does, besides those that begin with `NETWATCH_`.
const VARIABLES: [&str; 6] = ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "NO_COLOR", "COLUMNS"];

/// The highest signal number on Linux (`SIGRTMAX`).
const MAX_SIGNAL: libc::c_int = 64;

/// A command outside every namespace that starts with each signal at its default and none blocked,
/// and without the variables that change what netwatch does.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("NETWATCH_")) {
        command.env_remove(name);
    }
    for name in VARIABLES {
        command.env_remove(name);
    }
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(reset_signals) };
    command
}

/// Makes a command from [`command`] ignore these signals from its start, as `nohup` does with HUP.
pub(crate) fn ignore(command: &mut Command, signals: Vec<libc::c_int>) {
    let ignore = move || signals.iter().try_for_each(|signal| set_disposition(*signal, libc::SIG_IGN));
    // SAFETY: only system calls between fork and exec. Closures run in the order in which they were
    // added.
    unsafe { command.pre_exec(ignore) };
}

fn reset_signals() -> io::Result<()> {
    for signal in 1..=MAX_SIGNAL {
        // Fails for KILL, STOP and the two signals that the C library reserves.
        let _ = set_disposition(signal, libc::SIG_DFL);
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL run no code.
    match unsafe { libc::signal(signal, disposition) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
