//! The command's process between `fork` and `execve`: into its namespaces, down to its user, and off.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{execve, setgid, setgroups, setuid};

use super::Charge;
use super::protocol::Prepare;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::faults;

/// Said to the guardian when everything is in place.
pub(super) const READY: &[u8] = b"ready";

/// Why the command does not run: what to say, and the exit code.
struct Refusal {
    error: Error,
    exit: Exit,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, exit: Exit::Failed }
    }
}

/// Where the command's process goes.
pub(super) struct Place<'a> {
    pub netns: OwnedFd,
    /// The `cgroup.procs` file to enter, if it is not there already.
    pub cgroup: Option<&'a Path>,
}

/// Runs in the child and never returns. `status` goes to the guardian and closes on exec; `go` opens the way.
pub(super) fn run(charge: &Charge, prepare: &Prepare, place: Place<'_>, status: OwnedFd, go: OwnedFd) -> ! {
    let mut status = File::from(status);
    let Err(refusal) = enter(charge, prepare, place, &mut status, go);
    // If the guardian is gone there is nobody left to tell.
    let _ = write!(status, "{} {}", refusal.exit.code(), refusal.error);
    // SAFETY: ends this process without running destructors of what it shares with the guardian.
    unsafe { libc::_exit(i32::from(refusal.exit.code())) }
}

fn enter(
    charge: &Charge,
    prepare: &Prepare,
    Place { netns, cgroup }: Place<'_>,
    status: &mut File,
    go: OwnedFd,
) -> Result<std::convert::Infallible, Refusal> {
    enter_cgroup(cgroup)?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::os("enter", "the network namespace", errno))?;
    drop(netns);
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| Error::os("make", "a mount namespace", errno))?;
    super::mount(prepare)?;
    status.write_all(READY).map_err(|error| Error::os("talk to", "the guardian", error))?;
    wait(go)?;
    become_user(charge)?;
    faults::point("execute")?;
    charge.inherited.restore().map_err(|errno| Error::os("restore", "signals", errno))?;
    Err(execute(charge))
}

fn enter_cgroup(procs: Option<&Path>) -> Result<()> {
    let Some(procs) = procs else { return Ok(()) };
    fs::write(procs, "0").map_err(|error| Error::os("enter", procs.display().to_string(), error))
}

fn wait(go: OwnedFd) -> Result<()> {
    let mut byte = [0u8];
    File::from(go).read_exact(&mut byte).map_err(|error| Error::os("wait for", "netwatch", error))
}

fn become_user(charge: &Charge) -> Result<()> {
    let user = &charge.user;
    let failed = |errno| Error::os("become user", user.name.clone(), errno);
    let changes = nix::unistd::geteuid() != user.uid || nix::unistd::getegid() != user.gid;
    if changes {
        setgroups(&charge.groups).map_err(failed)?;
        setgid(user.gid).map_err(failed)?;
        setuid(user.uid).map_err(failed)?;
    }
    // A second line behind the guardian's own: cleared by set-id programs, and enough for the ordinary case of a killed guardian.
    // SAFETY: prctl with plain integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    Ok(())
}

/// Returns only when the command could not be executed.
fn execute(charge: &Charge) -> Refusal {
    let command = &charge.command;
    let Err(errno) = execve(&command.file, &command.arguments, &command.environment);
    let errno = if errno == Errno::ENOEXEC { execute_by_shell(charge) } else { errno };
    let shown = command.file.to_string_lossy();
    // ENOENT of a file that was found before is a missing interpreter or loader.
    let exit =
        if errno == Errno::ENOENT && !Path::new(&*shown).exists() { Exit::NotFound } else { Exit::NotExecutable };
    Refusal { error: Error::os("run", shown, errno), exit }
}

/// A text file without `#!` is a shell script (POSIX, execvp).
fn execute_by_shell(charge: &Charge) -> Errno {
    let shell: &CStr = c"/bin/sh";
    let mut arguments = vec![shell.to_owned(), charge.command.file.clone()];
    arguments.extend(charge.command.arguments.iter().skip(1).cloned());
    let Err(errno) = execve(shell, &arguments, &charge.command.environment);
    errno
}
