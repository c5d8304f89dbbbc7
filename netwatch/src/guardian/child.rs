//! The target's process between `fork` and `execve`: enters its cgroup and namespaces, makes its
//! private mounts, becomes its user.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{execve, setgid, setgroups, setuid};

use super::LaunchSpec;
use super::protocol::Prepare;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::faults;
use crate::target::mounts::{self, MountPlan};
use crate::target::{boundary, environment};

/// Written to the guardian when everything is prepared.
pub(super) const READY: &[u8] = b"ready";

/// Why the command was not executed, and the exit code for it.
struct ExecFailure {
    error: Error,
    exit: Exit,
}

impl From<Error> for ExecFailure {
    fn from(error: Error) -> Self {
        Self { error, exit: Exit::Failed }
    }
}

/// What the process enters.
pub(super) struct ProcessContext<'a> {
    pub netns: OwnedFd,
    /// The `cgroup.procs` file of a cgroup to enter, if the process was not forked into it.
    pub cgroup_procs: Option<&'a Path>,
}

/// Runs in the child and never returns. `status` is a pipe to the guardian that closes on exec; the
/// child waits for a byte from `go` before it executes the command.
pub(super) fn run(
    spec: &LaunchSpec,
    prepare: &Prepare,
    context: ProcessContext<'_>,
    status: OwnedFd,
    go: OwnedFd,
) -> ! {
    let mut status = File::from(status);
    let Err(failure) = enter(spec, prepare, context, &mut status, go);
    // If the guardian is gone, there is no process left that could report the failure.
    let _ = write!(status, "{} {:#}", failure.exit.code(), failure.error);
    // SAFETY: ends this process without running destructors of state that it shares with the
    // guardian.
    unsafe { libc::_exit(i32::from(failure.exit.code())) }
}

fn enter(
    spec: &LaunchSpec,
    prepare: &Prepare,
    ProcessContext { netns, cgroup_procs }: ProcessContext<'_>,
    status: &mut File,
    go: OwnedFd,
) -> Result<std::convert::Infallible, ExecFailure> {
    enter_cgroup(cgroup_procs)?;
    setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::os("enter", "the network namespace", errno))?;
    drop(netns);
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| Error::os("create", "a mount namespace", errno))?;
    mount(spec, prepare)?;
    status.write_all(READY).map_err(|error| Error::os("write to", "the guardian", error))?;
    wait(go)?;
    if spec.is_foreign {
        boundary::forbid_terminal_input()?;
        boundary::close_descriptors()?;
    }
    become_user(spec)?;
    faults::point("execute")?;
    spec.open_files.restore().map_err(|errno| Error::os("restore", "the limit of open files", errno))?;
    spec.inherited.restore().map_err(|errno| Error::os("restore", "signals", errno))?;
    Err(execute(spec, &environment::with_gateway(&spec.command.environment, prepare.gateway)))
}

fn enter_cgroup(procs: Option<&Path>) -> Result<()> {
    let Some(procs) = procs else { return Ok(()) };
    fs::write(procs, "0").map_err(|error| Error::os("enter", procs.display().to_string(), error))
}

/// The private mounts of the target. What cannot be mounted because of the host's configuration is
/// reported and is no failure.
fn mount(spec: &LaunchSpec, prepare: &Prepare) -> Result<()> {
    for missed in mounts::prepare(&MountPlan::of_run(&spec.run_dir, prepare.netns.clone()))? {
        eprintln!("netwatch: {missed}");
    }
    Ok(())
}

fn wait(go: OwnedFd) -> Result<()> {
    let mut byte = [0u8];
    File::from(go).read_exact(&mut byte).map_err(|error| Error::os("wait for", "netwatch", error))
}

fn become_user(spec: &LaunchSpec) -> Result<()> {
    let user = &spec.user;
    let failed = |errno| Error::os("become user", user.name.clone(), errno);
    let changes = nix::unistd::geteuid() != user.uid || nix::unistd::getegid() != user.gid;
    if changes {
        setgroups(&spec.groups).map_err(failed)?;
        setgid(user.gid).map_err(failed)?;
        setuid(user.uid).map_err(failed)?;
    }
    // In addition to the guardian: set-id programs clear it, but it ends an ordinary command if the
    // guardian is killed. SAFETY: prctl with plain integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    Ok(())
}

/// Returns only when the command could not be executed.
fn execute(spec: &LaunchSpec, environment: &[CString]) -> ExecFailure {
    let command = &spec.command;
    let Err(errno) = execve(&command.file, &command.arguments, environment);
    let errno = if errno == Errno::ENOEXEC { execute_by_shell(spec, environment) } else { errno };
    let shown = command.file.to_string_lossy();
    // ENOENT of a file that exists is a missing interpreter or loader.
    let exit =
        if errno == Errno::ENOENT && !Path::new(&*shown).exists() { Exit::NotFound } else { Exit::NotExecutable };
    ExecFailure { error: Error::os("run", shown, errno), exit }
}

/// A text file without `#!` is a shell script (POSIX, execvp).
fn execute_by_shell(spec: &LaunchSpec, environment: &[CString]) -> Errno {
    let shell: &CStr = c"/bin/sh";
    let mut arguments = vec![shell.to_owned(), spec.command.file.clone()];
    arguments.extend(spec.command.arguments.iter().skip(1).cloned());
    let Err(errno) = execve(shell, &arguments, environment);
    errno
}
