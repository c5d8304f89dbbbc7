//! Runs commands in turn. Each run is an ordinary run in a process of its own, which is forked
//! while netwatch has one thread: a run gives up rights that the next one needs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

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
use crate::settings::{Repetition, RunSettings, SessionSettings};
use crate::target::environment;
use crate::target::user::Identity;
use crate::terminal::{print_error, print_message};

/// The result of all runs.
pub(super) enum Repeated {
    /// The measured runs of each command.
    Measured(Vec<Side>),
    /// A run of the command failed, which is printed.
    Failed,
    /// netwatch failed in a run, which is printed.
    NotMeasured,
    /// The keyboard sent this signal.
    Interrupted(i32),
}

/// How a run ended.
struct RunEnd {
    /// The id of the run; `None` if the command did not run or netwatch failed, which is printed.
    id: Option<String>,
    code: i32,
}

/// Runs each command as often as requested, after the warm-ups.
pub(super) fn repeat(commands: &[RunSettings], repetition: &Repetition) -> Result<Repeated> {
    let mut sides: Vec<Side> =
        commands.iter().map(|one| Side { label: label(one), runs: Vec::with_capacity(repetition.runs) }).collect();
    let keyboard = KeyboardSignals::watch()?;
    for round in 0..repetition.warmup + repetition.runs {
        let is_warmup = round < repetition.warmup;
        for side in order(round, commands.len()) {
            let prepared = prepare(repetition);
            if let Some(signal) = received() {
                return Ok(Repeated::Interrupted(signal));
            }
            prepared?;
            print_progress(repetition, round, (side, commands.len()));
            let settings = settings_of(&commands[side], repetition, commands.len(), is_warmup);
            let end = run_once(settings, repetition.show_output, &keyboard)?;
            if let Some(signal) = received() {
                return Ok(Repeated::Interrupted(signal));
            }
            let label = &sides[side].label;
            let Some(id) = end.id else { return not_measured(label, end.code) };
            if end.code != 0 && !repetition.ignore_failure {
                print_message(&format!(
                    "{} exited with code {}; --ignore-failure measures it nevertheless, --show-output shows its output",
                    escape(label),
                    end.code
                ));
                return Ok(Repeated::Failed);
            }
            if !is_warmup {
                sides[side].runs.push(RunMeasures::of(&read_recording(Some(&id))?.report));
            }
        }
    }
    Ok(Repeated::Measured(sides))
}

/// A run without an id. `--ignore-failure` is about commands that ran.
fn not_measured(label: &str, code: i32) -> Result<Repeated> {
    let is = |exit: Exit| code == i32::from(exit.code());
    match (is(Exit::NotFound) || is(Exit::NotExecutable), is(Exit::Failed)) {
        (true, _) => Ok(Repeated::Failed),
        (false, true) => Ok(Repeated::NotMeasured),
        (false, false) => Err(Error::other("measure", label, format!("netwatch ended with code {code}"))),
    }
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

/// The settings of one run. Warm-ups are not recorded, and all measured runs are kept, beside the
/// recordings of other runs.
fn settings_of(base: &RunSettings, repetition: &Repetition, sides: usize, is_warmup: bool) -> RunSettings {
    let common = base.session.clone();
    let keep = common.keep.max(repetition.runs * sides);
    let (is_benchmark, no_record) = (true, is_warmup);
    let session = SessionSettings { quiet: true, output: None, record: None, no_record, is_benchmark, keep, ..common };
    RunSettings { session, ..base.clone() }
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

/// The keyboard interrupts the command, and ends the benchmark after it, also if the command
/// handles the signal. A signal that was ignored stays ignored. Undone when it is dropped.
struct KeyboardSignals([SigAction; 2]);

const FROM_KEYBOARD: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

/// The signal of the keyboard; 0 for none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn receive(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

impl KeyboardSignals {
    fn watch() -> Result<Self> {
        let handle = SigAction::new(SigHandler::Handler(receive), SaFlags::SA_RESTART, SigSet::empty());
        let watch = |signal| {
            // SAFETY: the handler only stores an atomic integer.
            let old = unsafe { sigaction(signal, &handle) }?;
            if matches!(old.handler(), SigHandler::SigIgn) {
                // SAFETY: restores what was there before.
                unsafe { sigaction(signal, &old) }?;
            }
            Ok(old)
        };
        let failed = |errno: nix::Error| Error::os("handle", "signals", errno);
        Ok(Self([watch(FROM_KEYBOARD[0]).map_err(failed)?, watch(FROM_KEYBOARD[1]).map_err(failed)?]))
    }

    fn restore(&self) -> nix::Result<()> {
        // SAFETY: restores what was there before.
        let restore = |(signal, action)| unsafe { sigaction(signal, action) }.map(drop);
        FROM_KEYBOARD.into_iter().zip(&self.0).try_for_each(restore)
    }
}

impl Drop for KeyboardSignals {
    fn drop(&mut self) {
        let _ = self.restore();
    }
}

/// Runs a command in a child process and waits for it.
fn run_once(settings: RunSettings, show_output: bool, keyboard: &KeyboardSignals) -> Result<RunEnd> {
    let benchmark = Pid::this();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::os("create", "a pipe", errno))?;
    // SAFETY: netwatch has one thread here, so that the child may do anything.
    match unsafe { fork() }.map_err(|errno| Error::os("fork", "a run", errno))? {
        ForkResult::Child => {
            drop(read);
            let exit = keyboard
                .restore()
                .map_err(|errno| Error::os("restore", "signals", errno))
                .and_then(|()| die_with(benchmark))
                .and_then(|()| redirect(show_output))
                .and_then(|()| run_in_child(settings, benchmark, write));
            let exit = exit.unwrap_or_else(|error| {
                print_error(&error);
                Exit::Failed
            });
            std::process::exit(exit.code().into())
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut id = String::new();
            File::from(read).read_to_string(&mut id).map_err(|error| Error::os("read", "the id of a run", error))?;
            Ok(RunEnd { id: (!id.is_empty()).then_some(id), code: wait(child)? })
        }
    }
}

/// Runs the command, and writes the id of the run to the pipe, unless netwatch failed.
fn run_in_child(settings: RunSettings, benchmark: Pid, pipe: OwnedFd) -> Result<Exit> {
    if let Some(signal) = received() {
        // It arrived before the handler was removed, and only once.
        return Ok(Exit::Signalled(signal));
    }
    let mut plan = match RunPlan::make(settings) {
        Ok(plan) => plan,
        Err(refusal) => {
            print_error(&refusal.error);
            return Ok(refusal.exit);
        }
    };
    // The plan was made with the rights of the user for a while, which reset the signal.
    die_with(benchmark)?;
    let exit = run(&mut plan);
    if let Some(report) = plan.report.take().filter(|_| exit != Exit::Failed) {
        // Fails if the parent is gone.
        let _ = File::from(pipe).write_all(report.run.id.as_bytes());
    }
    Ok(exit)
}

/// A run ends with the benchmark, and undoes its changes.
fn die_with(benchmark: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(|errno| Error::os("set", "the parent-death signal", errno))?;
    match Pid::parent() == benchmark {
        true => Ok(()),
        false => Err(Error::other("run", "the command", "the benchmark has ended")),
    }
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
