//! Runs commands in turn. Each run is an ordinary run in a process of its own, which is forked
//! while netwatch has one thread: a run gives up rights that the next one needs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use crate::benchmark::{RunMeasures, Side};
use crate::commands::load::read_recording;
use crate::commands::run::{RunPlan, run};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::escape;
use crate::rights;
use crate::settings::{Repetition, RunSettings};
use crate::target::environment;
use crate::target::user::Identity;
use crate::terminal::{print_error, print_message};

/// The result of all runs.
pub(super) enum Repeated {
    /// The measured runs of each command.
    Measured(Vec<Side>),
    /// A run failed, which is printed.
    Failed,
}

/// How a run ended.
struct RunEnd {
    /// The id of its recording; `None` if there is none.
    id: Option<String>,
    code: i32,
}

impl RunEnd {
    /// The keyboard ended the command, and with it the benchmark.
    fn is_interrupted(&self) -> bool {
        FROM_KEYBOARD.iter().any(|signal| self.code == 128 + *signal as i32)
    }
}

/// Runs each command as often as requested, after the warm-ups.
pub(super) fn repeat(commands: &[RunSettings], repetition: &Repetition) -> Result<Repeated> {
    let mut sides: Vec<Side> =
        commands.iter().map(|one| Side { label: label(one), runs: Vec::with_capacity(repetition.runs) }).collect();
    let _signals = IgnoredSignals::ignore()?;
    for round in 0..repetition.warmup + repetition.runs {
        let is_warmup = round < repetition.warmup;
        for side in order(round, commands.len()) {
            prepare(repetition)?;
            print_progress(repetition, round, (side, commands.len()));
            let settings = settings_of(&commands[side], repetition, commands.len(), is_warmup);
            let end = run_once(settings, repetition.show_output)?;
            if end.is_interrupted() || (end.code != 0 && !repetition.ignore_failure) {
                print_message(&format!(
                    "{} exited with code {}; --ignore-failure measures it nevertheless, --show-output shows its output",
                    escape(&sides[side].label),
                    end.code
                ));
                return Ok(Repeated::Failed);
            }
            if !is_warmup {
                let Some(id) = end.id else { return Ok(Repeated::Failed) };
                sides[side].runs.push(RunMeasures::of(&read_recording(Some(&id))?.report));
            }
        }
    }
    Ok(Repeated::Measured(sides))
}

/// Sides take turns in going first, so that none has the warmer caches.
fn order(round: usize, sides: usize) -> impl Iterator<Item = usize> {
    let is_reversed = !round.is_multiple_of(2);
    (0..sides).map(move |place| if is_reversed { sides - 1 - place } else { place })
}

/// The command as it was typed: of `sh -c TEXT` the text.
fn label(settings: &RunSettings) -> String {
    let words: Vec<_> = settings.command.iter().map(|word| word.to_string_lossy()).collect();
    match words.as_slice() {
        [shell, flag, text] if shell == "sh" && flag == "-c" => text.clone().into_owned(),
        words => words.join(" "),
    }
}

/// The settings of one run. Warm-ups are not recorded, and all measured runs are kept.
fn settings_of(base: &RunSettings, repetition: &Repetition, sides: usize, is_warmup: bool) -> RunSettings {
    let keep = base.keep.max(repetition.runs * sides);
    RunSettings { quiet: true, output: None, record: None, no_record: is_warmup, keep, ..base.clone() }
}

fn print_progress(repetition: &Repetition, round: usize, (side, sides): (usize, usize)) {
    let name = if sides > 1 { [" of A", " of B"][side.min(1)] } else { "" };
    let text = match round.checked_sub(repetition.warmup) {
        None => format!("warm-up {} of {}{name}", round + 1, repetition.warmup),
        Some(round) => format!("run {} of {}{name}", round + 1, repetition.runs),
    };
    print_message(&text);
}

/// Runs the shell command of `--prepare` as the user that the command has by default.
fn prepare(repetition: &Repetition) -> Result<()> {
    let Some(text) = &repetition.prepare else { return Ok(()) };
    let failed = |cause: io::Error| Error::os("run", "the command of --prepare", cause);
    let user = rights::caller()?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(text).stdin(Stdio::null()).stdout(io::stderr());
    become_user(&mut command, &user)?;
    let status = command.status().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::other("run", "the command of --prepare", status.to_string())),
    }
}

fn become_user(command: &mut Command, user: &Identity) -> Result<()> {
    let is_changed = user.uid != nix::unistd::Uid::effective();
    let before_sudo = if is_changed { environment::before_sudo() } else { None };
    let variables = environment::for_user(std::env::vars_os().collect(), user, is_changed, before_sudo);
    command.env_clear().envs(variables);
    let (uid, gid, groups) = (user.uid, user.gid, user.groups()?);
    let change = move || {
        restore_default_signals()?;
        if is_changed {
            nix::unistd::setgroups(&groups)?;
            nix::unistd::setresgid(gid, gid, gid)?;
            nix::unistd::setresuid(uid, uid, uid)?;
        }
        Ok(())
    };
    // SAFETY: only system calls, which are async-signal-safe; nothing is allocated.
    unsafe { command.pre_exec(change) };
    Ok(())
}

/// The keyboard interrupts the command, not netwatch between two runs. Undone when it is dropped.
struct IgnoredSignals([SigAction; 2]);

const FROM_KEYBOARD: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

impl IgnoredSignals {
    fn ignore() -> Result<Self> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed.
        let set = |signal| unsafe { sigaction(signal, &ignore) };
        let failed = |errno| Error::os("ignore", "signals", errno);
        Ok(Self([set(FROM_KEYBOARD[0]).map_err(failed)?, set(FROM_KEYBOARD[1]).map_err(failed)?]))
    }
}

impl Drop for IgnoredSignals {
    fn drop(&mut self) {
        for (signal, action) in FROM_KEYBOARD.into_iter().zip(&self.0) {
            // SAFETY: restores what was there before.
            let _ = unsafe { sigaction(signal, action) };
        }
    }
}

fn restore_default_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    FROM_KEYBOARD.into_iter().try_for_each(|signal| unsafe { sigaction(signal, &default) }.map(drop))
}

/// Runs a command in a child process and waits for it.
fn run_once(settings: RunSettings, show_output: bool) -> Result<RunEnd> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::os("create", "a pipe", errno))?;
    // SAFETY: netwatch has one thread here, so that the child may do anything.
    match unsafe { fork() }.map_err(|errno| Error::os("fork", "a run", errno))? {
        ForkResult::Child => {
            drop(read);
            std::process::exit(run_in_child(settings, show_output, write).code().into())
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut id = String::new();
            File::from(read).read_to_string(&mut id).map_err(|error| Error::os("read", "the id of a run", error))?;
            Ok(RunEnd { id: (!id.is_empty()).then_some(id), code: wait(child)? })
        }
    }
}

/// Runs the command, and writes the id of the run to the pipe.
fn run_in_child(settings: RunSettings, show_output: bool, pipe: OwnedFd) -> Exit {
    if let Err(error) = restore_default_signals()
        .map_err(|errno| Error::os("restore", "signals", errno))
        .and_then(|()| die_with_parent())
        .and_then(|()| redirect(show_output))
    {
        print_error(&error);
        return Exit::Failed;
    }
    let mut plan = match RunPlan::make(settings) {
        Ok(plan) => plan,
        Err(refusal) => {
            print_error(&refusal.error);
            return refusal.exit;
        }
    };
    let exit = run(&mut plan);
    if let Some(report) = plan.report.take() {
        // Fails if the parent is gone.
        let _ = File::from(pipe).write_all(report.run.id.as_bytes());
    }
    exit
}

/// A run ends with the benchmark, and undoes its changes.
fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(|errno| Error::os("set", "the parent-death signal", errno))
}

/// The result of the benchmark is on standard output, and a command that reads the terminal would
/// wait for it.
fn redirect(show_output: bool) -> Result<()> {
    let failed = |error: io::Error| Error::os("redirect", "standard output", error);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let errno = |errno: nix::Error| failed(errno.into());
    nix::unistd::dup2_stdin(&null).map_err(errno)?;
    match show_output {
        true => nix::unistd::dup2_stdout(io::stderr().as_fd()).map_err(errno),
        false => nix::unistd::dup2_stdout(&null).map_err(errno),
    }
}

fn wait(child: Pid) -> Result<i32> {
    match waitpid(child, None).map_err(|errno| Error::os("wait for", "a run", errno))? {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        _ => Ok(i32::from(Exit::Failed.code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_take_turns_in_going_first() {
        let rounds: Vec<Vec<usize>> = (0..3).map(|round| order(round, 2).collect()).collect();
        assert_eq!(rounds, [vec![0, 1], vec![1, 0], vec![0, 1]]);
        assert_eq!(order(1, 1).collect::<Vec<_>>(), [0]);
    }
}
