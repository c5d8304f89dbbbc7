//! One metering session: a pure state machine. A meter's observations and increments go in, events
//! for consumers and reports come out. It owns no clock, thread, file or socket, and does not
//! depend on what is metered (that is its [`Scope`]) nor on who consumes its events.

mod conclude;
mod deliver;
mod event;
mod input;
mod ledger;
mod outlet;
mod scope;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

pub use event::{
    Event, EventKinds, Finished, FlowRecord, IntervalTotals, ProcessRecord, SeriesTail, SessionLosses, Started,
};
pub use input::Observed;
pub use outlet::{GrowthTiming, Missed};
pub use scope::{CaptureScope, IsolatedScope, Moment, Scope, ScopeFacts};

use crate::flow::{
    Counters, FlowChange, FlowTable, Increment, ObservationLosses, ObservationPoint, PerDirection, Traffic,
};
use crate::name::{Hosts, Names};
use crate::process::{self, Attribution, Trace};
use crate::report::{self, Series};
use crate::wire::Name;
use ledger::Ledger;
use outlet::Outlet;

/// How much a session keeps, and what it begins with.
#[derive(Debug)]
pub struct SessionConfig {
    /// Flows tracked individually: live ones and the most recent ended ones.
    pub max_flows: usize,
    /// The target's hosts file.
    pub hosts: Hosts,
    /// Whether processes are looked for.
    pub attribution: Attribution,
    /// The cookie of the target's network namespace, where it is known.
    pub netns: Option<u64>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_flows: crate::flow::DEFAULT_MAX_FLOWS,
            hosts: Hosts::default(),
            attribution: Attribution::Absent,
            netns: None,
        }
    }
}

/// Identifies a consumer within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutletId(usize);

/// A metering session.
#[derive(Debug)]
pub struct Session<S> {
    /// What is metered.
    pub scope: S,
    ledger: Ledger,
    outlets: Vec<Outlet>,
    attribution: Attribution,
    /// What the meter missed so far.
    losses: MeterLosses,
    /// What the outlets know of them.
    losses_delivered: SessionLosses,
    notes: Vec<String>,
    series: Series,
    interval: CurrentInterval,
    moment: Moment,
}

/// What a meter missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeterLosses {
    /// Observations of packets.
    pub meter: ObservationLosses,
    /// Process events, as counted by the meter.
    pub processes: process::ProcessLosses,
}

/// The interval that is being filled: what there was when it began.
#[derive(Debug, Default)]
struct CurrentInterval {
    number: u64,
    start_ns: u64,
    totals: PerDirection<Counters>,
    opened: u64,
    active: u64,
    /// The interval in which the flow at a place was active last, plus one.
    active_in: Vec<u64>,
}

impl CurrentInterval {
    /// Counts a flow as active, once per interval.
    fn activate(&mut self, place: Option<usize>) {
        let Some(place) = place else {
            self.active += 1;
            return;
        };
        if place >= self.active_in.len() {
            self.active_in.resize(place + 1, 0);
        }
        let last = std::mem::replace(&mut self.active_in[place], self.number + 1);
        self.active += u64::from(last != self.number + 1);
    }
}

impl<S: Scope> Session<S> {
    /// A session that has not begun.
    pub fn new(scope: S, config: SessionConfig) -> Self {
        let SessionConfig { max_flows, hosts, attribution, netns } = config;
        let names = Names::new(scope.name_limits(), hosts);
        let mut ledger = Ledger::new(FlowTable::new(max_flows), names, Trace::of_namespace(netns));
        let ScopeFacts { run, interface, .. } = scope.facts(&Moment::default());
        ledger.gateways = interface.gateway;
        run.pid.into_iter().for_each(|pid| ledger.trace.set_command(pid));
        Self {
            scope,
            ledger,
            outlets: Vec::new(),
            attribution,
            losses: MeterLosses::default(),
            losses_delivered: SessionLosses::default(),
            notes: Vec::new(),
            series: Series::default(),
            interval: CurrentInterval::default(),
            moment: Moment::default(),
        }
    }

    /// Adds a consumer that wants these kinds of events, from now on: of a live session it receives
    /// the start first, and each flow when it changes. Kinds that no consumer wants cost nothing.
    pub fn attach(&mut self, wants: EventKinds) -> OutletId {
        let mut outlet = Outlet::new(wants);
        if self.moment.started_ns != 0 {
            outlet.push(&self.started());
        }
        self.outlets.push(outlet);
        OutletId(self.outlets.len() - 1)
    }

    /// The consumer failed: nothing is kept for it any more.
    pub fn detach(&mut self, outlet: OutletId) {
        self.outlets[outlet.0] = Outlet::new(EventKinds::NONE);
    }

    /// The target runs from now on.
    pub fn start(&mut self, started_ns: u64) {
        self.moment = Moment { started_ns, ..Moment::default() };
        self.interval.start_ns = started_ns;
        let started = self.started();
        self.push(&started);
    }

    fn started(&self) -> Event {
        let ScopeFacts { run, interface, .. } = self.scope.facts(&Moment { duration_ns: 0, ..self.moment });
        Event::Started(Arc::new(Started { run, interface }))
    }

    /// Takes an observation of the meter.
    pub fn observe(&mut self, observed: Observed<'_>) {
        if let Some(place) = self.ledger.observe(observed, &self.scope) {
            self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
        }
    }

    /// Takes an increment that the meter drained.
    pub fn apply(&mut self, increment: Increment) {
        let increment = self.scope.orient(increment);
        let changed = self.ledger.apply(&increment);
        let is_growth = increment.counters != PerDirection::default();
        let is_flow = matches!(increment.traffic, Traffic::Flow(_));
        if is_flow && is_growth && increment.point == ObservationPoint::Link {
            self.interval.activate(changed.place);
        }
        let Some(place) = changed.place else { return };
        let evicted: Vec<_> = changed.evicted.into_iter().map(|(from, record)| (from, Arc::new(record))).collect();
        let (from_here, from_others): (Vec<_>, Vec<_>) = evicted.into_iter().partition(|(from, _)| *from == place);
        for outlet in &mut self.outlets {
            from_here.iter().for_each(|(from, record)| outlet.evict(*from, record));
            match changed.change {
                FlowChange::Opened => outlet.opened(place),
                _ if is_growth => outlet.grew(place),
                _ => {}
            }
            if changed.has_ended {
                outlet.ended(place);
            }
            from_others.iter().for_each(|(from, record)| outlet.evict(*from, record));
        }
    }

    /// Sets what the meter missed so far.
    pub fn set_losses(&mut self, losses: MeterLosses) {
        self.losses = losses;
    }

    /// Adds a sentence to the report, once however often it is noted.
    pub fn note(&mut self, note: String) {
        if self.notes.contains(&note) {
            return;
        }
        self.push(&Event::Note(note.as_str().into()));
        self.notes.push(note);
    }

    /// Ends the current interval, after everything was drained. `duration_ns` is the duration of
    /// the session so far.
    pub fn end_interval(&mut self, duration_ns: u64) {
        self.moment.duration_ns = duration_ns;
        self.ledger.tidy();
        let changed: Vec<usize> = self.ledger.names.changed_lookups().map(|(index, _)| index).collect();
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.wants.has(EventKinds::DNS_EXCHANGE)) {
            outlet.lookups.extend(&changed);
        }
        let changed_from = self.end_step();
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.wants.has(EventKinds::INTERVAL)) {
            outlet.interval_ended(changed_from);
        }
        self.push_losses();
    }

    /// Adds the interval to the series; where the first step begins that changed.
    fn end_step(&mut self) -> Option<u64> {
        let now_ns = self.moment.now_ns();
        let table = &self.ledger.table;
        let totals = table.totals_by_sums(ObservationPoint::Link);
        let opened = table.opened(ObservationPoint::Link);
        let current = &self.interval;
        let changed_from = self.series.push(report::Interval {
            start_ns: current.start_ns,
            length_ns: now_ns.saturating_sub(current.start_ns),
            totals: totals.zip(current.totals, |now, before| now - before),
            opened: opened - current.opened,
            active: current.active,
        });
        let active_in = std::mem::take(&mut self.interval.active_in);
        let number = self.interval.number + 1;
        self.interval = CurrentInterval { number, start_ns: now_ns, totals, opened, active: 0, active_in };
        changed_from
    }

    fn push_losses(&mut self) {
        let losses = self.all_losses();
        let before = std::mem::replace(&mut self.losses_delivered, losses);
        for (reason, count) in losses.since(&before) {
            self.push(&Event::Lost(reason, count));
        }
    }

    fn all_losses(&self) -> SessionLosses {
        let mut processes = self.losses.processes;
        processes.add(&self.ledger.trace.lost());
        SessionLosses { meter: self.losses.meter, processes, names: self.ledger.names.lost() }
    }

    fn push(&mut self, event: &Event) {
        self.outlets.iter_mut().for_each(|outlet| outlet.push(event));
    }

    /// Traffic over time.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Adds names that were resolved for addresses without one.
    pub fn resolve(&mut self, names: impl IntoIterator<Item = (IpAddr, Name)>) {
        self.ledger.names.resolve(names);
        self.refresh_all();
    }

    /// Every record that the ledger has is delivered once more.
    fn refresh_all(&mut self) {
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            for place in self.ledger.table.places(point) {
                self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
            }
        }
    }
}
