//! What the metering thread does: it polls and drains the meter, delivers the session's events to
//! the feeds, and executes the commands of the control loop.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::{Conclusion, ConsumerFailure, Finishing, MeteringCommand, MeteringSpec, OnFailure, StartFeed};
use crate::commands::run::interim::InterimPrinter;
use crate::commands::run::notes::{consumer_failed, privileged_port};
use crate::commands::run::soak::SoakWatch;
use crate::commands::run::thresholds::ThresholdWatch;
use crate::commands::run::trim;
use crate::consumer::{FINISH_TIMEOUT, Feed, StreamEnd};
use crate::error::{Error, Result};
use crate::flow::nanoseconds;
use crate::host::cgroup::UsageReader;
use crate::meter::{DrainProgress, LiveMeter, Meter, set_thread_priority, thread_cpu_ns, unix_now_ns};
use crate::packets::FlowQuery;
use crate::report::{Report, ResourceUsage};
use crate::session::{FlowIdentity, GrowthTiming, IsolatedScope, OutletId, Session};

/// Time between two deliveries to the consumers, and between drains. The table of the kernel must
/// not become full in between.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Time between drains at the beginning of a run, whose series has intervals of this length.
const FINE_INTERVAL: Duration = Duration::from_millis(100);
/// The beginning of a run: the series has finer intervals only of its last minute.
const FINE_TIME: Duration = Duration::from_secs(60);
/// Drains are less frequent when one takes more CPU time than this: 2 % of [`FINE_INTERVAL`].
const MAX_FINE_DRAIN_NS: u64 = 2_000_000;
/// Priority of the metering thread. All its work is caused by packets of the target: if it waited
/// for a CPU as long as the target does, more records would arrive than are kept.
const NICE: i32 = -5;
/// Maximum number of events in a batch. Creating so many records takes about 15 ms.
const MAX_BATCH_EVENTS: usize = 32_768;
/// Additional time between two deliveries of flows that grew, for each of these flows. It keeps the
/// cost of many busy flows at a few percent of a core.
const GROWTH_INTERVAL_EACH: Duration = Duration::from_micros(60);
/// Time that a viewer has to show the end of the run, as long as it makes progress.
const VIEWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Unused code pages are released after each of the first drains. After so many drains, all code
/// that a run uses regularly has run once.
const TRIMMED_DRAINS: u64 = 3;

/// An attached consumer.
struct Attached {
    outlet: OutletId,
    feed: Feed,
    on_failure: OnFailure,
    failure: Option<ConsumerFailure>,
    /// When flows that grew are delivered again.
    next_growth: Instant,
}

/// The metering thread.
pub(super) struct MeteringThread {
    meter: LiveMeter,
    session: Session<IsolatedScope>,
    usage: Option<UsageReader>,
    soak: Option<SoakWatch>,
    thresholds: ThresholdWatch,
    interim: Option<InterimPrinter>,
    commands: Sender<MeteringCommand>,
    attached: Vec<Attached>,
    /// Consumers of which the thread could not be started.
    not_started: Vec<Finishing>,
    /// The final report, when it exists.
    concluded: Option<Arc<Report>>,
    started_ns: u64,
    has_started: bool,
    next_drain: Instant,
    /// When the interval ends, and events are delivered.
    next_interval: Instant,
    drains: u64,
    requests: ReportRequests,
    /// Until when the end of the run waits for viewers; `None` before that.
    viewer_deadline: Option<Instant>,
}

/// Requests for a report of the run so far.
#[derive(Debug, Default)]
struct ReportRequests {
    print_interim: bool,
    /// As a file, with `--soak`.
    write_interim: bool,
    snapshots: Vec<Sender<Arc<Report>>>,
}

impl ReportRequests {
    fn is_empty(&self) -> bool {
        !self.print_interim && !self.write_interim && self.snapshots.is_empty()
    }
}

impl MeteringThread {
    pub(super) fn new(spec: MeteringSpec, commands: Sender<MeteringCommand>) -> Self {
        let MeteringSpec { meter, session, interim, usage, soak, thresholds } = spec;
        let interim = Some(interim);
        Self {
            meter,
            session,
            usage,
            soak,
            thresholds,
            interim,
            commands,
            attached: Vec::new(),
            not_started: Vec::new(),
            concluded: None,
            started_ns: unix_now_ns(),
            has_started: false,
            next_drain: Instant::now() + FINE_INTERVAL,
            next_interval: Instant::now() + DRAIN_INTERVAL,
            drains: 0,
            requests: ReportRequests::default(),
            viewer_deadline: None,
        }
    }

    /// Runs until the run is concluded or the control loop ends.
    pub(super) fn run(mut self, commands: &Receiver<MeteringCommand>) -> Vec<Finishing> {
        set_thread_priority(NICE);
        let mut next_poll = Instant::now();
        loop {
            let timeout = match self.requests.is_empty() {
                true if self.concluded.is_some() => FINISH_TIMEOUT,
                true => next_poll.saturating_duration_since(Instant::now()),
                // Only the commands that are already queued, before the requests are answered.
                false => Duration::ZERO,
            };
            match commands.recv_timeout(timeout) {
                Ok(MeteringCommand::Finish) => {
                    let deadline = Instant::now() + FINISH_TIMEOUT;
                    self.finish(deadline, commands);
                    return self.close(deadline);
                }
                Ok(command) => self.execute(command),
                // The thread has a sender of its own, so the channel is never disconnected.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.answer_requests(),
            }
            // After the end of the run there is nothing to read.
            if self.concluded.is_none() && Instant::now() >= next_poll {
                self.tick();
                next_poll = self.next_drain.min(Instant::now() + self.meter.next_poll());
            }
        }
    }

    fn execute(&mut self, command: MeteringCommand) {
        match command {
            MeteringCommand::Start { started_ns } => {
                self.started_ns = started_ns;
                self.has_started = true;
                self.session.start(started_ns);
            }
            MeteringCommand::Attach(start, on_failure) => self.attach(start, on_failure, false),
            MeteringCommand::AttachViewer(start) => self.attach(start, OnFailure::Note, true),
            MeteringCommand::Note(note) => self.session.note(note),
            MeteringCommand::SetResolvers(resolvers) => self.session.scope.dns.resolvers = resolvers,
            MeteringCommand::SetInterface(interface) => self.session.set_interface(interface),
            MeteringCommand::Found(found, reply) => {
                let session = &mut self.session;
                self.meter.deliver_found(found, &mut |observed| session.observe(observed));
                // Fails only if the control loop has given up.
                let _ = reply.send(());
            }
            MeteringCommand::PrintInterim => self.requests.print_interim = true,
            MeteringCommand::Snapshot(reply) => self.requests.snapshots.push(reply),
            MeteringCommand::Identify(flows, reply) => self.identify(flows, &reply),
            MeteringCommand::HasRoom => self.deliver(),
            // Fails only if the control loop has given up.
            MeteringCommand::Conclude(conclusion, reply) => _ = reply.send(self.conclude(conclusion)),
            MeteringCommand::Resolve(names, reply) => {
                self.session.resolve(names);
                let report = Arc::new(self.session.final_report());
                self.concluded = Some(report.clone());
                let _ = reply.send(report);
            }
            // Handled by `run`.
            MeteringCommand::Finish => {}
        }
    }

    /// Answers after a poll, because the records about these flows precede their packets.
    fn identify(&mut self, flows: Vec<FlowQuery>, reply: &Sender<Vec<FlowIdentity>>) {
        self.poll();
        let identities = flows.into_iter().map(|(key, way, ns, socket)| self.session.identify(key, way, ns, socket));
        // Fails if the capture no longer waits.
        let _ = reply.send(identities.collect());
    }

    fn attach(&mut self, start: StartFeed, on_failure: OnFailure, is_late: bool) {
        // The thread of the consumer takes over the priority of this one.
        set_thread_priority(0);
        let started = start(self.commands.clone());
        set_thread_priority(NICE);
        match started {
            Ok(feed) => {
                let outlet = match is_late {
                    true => self.session.attach_late(feed.wants()),
                    false => self.session.attach(feed.wants()),
                };
                let next_growth = Instant::now();
                self.attached.push(Attached { outlet, feed, on_failure, failure: None, next_growth });
            }
            // The viewer is disconnected. The report is complete without it.
            Err(_) if is_late => {}
            Err(error) => {
                self.session.note(error.to_string());
                on_failure.print(&error);
                let failure = Some(ConsumerFailure { error, is_reported: true });
                let (closing, is_essential, deadline) = (None, true, Instant::now());
                self.not_started.push(Finishing { closing, failure, on_failure, is_essential, deadline });
            }
        }
    }

    fn duration_ns(&self) -> u64 {
        unix_now_ns() - self.started_ns
    }

    /// From the start to now, nanoseconds since the Unix epoch.
    fn range_ns(&self) -> (u64, u64) {
        (self.started_ns, unix_now_ns())
    }

    /// Findings of `--soak`, as notes of a report.
    fn soak_notes(&mut self, is_final: bool) -> Vec<String> {
        let range_ns = self.range_ns();
        self.soak.as_mut().map_or_else(Vec::new, |soak| soak.notes(&self.session, range_ns, is_final))
    }

    /// Polls observations, and drains the counters if the interval has passed.
    fn tick(&mut self) {
        self.poll();
        let now = Instant::now();
        if now < self.next_drain {
            return;
        }
        let cpu_ns = thread_cpu_ns();
        self.drain_noted();
        let is_cheap = thread_cpu_ns() - cpu_ns <= MAX_FINE_DRAIN_NS;
        let is_step = now < self.next_interval;
        if !is_step {
            self.next_interval = now + DRAIN_INTERVAL;
        }
        self.read_usage(!is_step);
        let is_fine = is_cheap && self.duration_ns() < nanoseconds(FINE_TIME);
        self.next_drain = if is_fine { self.next_interval.min(now + FINE_INTERVAL) } else { self.next_interval };
        if is_step {
            self.session.end_step(self.duration_ns());
            return;
        }
        self.session.end_interval(self.duration_ns());
        if self.has_started {
            let duration_ns = self.duration_ns();
            self.thresholds.tick(&mut self.session, duration_ns);
        }
        let range_ns = self.range_ns();
        let is_due = |soak: &mut SoakWatch| soak.tick(&self.session, range_ns);
        self.requests.write_interim |= self.has_started && self.soak.as_mut().is_some_and(is_due);
        self.deliver();
        self.drains += 1;
        if self.drains <= TRIMMED_DRAINS {
            trim::release_code();
        }
    }

    /// Reads what the command uses. Memory without a controller is read process by process, and
    /// therefore less often.
    fn read_usage(&mut self, with_memory: bool) {
        let Some(reader) = self.usage.as_ref().filter(|_| self.has_started) else { return };
        let memory = if with_memory { reader.memory() } else { None };
        let usage = |(user_ns, system_ns)| ResourceUsage { user_ns, system_ns, memory_peak: None };
        self.session.set_usage(reader.cpu_ns().map(usage), memory);
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
        let began = Instant::now();
        let drained = self.drain(&mut DrainProgress::default());
        self.session.add_drain(nanoseconds(began.elapsed()));
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

    /// Creates one report for all pending requests: with many flows, a report takes so long that
    /// one for each request would delay polling.
    fn answer_requests(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let ReportRequests { print_interim, write_interim, snapshots } = std::mem::take(&mut self.requests);
        let (report, failed) = match &self.concluded {
            Some(report) => (report.clone(), None),
            None => self.report_so_far(),
        };
        if let Some(soak) = self.soak.as_mut().filter(|_| write_interim) {
            soak.write(report.clone(), unix_now_ns());
        }
        for reply in snapshots {
            // Fails if the reader has disconnected.
            let _ = reply.send(report.clone());
        }
        if let Some(interim) = self.interim.as_mut().filter(|_| print_interim) {
            interim.print(failed.map_or(Ok(report), Err));
        }
    }

    /// A report of the run so far, and the error if the counters of the interface cannot be read.
    fn report_so_far(&mut self) -> (Arc<Report>, Option<Error>) {
        self.drain_noted();
        let (counters, failed) = match self.meter.balance() {
            Ok(counters) => (counters, None),
            Err(error) => (None, Some(error)),
        };
        let duration_ns = self.duration_ns();
        self.read_usage(true);
        // The series has everything that the report has.
        self.session.end_step(duration_ns);
        let mut report = self.session.report(duration_ns, counters);
        report.notes.extend(self.soak_notes(false));
        self.poll();
        (Arc::new(report), failed)
    }

    /// Delivers pending events to the consumers that have room.
    fn deliver(&mut self) {
        self.note_failures();
        for attached in self.attached.iter_mut().filter(|attached| attached.failure.is_none()) {
            attached.deliver(&mut self.session);
        }
    }

    fn note_failures(&mut self) {
        self.remove_failed_viewers();
        // A viewer that disconnects only now is removed the next time.
        let has_failed = |attached: &&mut Attached| attached.feed.is_essential() && attached.feed.has_failed();
        for attached in self.attached.iter_mut().filter(has_failed) {
            if let Some(error) = attached.feed.take_failure() {
                self.session.detach(attached.outlet);
                let feed = &attached.feed;
                self.session.note(consumer_failed(feed.name(), feed.has_started(), &error));
                let is_printed = attached.on_failure.print(&error);
                let is_reported = is_printed || self.concluded.is_none();
                attached.failure = Some(ConsumerFailure { error, is_reported });
            }
        }
    }

    /// Removes viewers that have disconnected.
    fn remove_failed_viewers(&mut self) {
        let session = &mut self.session;
        self.attached.retain(|attached| {
            let is_over = attached.feed.has_failed() && !attached.feed.is_essential();
            if is_over {
                session.release(attached.outlet);
            }
            !is_over
        });
    }

    /// Creates the final report. If the drain fails, the error becomes a note and the balance shows
    /// the missing packets.
    fn conclude(&mut self, conclusion: Conclusion) -> Arc<Report> {
        let Conclusion { duration, exit, ended_by, usage, counters, privileged_ports } = conclusion;
        self.answer_requests();
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
        self.soak.as_mut().map(SoakWatch::finish);
        if let Some(dropped) = self.interim.take().and_then(InterimPrinter::finish) {
            self.session.note(dropped);
        }
        let counters = counters.map(|bounds| bounds.nearest(self.session.counted()));
        let discarded: Vec<String> = self.attached.iter().filter_map(|one| one.feed.report_discards()).collect();
        discarded.into_iter().for_each(|sentence| self.session.note(sentence));
        let unbound = privileged_ports.into_iter().find(|port| !self.session.was_bound(*port));
        unbound.into_iter().for_each(|port| self.session.note(privileged_port(port)));
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.session.set_usage(usage, None);
        let mut report = self.session.conclude(duration_ns, Some((exit, ended_by)), counters);
        let soak_notes = self.soak_notes(true);
        let crossed = self.thresholds.conclude(&mut self.session, &report);
        for reason in crossed.into_iter().chain(soak_notes) {
            // Also for the report that reverse lookups change.
            self.session.note(reason.clone());
            report.notes.push(reason);
        }
        let report = Arc::new(report);
        self.meter.release_namespace();
        self.concluded = Some(report.clone());
        report
    }

    /// The deadline of viewers: one for the last events and for showing them.
    fn viewer_deadline(&mut self) -> Instant {
        *self.viewer_deadline.get_or_insert_with(|| Instant::now() + VIEWER_TIMEOUT)
    }

    /// Delivers all pending events and the end of the session, until `deadline`. Without a final
    /// report there is no end.
    fn finish(&mut self, deadline: Instant, commands: &Receiver<MeteringCommand>) {
        let Some(report) = self.concluded.clone() else { return };
        self.session.finish(report);
        let viewer_deadline = self.viewer_deadline();
        loop {
            for attached in &mut self.attached {
                attached.next_growth = Instant::now();
            }
            self.deliver();
            let waits =
                |attached: &&Attached| attached.failure.is_none() && !self.session.is_delivered(attached.outlet);
            let until = |attached: &Attached| if attached.feed.is_essential() { deadline } else { viewer_deadline };
            let Some(until) = self.attached.iter().filter(waits).map(until).max() else { return };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // After any command, a consumer may have room.
            let _ = commands.recv_timeout(left);
        }
    }

    /// Closes all consumers. One that has not received everything by now reports that itself.
    fn close(mut self, deadline: Instant) -> Vec<Finishing> {
        let viewer_deadline = self.viewer_deadline();
        let session = &mut self.session;
        let close = |attached: Attached| {
            let end = match self.concluded.is_some() {
                true => StreamEnd::Concluded(Box::new(session.take_missed(attached.outlet))),
                false => StreamEnd::Abandoned,
            };
            let Attached { feed, failure, on_failure, .. } = attached;
            let deadline = if feed.is_essential() { deadline } else { viewer_deadline };
            let is_essential = feed.is_essential();
            Finishing { closing: Some(feed.close(end)), failure, on_failure, is_essential, deadline }
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
