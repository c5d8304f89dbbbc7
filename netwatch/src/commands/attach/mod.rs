//! `netwatch attach`: meters what runs already, from the first packet after it attached to the last
//! before it detached. Nothing of the target changes. The metering thread, signals, consumers and
//! the report are those of `run`; there is no guardian, because the kernel undoes everything when
//! this process ends.

mod captures;
mod cgroups;
mod follow;
mod links;
mod names;
mod notes;
mod seed;
mod selection;
mod targets;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::run::capture::{self, CaptureHost, OpenedCapture, StartedCapture};
use super::run::exports::Exports;
use super::run::interim::InterimPrinter;
use super::run::metering::{Conclusion, Metering, MeteringSpec};
use super::run::processes::{HasLocalSockets, TracerLoading};
use super::run::recording::RecordingPlan;
use super::run::resolve::{resolved, unless_ended};
use super::run::result::{SessionResult, publish};
use super::run::session::{self, Consumers, SessionReaders, TracedProcesses};
use super::run::signals::{self, HeldSignals, SignalAction, SignalStream};
use super::run::tails::{TailCapture, Tails};
use super::run::thread::{PendingWork, in_thread};
use super::run::thresholds::ThresholdWatch;
use super::run::{new_run_dir, undo};
use super::view::own_facts;
use crate::confine;
use crate::doctor::{require_capabilities, require_limits};
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::exit::Exit;
use crate::guardian::OpenFileLimit;
use crate::host::cgroup;
use crate::meter::{Hooks, KernelMeter, KernelMeterConfig, LiveMeter, ProcessTracerConfig, unix_now_ns};
use crate::packets::{CaptureFacts, CaptureInterfaces, RunningCapture};
use crate::process::Attribution;
use crate::report::{DnsForwarder, EndedBy, ExitStatus, Interface, Report, Run};
use crate::rights;
use crate::session::{IsolatedScope, Session};
use crate::settings::AttachSettings;
use crate::terminal::{Output, Show, detach_stderr, print_error, print_message};
use crate::undo::{RunCard, RunDir};
use captures::CapturedTargets;
use cgroups::AttachedCgroups;
use follow::{Follower, SharedTargets};
use links::AttachedLinks;
use targets::OpenedTargets;

impl OpenedTargets {
    /// What the classifier is loaded for.
    fn hooks(&self) -> Hooks {
        match self {
            Self::Links(_) => Hooks::Interfaces,
            Self::Cgroups(_) => Hooks::Cgroups,
        }
    }

    /// Whose processes are traced, and the cgroup of these. A process can enter a network namespace
    /// from anywhere, and a program is attached to one cgroup.
    fn traced(&self, only_processes: bool) -> (TracedProcesses, Option<PathBuf>) {
        match self {
            Self::Cgroups(cgroups) if only_processes && let [only] = &cgroups[..] => {
                (TracedProcesses::Machine, Some(only.path().to_owned()))
            }
            Self::Cgroups(cgroups) if let [only] = &cgroups[..] => {
                (TracedProcesses::Target, Some(only.path().to_owned()))
            }
            _ => (TracedProcesses::Machine, cgroup::root().ok()),
        }
    }

    /// The cookies of the network namespaces that are metered.
    fn cookies(&self) -> Result<Vec<u64>> {
        match self {
            Self::Links(targets) => targets.cookies(),
            Self::Cgroups(_) => Ok(Vec::new()),
        }
    }

    /// For the thread that attaches.
    fn share(self, meter: &KernelMeter, only_processes: bool) -> Result<SharedTargets> {
        Ok(match self {
            Self::Links(targets) => Arc::new(Mutex::new(AttachedLinks::new(targets, meter.attacher()?))),
            Self::Cgroups(cgroups) => {
                let selection = only_processes.then(|| meter.process_selection()).transpose()?;
                Arc::new(Mutex::new(AttachedCgroups::new(cgroups, meter.cgroup_attacher()?, selection)))
            }
        })
    }
}

/// Deadline of a timer that must exist but not expire: 100 years.
const NO_DEADLINE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What was checked and opened before anything is attached.
struct AttachPlan {
    settings: AttachSettings,
    user: String,
    output: Option<Output>,
    record: Option<RecordingPlan>,
    exports: Exports,
    capture: Option<OpenedCapture>,
}

impl AttachPlan {
    fn make(settings: AttachSettings) -> Result<(Self, OpenedTargets)> {
        require_capabilities()?;
        require_limits()?;
        OpenFileLimit::raise()?;
        let targets = OpenedTargets::open(&settings.targets, settings.only_processes)?;
        let can_capture = !matches!(targets, OpenedTargets::Cgroups(_));
        if settings.is_capture_typed && !can_capture {
            return Err(notes::no_capture_of_cgroups());
        }
        let owner = rights::caller()?;
        let capture = settings.capture.clone().filter(|_| can_capture);
        // SAFETY: the threads that have opened the targets were joined.
        let capture = capture.map(|options| unsafe { OpenedCapture::open(options, &owner) }).transpose()?;
        let output = settings.session.output.as_deref();
        let output = output.map(|path| Output::create(path, (owner.uid, owner.gid))).transpose()?;
        let record = Some(RecordingPlan::make(&settings.session, &owner)?);
        let exports = Exports::open(&settings.session, &owner)?;
        Ok((Self { settings, user: owner.name, output, record, exports, capture }, targets))
    }

    /// The command line, by which reports and lists name the session.
    fn command(&self) -> Vec<String> {
        [&["netwatch".to_owned(), "attach".to_owned()], self.settings.words.as_slice()].concat()
    }
}

/// Meters the targets and prints the report.
pub(super) fn attach(settings: AttachSettings) -> Exit {
    match AttachPlan::make(settings) {
        Ok((plan, targets)) => signals::held(Exit::Error, |_, signals| in_run_dir(plan, targets, signals)),
        Err(error) => {
            print_error(&error);
            Exit::Error
        }
    }
}

/// Makes the run directory, by which other processes find the session.
fn in_run_dir(plan: AttachPlan, targets: OpenedTargets, signals: &HeldSignals) -> Result<Exit> {
    let run_dir = new_run_dir(signals)?;
    if let Err(error) = confine::worker() {
        print_error(&error);
    }
    let exit = detach_stderr().and_then(|()| in_runtime(plan, targets, &run_dir, signals));
    undo(&run_dir);
    exit
}

fn in_runtime(plan: AttachPlan, targets: OpenedTargets, run_dir: &RunDir, signals: &HeldSignals) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::os("start", "the event loop", error))?;
    runtime.block_on(async {
        let signals = signals.listen()?;
        meter(plan, targets, run_dir, &signals).await
    })
}

async fn meter(plan: AttachPlan, targets: OpenedTargets, run_dir: &RunDir, signals: &SignalStream<'_>) -> Result<Exit> {
    let show = Show::for_session(&plan.settings.session);
    let only_processes = plan.settings.only_processes;
    let hooks = if only_processes { Hooks::Processes } else { targets.hooks() };
    let config = KernelMeterConfig { hooks, ..session::meter_config(&plan.settings.session) };
    let loading = PendingWork::start("load", move || KernelMeter::load(&config))?;
    let what = ProcessTracerConfig { cmdline: !plan.settings.session.no_cmdline, failed_calls: false };
    let (traced, cgroup) = targets.traced(only_processes);
    let has_local_sockets = HasLocalSockets(traced == TracedProcesses::Target);
    let processes = TracerLoading::start(what, cgroup.as_deref(), has_local_sockets)?;
    let meter = signals.unless_stopped(loading.finish()).await???;
    let netns = targets.cookies()?;
    let targets = targets.share(&meter, only_processes)?;
    let read = targets.clone();
    let read_counters = Box::new(move || Ok(follow::lock(&read).counters_so_far()));
    let mut notes = Vec::new();
    // Before the existing sockets are listed, so that none is missed.
    let (tracer, _attribution) = signals.unless_stopped(processes.finish(&mut notes)).await?;
    let cmdline = !plan.settings.session.no_cmdline;
    let meter = LiveMeter::new(meter, tracer, cmdline, read_counters)?;
    // Without the programs, at least the processes of existing sockets are known.
    let config = session::config(&plan.settings.session, Attribution::On, netns, traced);
    let mut session = Session::new(scope(&plan, run_dir), config);
    notes.into_iter().for_each(|note| session.note(note));
    let thresholds = ThresholdWatch::new(&plan.settings.session);
    let interim = InterimPrinter::new(show);
    let metering = Metering::start(MeteringSpec { meter, session, interim, usage: None, soak: None, thresholds })?;
    let mut attached = AttachedSession::begin(plan, metering, targets, run_dir)?;
    let report = match attached.run(signals).await {
        Ok(report) => report,
        Err(error) => {
            // Consumers contain everything up to the failure.
            attached.metering.finish(signals).await?;
            return Err(error);
        }
    };
    let AttachedSession { mut plan, metering, .. } = attached;
    let exit = match report {
        Some(report) => {
            let output = plan.output.take();
            let result = SessionResult { report, fail_reasons: metering.fail_reasons() };
            publish(&result, (&plan.settings.session, show), output, Exit::Success, signals.held())
        }
        None => Ok(Exit::Success),
    };
    metering.finish(signals).await?;
    exit
}

fn card(plan: &AttachPlan, run_dir: &RunDir, interface: String) -> RunCard {
    RunCard {
        id: run_dir.id().clone(),
        pid: std::process::id().cast_signed(),
        guardian: None,
        command: plan.command(),
        user: plan.user.clone(),
        started_ns: unix_now_ns(),
        interface,
        netns: None,
    }
}

fn scope(plan: &AttachPlan, run_dir: &RunDir) -> IsolatedScope {
    let run = Run {
        id: run_dir.id().to_string(),
        command: plan.command(),
        user: plan.user.clone(),
        kernel: session::kernel_release(),
        netwatch: env!("CARGO_PKG_VERSION").to_owned(),
        ..Run::default()
    };
    IsolatedScope { run, interface: Interface::default(), dns: DnsForwarder::default() }
}

/// A session that meters.
struct AttachedSession<'r> {
    plan: AttachPlan,
    metering: Metering,
    targets: SharedTargets,
    run_dir: &'r RunDir,
    started_ns: u64,
    _readers: Option<SessionReaders>,
    capture: Option<RunningCapture>,
    /// Those of the capture, if there is one.
    captured: Option<CaptureInterfaces>,
    tails: Tails,
}

impl<'r> AttachedSession<'r> {
    fn begin(plan: AttachPlan, metering: Metering, targets: SharedTargets, run_dir: &'r RunDir) -> Result<Self> {
        let captured = TailCapture::without_keys(facts(&plan, run_dir), no_keys);
        if plan.settings.capture.is_some() && plan.capture.is_none() {
            metering.note(notes::VARIABLES_WITHOUT_EFFECT.to_owned());
        }
        let (tails, outcome) = Tails::start(run_dir.path(), &rights::caller()?, captured);
        outcome.err().into_iter().for_each(|error| metering.note(error.to_string()));
        let readers = session::serve_readers(run_dir, &metering);
        readers.as_ref().err().into_iter().for_each(|error| metering.note(error.to_string()));
        let started_ns = unix_now_ns();
        metering.begin(started_ns);
        let _readers = readers.ok();
        let (capture, captured) = (None, None);
        Ok(Self { plan, metering, targets, run_dir, started_ns, _readers, capture, captured, tails })
    }

    /// Attaches, meters until something ends the session, and detaches. `None` if a signal ended
    /// the making of the report.
    async fn run(&mut self, signals: &SignalStream<'_>) -> Result<Option<Arc<Report>>> {
        let (record, exports) = (self.plan.record.take(), std::mem::take(&mut self.plan.exports));
        let mut consumers = Consumers::new(&self.plan.settings.session, record, exports);
        let started = self.start_capture(signals).await?;
        let mut follower = Follower::start(self.targets.clone(), self.metering.notes())?;
        let names = signals.unless_stopped(follower.attached()).await??;
        let interface = follow::lock(&self.targets).interface();
        self.run_dir.write_card(&card(&self.plan, self.run_dir, interface.name.clone()))?;
        self.metering.set_interface(interface);
        self.run_capture(started)?;
        self.add_existing_sockets(signals).await?;
        consumers.start(&mut self.metering, self.run_dir.id().as_str(), self.started_ns);
        let settings = &self.plan.settings;
        // The JSON of standard error is a document of its own.
        if !settings.session.quiet && (!settings.session.json || settings.session.output.is_some()) {
            print_message(&format!("attached to {}; Ctrl-C ends", escape(&names.to_string())));
        }
        let ended_by = self.until_end(&mut follower, signals).await?;
        signals.held().repeats_until();
        let Some(detached) = unless_ended(signals, follower.finish()).await else { return Ok(None) };
        detached.err().into_iter().for_each(|error| self.metering.note(error.to_string()));
        self.conclude(ended_by, signals).await
    }

    /// Loads the programs of the capture that was requested: they are attached with the classifier.
    async fn start_capture(&mut self, signals: &SignalStream<'_>) -> Result<Option<StartedCapture>> {
        let Some(opened) = &self.plan.capture else { return Ok(None) };
        let (request, expression) = opened.request();
        let mut host = CapturedTargets(self.targets.clone());
        signals.unless_stopped(host.start_capture(request, expression)).await?.map(Some)
    }

    /// Starts to read the packets, which have waited in the buffer.
    fn run_capture(&mut self, started: Option<StartedCapture>) -> Result<()> {
        if let (Some(opened), Some(started)) = (self.plan.capture.take(), started) {
            let facts = facts(&self.plan, self.run_dir);
            self.captured = Some(started.interfaces.clone());
            self.capture = Some(opened.run(started, facts, None, &self.metering)?);
        }
        Ok(())
    }

    /// Passes the sockets that exist already, and their processes, to the session.
    async fn add_existing_sockets(&self, signals: &SignalStream<'_>) -> Result<()> {
        let (targets, started_ns) = (self.targets.clone(), self.started_ns);
        let found = in_thread("sockets", move || {
            // Unlocked before the files of all processes are listed.
            let sockets = follow::lock(&targets).sockets()?;
            Ok(seed::existing(&sockets, started_ns))
        });
        match signals.unless_stopped(found).await? {
            Ok(Ok((found, elsewhere))) => {
                notes::sockets_elsewhere(elsewhere).into_iter().for_each(|note| self.metering.note(note));
                self.metering.add_found(found).await?;
            }
            Ok(Err(error)) | Err(error) => self.metering.note(error.to_string()),
        }
        Ok(())
    }

    /// Creates the report from what was counted until everything was detached.
    async fn conclude(&mut self, ended_by: EndedBy, signals: &SignalStream<'_>) -> Result<Option<Arc<Report>>> {
        let duration = Duration::from_nanos(unix_now_ns().saturating_sub(self.started_ns));
        capture::drain(&mut self.capture, &self.metering, signals).await;
        if self.captured.take().is_some_and(|interfaces| interfaces.all().is_empty()) {
            self.metering.note(notes::NOTHING_CAPTURED.to_owned());
        }
        self.tails.finish().await;
        let summary = follow::lock(&self.targets).summary();
        summary.notes.into_iter().for_each(|note| self.metering.note(note));
        self.metering.set_interface(summary.interface);
        let settings = &self.plan.settings.session;
        let conclusion = Conclusion {
            privileged_ports: Vec::new(),
            duration,
            exit: ExitStatus::Code(0),
            ended_by,
            usage: None,
            counters: summary.counters,
        };
        let report = self.metering.conclude(conclusion);
        let Some(report) = unless_ended(signals, report).await.transpose()? else { return Ok(None) };
        let report = if settings.resolve { resolved(&self.metering, report, signals).await? } else { report };
        self.metering.finish_consumers();
        capture::finish(self.capture.take(), report.clone(), signals).await;
        Ok(Some(report))
    }

    /// Waits for what ends the session: a signal, the time, or the target. Returns what it was.
    async fn until_end(&mut self, follower: &mut Follower, signals: &SignalStream<'_>) -> Result<EndedBy> {
        let deadline = Instant::now() + self.plan.settings.duration.unwrap_or(NO_DEADLINE);
        let mut host = CapturedTargets(self.targets.clone());
        loop {
            tokio::select! {
                action = signals.next() => match action? {
                    SignalAction::Nothing | SignalAction::Stop => {}
                    SignalAction::Interim => self.metering.print_interim(),
                    SignalAction::FromTerminal(signal) | SignalAction::Forward(signal) => {
                        return Ok(EndedBy::Signal(signal as i32));
                    }
                },
                () = sleep_until(deadline) => return Ok(EndedBy::Duration),
                ended = follower.ended() => return ended.map(|()| EndedBy::Command),
                () = capture::ended(&mut self.capture) => host.stop_capture(capture::OWN_SLOT).await?,
                event = self.tails.event() => self.tails.handle(event, &self.metering, &mut host).await?,
                error = self.metering.panicked() => return Err(error),
            }
        }
    }
}

/// What each file of a capture states.
fn facts(plan: &AttachPlan, run_dir: &RunDir) -> CaptureFacts {
    let command = escape(&plan.command().join(" ")).into_owned();
    let comment = format!("command: {command}\nuser: {}\nrun: {}", plan.user, run_dir.id());
    CaptureFacts { comment, ..own_facts() }
}

fn no_keys() -> Error {
    Error::other("write keys of", "the session", "a target that runs already writes none for netwatch")
        .hint("--keylog is for sessions of `netwatch run`")
}
