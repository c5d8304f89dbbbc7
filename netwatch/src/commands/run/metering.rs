//! The metering thread of a run: owns the meter, the session and the feeds of all consumers. The
//! control loop sends it commands and never waits for it, so signals, timers and the guardian are
//! handled while this thread drains a large table or creates a report.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::interim::InterimPrinter;
use super::signals::SignalStream;
use super::trim;
use crate::commands::snapshot::Snapshot;
use crate::consumer::{Closing, Consumer, FINISH_TIMEOUT, Feed, StreamEnd};
use crate::dns::reverse;
use crate::error::{Error, Result};
use crate::flow::InterfaceCounters;
use crate::meter::{DrainProgress, LiveMeter, Meter};
use crate::report::{EndedBy, ExitStatus, Report};
use crate::session::{GrowthTiming, IsolatedScope, OutletId, Session};
use crate::terminal::print_error;

/// Time between drains. The table of the kernel must not become full in between.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of events in a batch. Creating so many records takes about 15 ms.
const MAX_BATCH_EVENTS: usize = 32_768;
/// Additional time between two deliveries of flows that grew, for each of these flows. It keeps the
/// cost of many busy flows at a few percent of a core.
const GROWTH_INTERVAL_EACH: Duration = Duration::from_micros(60);
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

/// Why a consumer failed.
#[derive(Debug)]
struct ConsumerFailure {
    error: Error,
    /// The report has a note about it.
    is_noted: bool,
}

/// A consumer that is finishing.
#[derive(Debug)]
struct Finishing {
    /// `None` if its thread could not be started.
    closing: Option<Closing>,
    failure: Option<ConsumerFailure>,
    is_required: IsRequired,
    deadline: Instant,
}

impl Finishing {
    /// Waits until the consumer is finished. Returns the error of a required consumer. Prints that
    /// of any other, unless it is already a note of the report.
    fn wait(self) -> Result<()> {
        let closed = self.closing.map_or(Ok(()), |closing| closing.wait(self.deadline));
        let failed_to_close = closed.err().map(|error| ConsumerFailure { error, is_noted: false });
        match self.failure.or(failed_to_close) {
            Some(failure) if self.is_required.0 => Err(failure.error),
            Some(ConsumerFailure { error, is_noted: false }) => {
                print_error(&error);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The control loop's side of the metering thread.
pub(super) struct Metering {
    commands: Sender<MeteringCommand>,
    thread: JoinHandle<Vec<Finishing>>,
    /// Closed when the thread ends, also by a panic.
    ended: oneshot::Receiver<()>,
    has_required: bool,
}

impl Metering {
    /// Starts the metering thread.
    pub(super) fn start(spec: MeteringSpec) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let metering = MeteringThread::new(spec, commands.clone());
        let (ends, ended) = oneshot::channel();
        let work = move || {
            let _ends: oneshot::Sender<()> = ends;
            metering.run(&receiver)
        };
        let thread = thread::Builder::new().name("meter".into()).spawn(work);
        let thread = thread.map_err(|error| Error::os("start thread", "meter", error))?;
        Ok(Self { commands, thread, ended, has_required: false })
    }

    fn send(&self, command: MeteringCommand) {
        // Fails only if the thread panicked, and then `join` returns an error.
        let _ = self.commands.send(command);
    }

    /// Pending until the thread panics. To be called before [`Metering::conclude`] only.
    pub(super) async fn panicked(&mut self) -> Error {
        // The sender sends nothing; it is dropped.
        let _ = (&mut self.ended).await;
        Error::other("meter", "the command", "the metering thread panicked")
    }

    /// Starts the session.
    pub(super) fn begin(&self, started_ns: u64, started: Instant) {
        self.send(MeteringCommand::Start { started_ns, started });
    }

    /// Starts a consumer.
    pub(super) fn attach(&mut self, consumer: impl Consumer, is_required: IsRequired) {
        self.has_required |= is_required.0;
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

    /// Waits until all consumers are finished. Returns the first failure of a required one. A
    /// signal ends the wait.
    pub(super) async fn finish(self, signals: &SignalStream<'_>) -> Result<()> {
        let (done, finished) = oneshot::channel();
        let has_required = self.has_required;
        // Fails only if a signal ended the wait.
        let wait = move || _ = done.send(self.wait_for_consumers());
        let thread = thread::Builder::new().name("finish".into()).spawn(wait);
        thread.map_err(|error| Error::os("start thread", "finish", error))?;
        tokio::select! {
            finished = finished => finished.unwrap_or_else(|_| Err(Error::other("finish", "the run", "a thread panicked"))),
            () = signals.interrupted_again() => {
                let why = "interrupted by a signal; the recording is incomplete";
                let error = Error::other("finish", "the run", why);
                if has_required {
                    return Err(error);
                }
                print_error(&error);
                Ok(())
            }
        }
    }

    fn wait_for_consumers(self) -> Result<()> {
        // Has no effect on a thread that has already concluded the run.
        self.send(MeteringCommand::Stop);
        let finishing = self.thread.join();
        let finishing = finishing.map_err(|_| Error::other("finish", "the run", "the metering thread panicked"))?;
        let waited: Vec<Result<()>> = finishing.into_iter().map(Finishing::wait).collect();
        waited.into_iter().collect()
    }
}

/// An attached consumer.
struct Attached {
    outlet: OutletId,
    feed: Feed,
    is_required: IsRequired,
    failure: Option<ConsumerFailure>,
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
    /// Consumers of which the thread could not be started.
    not_started: Vec<Finishing>,
    /// Set when the final report exists.
    is_concluded: bool,
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
        Self {
            meter,
            session,
            read_counters,
            interim,
            commands,
            attached: Vec::new(),
            not_started: Vec::new(),
            is_concluded: false,
            started: now,
            next_drain,
            drains: 0,
        }
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
                    let deadline = Instant::now() + FINISH_TIMEOUT;
                    self.finish(report, deadline, commands);
                    return self.close(deadline);
                }
                Ok(MeteringCommand::Stop) => return self.close(Instant::now() + FINISH_TIMEOUT),
                Ok(command) => self.execute(command),
                // The thread has a sender of its own, so the channel is never disconnected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
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
            Err(error) => {
                self.session.note(error.to_string());
                let failure = Some(ConsumerFailure { error, is_noted: true });
                self.not_started.push(Finishing { closing: None, failure, is_required, deadline: Instant::now() });
            }
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
                let name = attached.feed.name();
                self.session.note(match attached.feed.has_started() {
                    true => format!("the {name} is incomplete: {error}"),
                    false => format!("no {name}: {error}"),
                });
                attached.failure = Some(ConsumerFailure { error, is_noted: !self.is_concluded });
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
        self.is_concluded = true;
        Arc::new(report)
    }

    /// Delivers all pending events and the end of the session, until `deadline`.
    fn finish(&mut self, report: Arc<Report>, deadline: Instant, commands: &Receiver<MeteringCommand>) {
        self.session.finish(report);
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

    /// Closes all consumers. One that has not received everything by now reports that itself.
    fn close(mut self, deadline: Instant) -> Vec<Finishing> {
        let session = &mut self.session;
        let close = |attached: Attached| {
            let end = match self.is_concluded {
                true => StreamEnd::Concluded(Box::new(session.take_missed(attached.outlet))),
                false => StreamEnd::Abandoned,
            };
            let Attached { feed, failure, is_required, .. } = attached;
            Finishing { closing: Some(feed.close(end)), failure, is_required, deadline }
        };
        self.attached.into_iter().map(close).chain(self.not_started).collect()
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
