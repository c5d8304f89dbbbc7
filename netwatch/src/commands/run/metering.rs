//! The metering thread of a run: owns the meter, the session and the feeds of all consumers. The
//! control loop sends it commands and never waits for it, so signals, timers and the guardian are
//! handled while this thread drains a large table or creates a report.

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

/// Time between drains. The table of the kernel must not become full in between.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of events in a batch. Creating so many records takes about 15 ms.
const MAX_BATCH_EVENTS: usize = 32_768;
/// Additional time between two deliveries of flows that grew, for each of these flows. It keeps the
/// cost of many busy flows at a few percent of a core.
const GROWTH_INTERVAL_EACH: Duration = Duration::from_micros(60);
/// Time that a consumer has to process all remaining events at the end of the run.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);
/// Unused code pages are released after each of the first drains. After so many drains, all code
/// that a run uses regularly has run once.
const TRIMMED_DRAINS: u64 = 3;

/// Reads the counters of the link.
pub(super) type ReadCounters = Box<dyn FnMut() -> Result<Option<InterfaceCounters>> + Send>;

/// What the metering thread needs to start.
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
    /// Start the session.
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
    /// A consumer can take more events.
    HasRoom,
    /// The run failed: stop without a report.
    Stop,
}

/// Whether a run fails if the consumer fails. If not, the failure becomes a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsRequired(pub bool);

/// A consumer that is finishing.
#[derive(Debug)]
pub(super) struct Finishing {
    closing: Closing,
    failure: Option<Error>,
    is_required: IsRequired,
}

impl Finishing {
    /// Waits until the consumer is finished. Returns the error of a required consumer and prints
    /// that of any other.
    pub(super) fn wait(self) -> Result<()> {
        let closed = self.closing.wait(FINISH_TIMEOUT);
        match (self.failure, closed) {
            (Some(error), _) | (None, Err(error)) if self.is_required.0 => Err(error),
            (None, Err(error)) => {
                crate::terminal::print_error(&error);
                Ok(())
            }
            // The failure of an optional consumer is already a note of the report.
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
    /// Starts the metering thread.
    pub(super) fn start(spec: MeteringSpec) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let metering = MeteringThread::new(spec, commands.clone());
        let thread = thread::Builder::new().name("meter".into()).spawn(move || metering.run(&receiver));
        let thread = thread.map_err(|error| Error::os("start thread", "meter", error))?;
        Ok(Self { commands, thread })
    }

    fn send(&self, command: MeteringCommand) {
        // Fails only if the thread panicked, and then `join` returns an error.
        let _ = self.commands.send(command);
    }

    /// Starts the session.
    pub(super) fn begin(&self, started_ns: u64, started: Instant) {
        self.send(MeteringCommand::Start { started_ns, started });
    }

    /// Starts a consumer.
    pub(super) fn attach(&self, consumer: impl Consumer, is_required: IsRequired) {
        let start = |commands: Sender<MeteringCommand>| {
            Feed::start(consumer, move || {
                // Fails only at the end of the run, when no events are left.
                let _ = commands.send(MeteringCommand::HasRoom);
            })
        };
        self.send(MeteringCommand::Attach(Box::new(start), is_required));
    }

    /// Adds a note to the report.
    pub(super) fn note(&self, note: String) {
        self.send(MeteringCommand::Note(note));
    }

    /// Sets the resolvers of the host after a change.
    pub(super) fn set_resolvers(&self, resolvers: Vec<std::net::SocketAddr>) {
        self.send(MeteringCommand::SetResolvers(resolvers));
    }

    /// Prints an interim report.
    pub(super) fn print_interim(&self) {
        self.send(MeteringCommand::PrintInterim);
    }

    /// A function that creates snapshots from any thread. It returns `None` when the run has ended.
    pub(super) fn snapshots(&self) -> impl Fn() -> Option<Snapshot> + Clone + Send + 'static {
        let commands = self.commands.clone();
        move || {
            let (reply, snapshot) = mpsc::channel();
            commands.send(MeteringCommand::Snapshot(reply)).ok()?;
            snapshot.recv().ok()
        }
    }

    /// Drains everything and creates the final report. Called when no packet can move any more.
    pub(super) async fn conclude(&self, conclusion: Conclusion) -> Result<Arc<Report>> {
        let (reply, report) = oneshot::channel();
        self.send(MeteringCommand::Conclude(conclusion, reply));
        report.await.map_err(|_| Error::other("make", "the report", "the metering thread panicked"))
    }

    /// Waits until the thread has delivered all events. Returns the consumers, which may still be
    /// working on them.
    pub(super) fn join(self) -> Result<Vec<Finishing>> {
        // Has no effect on a thread that has already concluded the run.
        self.send(MeteringCommand::Stop);
        self.thread.join().map_err(|_| Error::other("finish", "the run", "the metering thread panicked"))
    }
}

/// An attached consumer.
struct Attached {
    outlet: OutletId,
    feed: Feed,
    is_required: IsRequired,
    failure: Option<Error>,
    /// When flows that grew are delivered again.
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

    /// Runs until the run is concluded or the control loop ends.
    fn run(mut self, commands: &Receiver<MeteringCommand>) -> Vec<Finishing> {
        let mut next_poll = Instant::now();
        loop {
            match commands.recv_timeout(next_poll.saturating_duration_since(Instant::now())) {
                Ok(MeteringCommand::Conclude(conclusion, reply)) => {
                    let report = self.conclude(conclusion);
                    // Fails only if the run failed at the same time.
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
                // Fails if the reader has disconnected.
                let _ = reply.send(Snapshot { report, series: self.session.series().clone() });
            }
            MeteringCommand::HasRoom => self.deliver(),
            // Handled by `run`.
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

    /// Polls observations, and drains the counters if the interval has passed.
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

    /// Adds an error that costs only details to the notes. Repeated errors are noted once.
    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.session.note(error.to_string());
        }
    }

    /// Drains once. A failure is noted only, because the next drain also reads what this one
    /// missed.
    fn drain_noted(&mut self) {
        self.poll();
        let drained = self.drain(&mut DrainProgress::default());
        self.note(drained);
        let losses = self.meter.losses().map(|losses| self.session.set_losses(losses));
        self.note(losses);
    }

    /// Drains in parts and polls the rings between them. With many flows, a ring would overflow
    /// during a whole drain.
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

    /// Delivers pending events to the consumers that have room.
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

    /// Creates the final report. If the drain fails, the error becomes a note and the balance shows
    /// the missing packets.
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

    /// Delivers all pending events and the end of the session.
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
            // After any command, a consumer may have room.
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
