//! `netwatch run`: a run from set-up to report. Counts come from `meter` and are kept by `session`;
//! settings come from `cli`, and reports are written by `format`.

pub(super) mod capture;
mod egress;
pub(super) mod exports;
mod firewall;
pub(super) mod interim;
pub(super) mod live;
mod log;
pub(super) mod metering;
mod network;
mod notes;
mod plan;
pub(super) mod processes;
pub(super) mod recording;
pub(super) mod resolve;
pub(super) mod result;
pub(super) mod session;
mod setup;
pub(super) mod signals;
pub(super) mod soak;
mod status;
pub(super) mod tails;
mod teardown;
pub(super) mod thread;
pub(super) mod thresholds;
mod trim;
mod viewers;
mod watch;

use crate::terminal::{Output, Show, detach_stderr, print_error, print_message};
pub use plan::{Refusal, RunPlan};
pub(super) use signals::SignalMask;

use std::time::Duration;

use super::undo_steps;
use crate::confine;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::faults;
use crate::guardian::{Guardian, GuardianClient, InheritedSignals, LaunchSpec, Reply, kill_descendants_of};
use crate::host::cgroup::{self, Cgroup, CgroupUsage};
use crate::report::{EndedBy, ExitStatus as RunExit, ResourceUsage, list_published};
use crate::undo::{Exclusive, Journal, RunDir, UndoCause};
use metering::Metering;
use network::ClosingNetwork;
use result::{SessionResult, publish};
use setup::Ready;
use signals::{HeldSignals, SignalStream};
use teardown::tear_down;
use thread::in_thread;
use watch::{ControlLoop, Ending, NotStarted, RunLimits};

/// Time in which every process of a failed run can be killed that does not wait for a device.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The outcome of a run.
enum RunOutcome {
    /// The command ran and has ended.
    Ran(Ran),
    /// The command did not start.
    NotStarted(NotStarted),
}

/// A finished run.
struct Ran {
    /// `None` if a signal ended the making of it.
    result: Option<SessionResult>,
    ending: Ending,
}

/// Runs the plan, prints the report, keeps it in the plan, and returns the exit code.
pub fn run(plan: &mut RunPlan) -> Exit {
    let show = Show::for_session(&plan.settings.session);
    signals::held(Exit::Failed, |inherited, signals| prepare_and_run(plan, show, inherited, signals))
}

/// Creates the run directory and forks the guardian while the process has one thread, then runs the
/// event loop.
fn prepare_and_run(plan: &mut RunPlan, show: Show, inherited: InheritedSignals, signals: &HeldSignals) -> Result<Exit> {
    signals.step("run_dir")?;
    let run_dir = new_run_dir(signals)?;
    let journal = Journal::open(&run_dir).inspect_err(|_| undo(&run_dir))?;
    capture::create_key_log(plan, run_dir.path()).inspect_err(|_| undo(&run_dir))?;
    signals.step("guardian").inspect_err(|_| undo(&run_dir))?;
    let spec = LaunchSpec {
        command: plan.command.clone(),
        user: plan.user.clone(),
        groups: plan.groups.clone(),
        inherited,
        run: run_dir.id().clone(),
        run_dir: run_dir.path().to_owned(),
        max_flows: plan.settings.session.max_flows,
        locked: plan.exports.locked(),
        undo_steps: undo_steps(),
        open_files: plan.open_files,
        is_foreign: plan.is_foreign,
        has_status_line: plan.settings.session.has_status_line(),
    };
    // If the cgroups have to be mounted for the run, the guardian inherits that mount.
    let _is_known_later = cgroup::own();
    let guardian = Guardian::start(spec).inspect_err(|_| undo(&run_dir))?;
    if let Err(error) = confine::worker() {
        print_error(&error);
    }
    // The guardian was forked from a process with one thread.
    detach_stderr()?;
    let output = plan.output.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::os("start", "the event loop", error))?;
    runtime.block_on(async {
        let mut guardian = guardian.connect()?;
        let signals = signals.listen()?;
        let (outcome, closing) = in_runtime(plan, &run_dir, &journal, &mut guardian, &signals, show).await;
        let (network, metering) = closing.unzip();
        let ended = tear_down(guardian, network, &run_dir, &signals).await;
        if let (Err(_), Err(left)) = (&outcome, &ended) {
            print_error(left);
        }
        let exit = outcome.and_then(|outcome| conclude(outcome, plan, show, output, signals.held()));
        // Consumers finish also after a failure, so that they contain everything up to it.
        let consumed = match metering {
            Some(metering) => metering.finish(&signals).await,
            None => Ok(()),
        };
        let exit = exit?;
        consumed?;
        // The report is valid. The journal contains what could not be undone; the next run tries
        // again.
        ended.map(|()| exit)
    })
}

/// Creates the run directory, after undoing the changes of killed runs.
pub(super) fn new_run_dir(signals: &HeldSignals) -> Result<RunDir> {
    // Another netwatch that cleans up after many runs may hold the lock for seconds.
    let held = Exclusive::take_while(|| signals.check_interrupted())?;
    if let Err(error) = undo_steps().undo_dead_runs(&held) {
        print_error(&error);
    }
    RunDir::create(&held)
}

/// Undoes a run that has no guardian, and removes its directory.
pub(super) fn undo(run_dir: &RunDir) {
    let undone = Exclusive::take().and_then(|held| undo_steps().undo_run(run_dir.path(), UndoCause::Ended, &held));
    if let Err(error) = undone {
        print_error(&error);
    }
}

async fn in_runtime(
    plan: &mut RunPlan,
    run_dir: &RunDir,
    journal: &Journal,
    guardian: &mut GuardianClient,
    signals: &SignalStream<'_>,
    show: Show,
) -> (Result<RunOutcome>, Option<(ClosingNetwork, Metering)>) {
    let set_up = setup::set_up(plan, run_dir, journal, guardian, show, signals).await;
    let mut ready = match set_up {
        Ok(Ok(ready)) => ready,
        Ok(Err(not_started)) => return (Ok(RunOutcome::NotStarted(not_started)), None),
        Err(error) => return (Err(abandon(guardian, error, signals).await), None),
    };
    let outcome = match watch_command(plan, guardian, &mut ready, signals).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(abandon(guardian, error, signals).await),
    };
    (outcome, Some((ready.live.network.close(), ready.live.metering)))
}

async fn watch_command(
    plan: &RunPlan,
    guardian: &mut GuardianClient,
    ready: &mut Ready,
    signals: &SignalStream<'_>,
) -> Result<RunOutcome> {
    let arguments = &plan.settings;
    ready.live.start();
    faults::point("go")?;
    ready.live.note(confine::after_set_up());
    confirm_published(plan);
    guardian.go()?;
    trim::release_code();
    crate::guardian::release_stdio();
    let limits = RunLimits { duration: arguments.duration, linger: arguments.linger };
    match ControlLoop::new(guardian, &mut ready.live, limits).run(signals).await? {
        Err(not_started) => Ok(RunOutcome::NotStarted(not_started)),
        Ok(ending) => {
            // The cgroup is removed after the report.
            let usage = ready.cgroup.as_ref().and_then(Cgroup::usage).map(from_cgroup);
            let report = ready.live.conclude((ending, usage), arguments.drain_timeout, signals, guardian).await?;
            let fail_reasons = ready.live.metering.fail_reasons();
            let result = report.map(|report| SessionResult { report, fail_reasons });
            Ok(RunOutcome::Ran(Ran { result, ending }))
        }
    }
}

/// Prints the published ports, which lead to the command from now on.
fn confirm_published(plan: &RunPlan) {
    let ports = list_published(&plan.published()).filter(|_| plan.settings.session.prints_messages());
    ports.into_iter().for_each(|ports| print_message(&format!("published, {ports}")));
}

/// Kills all processes of a run that failed. Returns the error that made it fail; an error of the
/// killing itself is not reported. A signal ends the wait after [`KILL_TIMEOUT`].
async fn abandon(guardian: &mut GuardianClient, error: Error, signals: &SignalStream<'_>) -> Error {
    let killed = async {
        match kill_all(guardian).await {
            Ok(()) => Ok(()),
            Err(_) => in_thread("kill", || kill_descendants_of(nix::unistd::getpid(), None)).await,
        }
    };
    let killed = tokio::select! {
        killed = killed => killed,
        () = signals.interrupted_after(KILL_TIMEOUT) => {
            Err(Error::other("end", "the processes of the command", "interrupted by a signal"))
        }
    };
    if let Err(error) = killed {
        print_error(&error);
    }
    error
}

async fn kill_all(guardian: &mut GuardianClient) -> Result<()> {
    guardian.kill()?;
    guardian.await_reply(|reply| if matches!(reply, Reply::Killed { .. }) { Ok(()) } else { Err(reply) }).await?;
    Ok(())
}

fn conclude(
    outcome: RunOutcome,
    plan: &mut RunPlan,
    show: Show,
    output: Option<Output>,
    signals: &HeldSignals,
) -> Result<Exit> {
    match outcome {
        RunOutcome::Ran(Ran { result: None, ending }) => Ok(exit_of(ending)),
        RunOutcome::Ran(Ran { result: Some(result), ending }) => {
            let exit = publish(&result, (&plan.settings.session, show), output, exit_of(ending), signals)?;
            plan.report = Some(result.report);
            Ok(exit)
        }
        RunOutcome::NotStarted(NotStarted { message, code }) => {
            print_message(&message);
            Ok(match code {
                126 => Exit::NotExecutable,
                127 => Exit::NotFound,
                _ => Exit::Failed,
            })
        }
    }
}

fn from_cgroup(usage: CgroupUsage) -> ResourceUsage {
    let CgroupUsage { user_ns, system_ns, memory_peak } = usage;
    ResourceUsage { user_ns, system_ns, memory_peak }
}

fn exit_of(ending: Ending) -> Exit {
    match (ending.ended_by, ending.exit) {
        (EndedBy::Duration, _) => Exit::Duration,
        (_, RunExit::Code(code)) => Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
        (_, RunExit::Signal(signal)) => Exit::Signalled(signal),
    }
}
