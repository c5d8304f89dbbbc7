//! Creates the events for a consumer, when it has room for them.

use std::sync::Arc;

use super::event::{
    Event, EventKinds, FlowRecord, IntervalTotals, ProcessRecord, SeriesTail, SessionLosses, SessionStatus,
};
use super::outlet::{GrowthTiming, Missed, Outlet, PendingInterval};
use super::{OutletId, Scope, ScopeFacts, Session};
use crate::flow::ObservationPoint;
use crate::process::{LocalCalls, PacketCoverage, ProcessNumber};
use crate::report::loss_reasons;

/// The kinds of events that are created at the end of an interval, if something changed.
const CALLS: EventKinds = EventKinds::ATTEMPTS.with(EventKinds::LOCAL_SOCKETS);
/// Kinds of events that the end of an interval causes.
pub(super) const OF_INTERVAL: EventKinds = EventKinds::INTERVAL.with(EventKinds::STATUS).with(CALLS);
/// Minimum time between two comparisons of all failed calls and local sockets, nanoseconds.
const CALLS_INTERVAL_NS: u64 = 1_000_000_000;
/// Added to it for each failed call and local socket, so that many are compared less often.
const CALLS_INTERVAL_EACH_NS: u64 = 200_000;

/// Attempts that failed before a packet was sent, when they were last counted.
#[derive(Debug, Default)]
pub(super) struct FailedCalls {
    count: u64,
    changes: Option<(u64, PacketCoverage)>,
    next_ns: u64,
}

/// The time until calls are compared again.
fn pause_ns(calls: &LocalCalls) -> u64 {
    let count = (calls.attempts.len() + calls.local_sockets.len()) as u64;
    CALLS_INTERVAL_NS.max(count * CALLS_INTERVAL_EACH_NS)
}

impl<S: Scope> Session<S> {
    /// Takes about `max` events for a consumer: first pending events, then the newest records of
    /// flows that changed. With [`GrowthTiming::Later`], flows that only grew are left for later.
    pub fn deliver(&mut self, outlet: OutletId, max: usize, growth: GrowthTiming) -> Vec<Event> {
        // Moved out of the session, because creating records borrows the session.
        let mut out = std::mem::replace(&mut self.outlets[outlet.0], Outlet::new(EventKinds::NONE));
        let mut events = Vec::new();
        while events.len() < max
            && let Some(event) = out.next_event()
        {
            if let Event::FlowOpened(record) | Event::FlowGrew(record) | Event::FlowEnded(record, _) = &event {
                self.introduce(&mut out, record, &mut events);
            }
            events.push(event);
        }
        self.deliver_flows(&mut out, max, growth, &mut events);
        self.deliver_lookups(&mut out, max, &mut events);
        if events.len() < max
            && let Some(pending) = out.take_interval()
        {
            self.deliver_calls(&mut out, &mut events);
            if out.wants.has(EventKinds::INTERVAL) {
                events.push(Event::Interval(Arc::new(self.interval_event(&mut out, pending))));
            }
            if out.wants.has(EventKinds::STATUS) {
                events.extend(self.status.map(Event::Status));
            }
        }
        if events.len() < max {
            events.extend(out.take_finished());
        }
        self.outlets[outlet.0] = out;
        events
    }

    fn deliver_flows(&self, out: &mut Outlet, max: usize, growth: GrowthTiming, events: &mut Vec<Event>) {
        while events.len() < max
            && let Some(delivery) = out.next_changed(growth)
        {
            let Some(record) = self.ledger.record(delivery.place).map(Arc::new) else { continue };
            self.introduce(out, &record, events);
            events.extend(delivery.events(&record));
        }
    }

    /// Adds the processes of a record that the consumer has not received, parents before children.
    fn introduce(&self, out: &mut Outlet, record: &FlowRecord, events: &mut Vec<Event>) {
        if !out.wants.has(EventKinds::USED_BY) {
            return;
        }
        for usage in &record.usages {
            self.introduce_process(out, usage.process, events);
        }
    }

    fn introduce_process(&self, out: &mut Outlet, number: ProcessNumber, events: &mut Vec<Event>) {
        let mut lineage = Vec::new();
        let mut next = Some(number);
        while let Some(number) = next.filter(|number| out.processes.insert(*number)) {
            let found = self.ledger.trace.process(number);
            let record = found.map(|(process, parent)| ProcessRecord { process, parent });
            next = record.as_ref().and_then(|record| record.parent);
            lineage.extend(record);
        }
        events.extend(lineage.into_iter().rev().map(|record| Event::UsedBy(Arc::new(record))));
    }

    fn deliver_lookups(&self, out: &mut Outlet, max: usize, events: &mut Vec<Event>) {
        let lookups = self.ledger.names.lookups();
        while events.len() < max
            && let Some(index) = out.lookups.pop_first()
        {
            if let Some(lookup) = lookups.get(index) {
                events.push(Event::DnsExchange(index as u64, Arc::new(lookup.clone())));
            }
        }
    }

    fn interval_event(&self, out: &mut Outlet, pending: PendingInterval) -> IntervalTotals {
        let table = &self.ledger.table;
        let ScopeFacts { run, interface, dns, .. } = self.scope.facts(&self.moment);
        let untracked = table.untracked();
        let is_new = std::mem::replace(&mut out.known.untracked, untracked) != untracked;
        let has_new_notes = std::mem::replace(&mut out.known.notes, self.notes.len()) != self.notes.len();
        IntervalTotals {
            end_ns: self.moment.now_ns(),
            run,
            interface,
            dns,
            series: self.series_from(pending.changed_from),
            totals: table.totals_by_sums(ObservationPoint::Link),
            loopback: table.totals_by_sums(ObservationPoint::Loopback),
            remainders: table.remainders(ObservationPoint::Link).clone(),
            untracked,
            untracked_endpoints: is_new.then(|| table.untracked_endpoints().collect()),
            attribution: self.attribution.clone(),
            activity: self.activity(),
            losses: self.losses(),
            notes: has_new_notes.then(|| self.notes.clone()),
            waiting: out.pending_flows() as u64,
            missed: out.missed.events + out.missed.flows.counts().flows,
            drains: self.drains,
        }
    }

    /// A few numbers of the session so far. Looks at every flow.
    pub(super) fn current_status(&mut self) -> SessionStatus {
        let failed_calls = self.failed_calls();
        let table = &self.ledger.table;
        let lost = self.losses().by_reason().into_iter().map(|(_, count)| count).sum();
        let (now_ns, flows) = (self.moment.now_ns(), table.activity(ObservationPoint::Link));
        let loopback = table.activity(ObservationPoint::Loopback);
        let failed_attempts = flows.failed + loopback.failed;
        SessionStatus {
            time_ns: now_ns,
            duration_ns: self.moment.duration_ns,
            flows,
            failures: failed_attempts + failed_calls + self.ledger.names.failed_lookups(now_ns),
            failed_for_good: flows.failed_for_good + loopback.failed_for_good,
            lookups_with_error: self.ledger.names.lookups_with_error(),
            totals: table.totals_by_sums(ObservationPoint::Link),
            lost,
            usage: self.timeline.usage(),
            memory: self.timeline.memory(),
        }
    }

    /// Attempts on remotes that failed before a packet was sent. Compared as rarely as for
    /// consumers.
    fn failed_calls(&mut self) -> u64 {
        let (now_ns, coverage) = (self.moment.now_ns(), self.packet_coverage(false));
        let FailedCalls { count, changes, next_ns } = self.failed_calls;
        let now = Some((self.ledger.trace.changes(), coverage));
        if !self.is_attributing() || now_ns < next_ns || changes == now {
            return count;
        }
        let calls = self.ledger.trace.calls(coverage);
        let on_remotes = calls.attempts.iter().filter(|attempt| attempt.target.is_remote());
        let count = on_remotes.map(|attempt| attempt.count).sum();
        self.failed_calls = FailedCalls { count, changes: now, next_ns: now_ns + pause_ns(&calls) };
        count
    }

    fn series_from(&self, from_ns: Option<u64>) -> SeriesTail {
        let all = &self.timeline.series.intervals;
        let first = from_ns.map_or(all.len(), |from| all.partition_point(|interval| interval.start_ns < from));
        SeriesTail { from_ns, intervals: all[first..].to_vec() }
    }

    /// Failed calls and local sockets, if a comparison is due and they changed. Nothing is compared
    /// in a session in which nothing happens.
    fn deliver_calls(&self, out: &mut Outlet, events: &mut Vec<Event>) {
        let now_ns = self.moment.now_ns();
        if !out.wants.has(CALLS) || !self.is_attributing() || now_ns < out.known.next_calls_ns {
            return;
        }
        let changes = (self.ledger.trace.changes(), self.packet_coverage(false));
        if out.known.changes.replace(changes) == Some(changes) {
            return;
        }
        let calls = self.ledger.trace.calls(self.packet_coverage(false));
        out.known.next_calls_ns = now_ns + pause_ns(&calls);
        let known = std::mem::take(&mut out.known.calls);
        if out.wants.has(EventKinds::ATTEMPTS) && calls.attempts != known.attempts {
            if out.wants.has(EventKinds::USED_BY) {
                let numbers = calls.attempts.iter().filter_map(|attempt| attempt.process);
                numbers.for_each(|number| self.introduce_process(out, number.0, events));
            }
            events.push(Event::Attempts(calls.attempts.as_slice().into()));
        }
        if out.wants.has(EventKinds::LOCAL_SOCKETS) && calls.local_sockets != known.local_sockets {
            events.push(Event::LocalSockets(calls.local_sockets.as_slice().into()));
        }
        out.known.calls = calls;
    }

    /// How completely packets are assigned to sockets. If the notification of a new flow is lost,
    /// the socket of its packets is unknown. A socket that could not be selected has none.
    pub(super) fn packet_coverage(&self, is_final: bool) -> PacketCoverage {
        let lost = self.losses.meter;
        match lost.new_flows + lost.table_full + lost.insert_failed + lost.unselected {
            // Connections of processes may pass interfaces that are not metered.
            _ if self.has_strangers => PacketCoverage::Lossy,
            0 if is_final => PacketCoverage::Final,
            0 => PacketCoverage::SoFar,
            _ => PacketCoverage::Lossy,
        }
    }

    /// Whether a consumer has received all its events.
    pub fn is_delivered(&self, outlet: OutletId) -> bool {
        self.outlets[outlet.0].is_empty()
    }

    /// Whether there are flows that only grew and whose records a consumer has not received.
    pub fn has_growth(&self, outlet: OutletId) -> bool {
        self.outlets[outlet.0].has_growth()
    }

    /// Takes what a consumer missed, at the end of the session.
    pub fn take_missed(&mut self, outlet: OutletId) -> Missed {
        std::mem::take(&mut self.outlets[outlet.0].missed)
    }
}

impl SessionLosses {
    /// The losses since `before`, by reason.
    pub(super) fn since(&self, before: &Self) -> impl Iterator<Item = (&'static str, u64)> {
        let [now, then] = [self, before].map(SessionLosses::by_reason);
        let grown = now.into_iter().zip(then).map(|((reason, now), (_, then))| (reason, now.saturating_sub(then)));
        grown.filter(|(_, count)| *count > 0)
    }

    /// Every reason with its count. Reasons of names and processes have a prefix.
    pub fn by_reason(&self) -> Vec<(&'static str, u64)> {
        let Self { meter, processes, names, folded } = self;
        let mut reasons = loss_reasons(meter, names, processes);
        reasons.push(("folded.facts", *folded));
        reasons
    }
}
