//! The metering thread of a run: it owns the meter, the session and the feeds of all consumers. The
//! control loop only sends it commands, so signals, timers and the guardian are served while it
//! drains a large table or makes a report.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::interim::InterimPrinter;
use super::trim;
use crate::commands::snapshot::Snapshot;
use crate::consumer::{Closing, Consumer, Feed};
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::flow::InterfaceCounters;
use crate::meter::{DrainProgress, LiveMeter, Meter};
use crate::report::{EndedBy, ExitStatus, Report};
use crate::session::{GrowthTiming, IsolatedScope, OutletId, Session};

/// Counters are drained this often, so that the table of the kernel keeps room.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Events of one batch: making so many records takes some 15 ms.
const MAX_BATCH_EVENTS: usize = 32_768;
/// Records of flows that only carried more packets are delivered once per interval, and later by
/// as much for each of them, so that many busy flows take few percent of a core.
const GROWTH_INTERVAL_EACH: Duration = Duration::from_micros(60);
/// How long a consumer may take for everything that waits when the run is over.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);
/// After so many drains, all code that a run needs regularly has been used once.
const TRIMMED_DRAINS: u64 = 3;

/// Reads the counters of the link.
pub(super) type ReadCounters = Box<dyn FnMut() -> Result<Option<InterfaceCounters>> + Send>;

/// What the metering thread begins with.
pub(super) struct MeteringSpec {
    pub meter: LiveMeter,
    pub session: Session<IsolatedScope>,
    pub read_counters: ReadCounters,
    pub interim: InterimPrinter,
}

/// How a run ended, as far as its report states it.
#[derive(Debug)]
pub(super) struct Conclusion {
    pub duration: Duration,
    pub exit: ExitStatus,
    pub ended_by: EndedBy,
    pub counters: Option<InterfaceCounters>,
    /// `--resolve`.
    pub resolve: bool,
}

enum MeteringCommand {
    /// The command runs: the session starts.
    Start {
        started_ns: u64,
        started: Instant,
    },
    Attach(Box<dyn FnOnce(Sender<MeteringCommand>) -> Result<Feed> + Send>, IsRequired),
    Note(String),
    SetResolvers(Vec<std::net::SocketAddr>),
    PrintInterim,
    Snapshot(Sender<Snapshot>),
    Conclude(Conclusion, oneshot::Sender<Arc<Report>>),
    /// A consumer has room for more events.
    HasRoom,
    /// The run was abandoned.
    Stop,
}

/// Whether a run fails when a consumer does; otherwise its failure is a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsRequired(pub bool);

/// What became of a consumer.
#[derive(Debug)]
pub(super) struct Finishing {
    closing: Closing,
    failure: Option<Error>,
    is_required: IsRequired,
}

impl Finishing {
    /// Waits until everything is written. An error only where the consumer was asked for;
    /// otherwise it is printed.
    pub(super) fn wait(self) -> Result<()> {
        let closed = self.closing.wait(FINISH_TIMEOUT);
        match (self.failure, closed) {
            (Some(error), _) | (None, Err(error)) if self.is_required.0 => Err(error),
            (None, Err(error)) => {
                crate::terminal::print_error(&error);
                Ok(())
            }
            // A note of the report states it.
            _ => Ok(()),
        }
    }
}

/// The control loop's side of the metering thread.
pub(super) struct Metering {
    commands: Sender<MeteringCommand>,
    thread: JoinHandle<Vec<Finishing>>,
}

impl Metering {
    /// Starts the thread.
    pub(super) fn start(spec: MeteringSpec) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let metering = MeteringThread::new(spec, commands.clone());
        let thread = thread::Builder::new().name("meter".into()).spawn(move || metering.run(&receiver));
        let thread = thread.map_err(|error| Error::os("start thread", "meter", error))?;
        Ok(Self { commands, thread })
    }

    fn send(&self, command: MeteringCommand) {
        // Fails only if the thread panicked, which joining it reports.
        let _ = self.commands.send(command);
    }

    /// The command runs from now on.
    pub(super) fn begin(&self, started_ns: u64, started: Instant) {
        self.send(MeteringCommand::Start { started_ns, started });
    }

    /// Starts a consumer.
    pub(super) fn attach(&self, consumer: impl Consumer, is_required: IsRequired) {
        let start = |commands: Sender<MeteringCommand>| {
            Feed::start(consumer, move || {
                // Fails only at the end of the run, when nothing waits any more.
                let _ = commands.send(MeteringCommand::HasRoom);
            })
        };
        self.send(MeteringCommand::Attach(Box::new(start), is_required));
    }

    /// Adds a sentence to the report.
    pub(super) fn note(&self, note: String) {
        self.send(MeteringCommand::Note(note));
    }

    /// The host's resolvers changed.
    pub(super) fn set_resolvers(&self, resolvers: Vec<std::net::SocketAddr>) {
        self.send(MeteringCommand::SetResolvers(resolvers));
    }

    /// Prints an interim report.
    pub(super) fn print_interim(&self) {
        self.send(MeteringCommand::PrintInterim);
    }

    /// Makes snapshots from any thread; none when the run is over.
    pub(super) fn snapshots(&self) -> impl Fn() -> Option<Snapshot> + Clone + Send + 'static {
        let commands = self.commands.clone();
        move || {
            let (reply, snapshot) = mpsc::channel();
            commands.send(MeteringCommand::Snapshot(reply)).ok()?;
            snapshot.recv().ok()
        }
    }

    /// Nothing moves any more: drains everything, and makes the final report.
    pub(super) async fn conclude(&self, conclusion: Conclusion) -> Result<Arc<Report>> {
        let (reply, report) = oneshot::channel();
        self.send(MeteringCommand::Conclude(conclusion, reply));
        report.await.map_err(|_| Error::other("make", "the report", "the metering thread panicked"))
    }

    /// Waits until the thread has delivered everything; the consumers, which are finishing.
    pub(super) fn join(self) -> Result<Vec<Finishing>> {
        // Has no effect on a thread that has concluded the run.
        self.send(MeteringCommand::Stop);
        self.thread.join().map_err(|_| Error::other("finish", "the run", "the metering thread panicked"))
    }
}

/// A consumer and its place in the session.
struct Attached {
    outlet: OutletId,
    feed: Feed,
    is_required: IsRequired,
    failure: Option<Error>,
    /// When flows that only carried more packets are delivered again.
    next_growth: Instant,
}

struct MeteringThread {
    meter: LiveMeter,
    session: Session<IsolatedScope>,
    read_counters: ReadCounters,
    interim: Option<InterimPrinter>,
    commands: Sender<MeteringCommand>,
    attached: Vec<Attached>,
    started: Instant,
    next_drain: Instant,
    drains: u64,
}

impl MeteringThread {
    fn new(spec: MeteringSpec, commands: Sender<MeteringCommand>) -> Self {
        let MeteringSpec { meter, session, read_counters, interim } = spec;
        let interim = Some(interim);
        let now = Instant::now();
        let next_drain = now + DRAIN_INTERVAL;
        let attached = Vec::new();
        Self { meter, session, read_counters, interim, commands, attached, started: now, next_drain, drains: 0 }
    }

    /// Until the run is concluded, or the control loop is gone.
    fn run(mut self, commands: &Receiver<MeteringCommand>) -> Vec<Finishing> {
        let mut next_poll = Instant::now();
        loop {
            match commands.recv_timeout(next_poll.saturating_duration_since(Instant::now())) {
                Ok(MeteringCommand::Conclude(conclusion, reply)) => {
                    let report = self.conclude(conclusion);
                    // Fails only if the run was abandoned meanwhile.
                    let _ = reply.send(report.clone());
                    self.finish(report, commands);
                    return self.close();
                }
                Ok(MeteringCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return self.close(),
                Ok(command) => self.execute(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_poll {
                self.tick();
                next_poll = Instant::now() + self.meter.next_poll();
            }
        }
    }

    fn execute(&mut self, command: MeteringCommand) {
        match command {
            MeteringCommand::Start { started_ns, started } => {
                self.started = started;
                self.session.start(started_ns);
            }
            MeteringCommand::Attach(start, is_required) => self.attach(start, is_required),
            MeteringCommand::Note(note) => self.session.note(note),
            MeteringCommand::SetResolvers(resolvers) => self.session.scope.dns.resolvers = resolvers,
            MeteringCommand::PrintInterim => self.interim(),
            MeteringCommand::Snapshot(reply) => {
                self.drain_noted();
                let counters = (self.read_counters)().unwrap_or_default();
                let report = Arc::new(self.session.report(self.duration_ns(), counters));
                // The reader may have gone.
                let _ = reply.send(Snapshot { report, series: self.session.series().clone() });
            }
            MeteringCommand::HasRoom => self.deliver(),
            // `run` returns at these.
            MeteringCommand::Conclude(..) | MeteringCommand::Stop => {}
        }
    }

    fn attach(
        &mut self,
        start: Box<dyn FnOnce(Sender<MeteringCommand>) -> Result<Feed> + Send>,
        is_required: IsRequired,
    ) {
        match start(self.commands.clone()) {
            Ok(feed) => {
                let outlet = self.session.attach(feed.wants());
                let next_growth = Instant::now();
                self.attached.push(Attached { outlet, feed, is_required, failure: None, next_growth });
            }
            Err(error) => self.session.note(error.to_string()),
        }
    }

    fn duration_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Observations are polled at each tick, and counters drained once per interval.
    fn tick(&mut self) {
        self.poll();
        let now = Instant::now();
        if now < self.next_drain {
            return;
        }
        self.next_drain = now + DRAIN_INTERVAL;
        self.drain_noted();
        self.session.end_interval(self.duration_ns());
        self.deliver();
        self.drains += 1;
        if self.drains <= TRIMMED_DRAINS {
            trim::release_code();
        }
    }

    fn poll(&mut self) {
        let session = &mut self.session;
        let polled = self.meter.poll(&mut |observed| session.observe(observed));
        self.note(polled);
    }

    /// Notes an error that costs detail, once however often it occurs.
    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.session.note(error.to_string());
        }
    }

    /// Drains once. What fails now is tried again at the next drain, and the last one decides.
    fn drain_noted(&mut self) {
        self.poll();
        let drained = self.drain(&mut DrainProgress::default());
        self.note(drained);
        let losses = self.meter.losses().map(|losses| self.session.set_losses(losses));
        self.note(losses);
    }

    /// Drains in parts. The rings are polled between them: with many flows the whole takes longer
    /// than a ring holds what arrives meanwhile.
    fn drain(&mut self, progress: &mut DrainProgress) -> Result<()> {
        loop {
            let session = &mut self.session;
            if !self.meter.drain_part(progress, &mut |increment| session.apply(increment))? {
                return Ok(());
            }
            self.poll();
        }
    }

    fn interim(&mut self) {
        self.drain_noted();
        let report = (self.read_counters)().map(|counters| self.session.report(self.duration_ns(), counters));
        if let Some(interim) = &mut self.interim {
            interim.print(report);
        }
    }

    /// Delivers what waits, as far as consumers have room.
    fn deliver(&mut self) {
        self.note_failures();
        for attached in self.attached.iter_mut().filter(|attached| attached.failure.is_none()) {
            attached.deliver(&mut self.session);
        }
    }

    fn note_failures(&mut self) {
        for attached in self.attached.iter_mut().filter(|attached| attached.feed.has_failed()) {
            if let Some(error) = attached.feed.take_failure() {
                self.session.detach(attached.outlet);
                self.session.note(format!("the run is not recorded: {error}"));
                attached.failure = Some(error);
            }
        }
    }

    /// What cannot be drained now is noted, and the balance shows what is missing: no reason to lose
    /// the report.
    fn conclude(&mut self, conclusion: Conclusion) -> Arc<Report> {
        let Conclusion { duration, exit, ended_by, counters, resolve } = conclusion;
        let mut progress = DrainProgress::last();
        self.poll();
        let drained = self.drain(&mut progress).or_else(|failed| {
            self.session.note(failed.to_string());
            self.drain(&mut progress)
        });
        self.note(drained);
        let losses = self.meter.losses().map(|losses| self.session.set_losses(losses));
        self.note(losses);
        self.note_failures();
        if let Some(dropped) = self.interim.take().and_then(InterimPrinter::finish) {
            self.session.note(dropped);
        }
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut report = self.session.conclude(duration_ns, Some((exit, ended_by)), counters);
        if resolve && report.unnamed_addresses().next().is_some() {
            self.session.resolve(reverse::names(report.unnamed_addresses()));
            report = self.session.final_report();
        }
        self.meter.release_namespace();
        Arc::new(report)
    }

    /// Delivers everything that waits, and the end.
    fn finish(&mut self, report: Arc<Report>, commands: &Receiver<MeteringCommand>) {
        self.session.finish(report);
        let deadline = Instant::now() + FINISH_TIMEOUT;
        loop {
            for attached in &mut self.attached {
                attached.next_growth = Instant::now();
            }
            self.deliver();
            let waits = |attached: &Attached| attached.failure.is_none() && !self.session.is_delivered(attached.outlet);
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.attached.iter().any(waits) || left.is_zero() {
                return;
            }
            // Any command means that there may be room.
            let _ = commands.recv_timeout(left);
        }
    }

    fn close(mut self) -> Vec<Finishing> {
        let session = &mut self.session;
        let close = |attached: Attached| Finishing {
            closing: attached.feed.close(session.take_missed(attached.outlet)),
            failure: attached.failure,
            is_required: attached.is_required,
        };
        self.attached.into_iter().map(close).collect()
    }
}

impl Attached {
    fn deliver(&mut self, session: &mut Session<IsolatedScope>) {
        while self.feed.has_room() {
            let now = Instant::now();
            let growth = if now >= self.next_growth { GrowthTiming::Now } else { GrowthTiming::Later };
            let events = session.deliver(self.outlet, MAX_BATCH_EVENTS, growth);
            if events.is_empty() {
                return;
            }
            if growth == GrowthTiming::Now {
                let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
                self.next_growth = now + GROWTH_INTERVAL_EACH * count;
            }
            self.feed.send(events);
        }
    }
}
