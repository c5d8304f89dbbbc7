//! A metering session: a pure state machine. Its inputs are observations and increments of a meter,
//! its outputs are events for consumers and reports. It owns no clock, thread, file or socket. What
//! is metered is described by its [`Scope`]; the session is independent of that and of the
//! consumers.

mod conclude;
mod connections;
mod deliver;
mod event;
mod input;
mod ledger;
mod outlet;
mod scope;
mod service_rates;
#[cfg(test)]
mod tests;
mod timeline;
mod top_endpoints;

use std::net::IpAddr;
use std::sync::Arc;

pub use event::{
    DrainTimes, Event, EventKinds, Finished, FlowRecord, IntervalTotals, ProcessRecord, SeriesTail, SessionLosses,
    SessionStatus, Started,
};
pub use input::{MeterLosses, Observed, SessionConfig};
pub use outlet::{GrowthTiming, Missed};
pub use scope::{CaptureScope, IsolatedScope, Moment, Scope, ScopeFacts};

use crate::flow::{
    Amount, Direction, EndpointKey, FlowChange, FlowKey, FlowTable, Increment, ObservationPoint, PerDirection, Place,
    Protocol, Traffic,
};
use crate::name::Names;
use crate::process::{Attribution, FlowToAttribute, Process, Trace, Usages};
use crate::report::{Interface, ResourceUsage, Series};
use crate::wire::Name;
use ledger::Ledger;
use outlet::Outlet;
use timeline::Timeline;

/// Maximum number of notes, beside the one that states that further ones were discarded.
const MAX_NOTES: usize = 10_000;
const TOO_MANY_NOTES: &str = "further notes were discarded";
/// An outlet forgets delivered processes only if it has more than these.
const MIN_PROCESSES_TO_FORGET: usize = 1024;

/// Identifies a consumer within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutletId(usize);

/// What is known about a flow while it is live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowIdentity {
    /// The process that uses it, by the strongest evidence.
    pub process: Option<Process>,
    /// The name of its remote.
    pub name: Option<Name>,
}

/// A metering session.
#[derive(Debug)]
pub struct Session<S> {
    /// What is metered.
    pub scope: S,
    ledger: Ledger,
    outlets: Vec<Outlet>,
    /// Outlets without a consumer.
    released: Vec<OutletId>,
    attribution: Attribution,
    /// See [`SessionConfig::has_strangers`].
    has_strangers: bool,
    /// Losses of the meter so far.
    losses: MeterLosses,
    /// Losses that were pushed to the outlets.
    losses_delivered: SessionLosses,
    notes: Vec<String>,
    drains: DrainTimes,
    timeline: Timeline,
    /// Numbers at the end of the last interval, if a consumer wants them.
    status: Option<SessionStatus>,
    failed_calls: deliver::FailedCalls,
    moment: Moment,
}

impl Session<IsolatedScope> {
    /// Sets the interface, also with its addresses, where packets of others are metered, too.
    pub fn set_interface(&mut self, interface: Interface) {
        self.ledger.trace.set_own_addresses(interface.local.clone());
        self.scope.interface = interface;
    }
}

impl<S: Scope> Session<S> {
    /// Creates a session. [`Session::start`] starts it.
    pub fn new(scope: S, config: SessionConfig) -> Self {
        let SessionConfig { max_flows, idle_timeout, hosts, attribution, netns, has_strangers, has_command } = config;
        let names = Names::new(scope.name_limits(), hosts);
        let mut trace = Trace::of_namespaces(netns);
        if has_strangers {
            trace.set_has_strangers();
        }
        if !has_command {
            trace.set_has_no_command();
        }
        let mut ledger = Ledger::new(FlowTable::new(max_flows).with_idle_timeout(idle_timeout), names, trace);
        let ScopeFacts { run, interface, .. } = scope.facts(&Moment::default());
        ledger.gateways = interface.gateway;
        run.pid.into_iter().for_each(|pid| ledger.trace.set_command(pid));
        Self {
            scope,
            ledger,
            outlets: Vec::new(),
            released: Vec::new(),
            attribution,
            has_strangers,
            losses: MeterLosses::default(),
            losses_delivered: SessionLosses::default(),
            notes: Vec::new(),
            drains: DrainTimes::default(),
            timeline: Timeline::default(),
            status: None,
            failed_calls: deliver::FailedCalls::default(),
            moment: Moment::default(),
        }
    }

    /// Attaches a consumer that wants these kinds of events. If the session has started, the
    /// consumer receives the start first, and then each flow when it changes. Events that no
    /// consumer wants are not created.
    pub fn attach(&mut self, wants: EventKinds) -> OutletId {
        let mut outlet = Outlet::new(wants);
        if self.moment.started_ns != 0 {
            outlet.push(&self.started());
        }
        if let Some(id) = self.released.pop() {
            self.outlets[id.0] = outlet;
            return id;
        }
        self.outlets.push(outlet);
        OutletId(self.outlets.len() - 1)
    }

    /// Attaches a consumer that also receives everything so far, in its current state.
    pub fn attach_late(&mut self, wants: EventKinds) -> OutletId {
        let id = self.attach(wants);
        let outlet = &mut self.outlets[id.0];
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            self.ledger.table.places(point).into_iter().for_each(|place| outlet.grew(place));
        }
        if wants.has(EventKinds::DNS_EXCHANGE) {
            outlet.lookups.extend(0..self.ledger.names.lookups().len());
        }
        id
    }

    /// Detaches a consumer. Its id is used again for the next one.
    pub fn release(&mut self, outlet: OutletId) {
        self.detach(outlet);
        self.released.push(outlet);
    }

    /// Discards all events of a consumer that failed.
    pub fn detach(&mut self, outlet: OutletId) {
        self.outlets[outlet.0] = Outlet::new(EventKinds::NONE);
    }

    /// Starts the session, when the target starts. `started_ns` is in nanoseconds since the Unix
    /// epoch.
    pub fn start(&mut self, started_ns: u64) {
        self.moment = Moment { started_ns, ..Moment::default() };
        self.timeline.start(started_ns);
        let started = self.started();
        self.push(&started);
    }

    fn started(&self) -> Event {
        let ScopeFacts { run, interface, .. } = self.scope.facts(&Moment { duration_ns: 0, ..self.moment });
        Event::Started(Arc::new(Started { run, interface }))
    }

    /// Processes an observation of the meter.
    pub fn observe(&mut self, observed: Observed<'_>) {
        let with_error = match &observed {
            Observed::IcmpError(quoted) => Some(self.scope.orient_icmp_error(*quoted).flow),
            _ => None,
        };
        if let Some(place) = self.ledger.observe(observed, &self.scope) {
            self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
        }
        if let Some(place) = with_error.and_then(|key| self.ledger.table.place(&key)) {
            self.timeline.recount(place, &self.ledger.table, false);
        }
    }

    /// Processes an increment of the meter.
    pub fn apply(&mut self, increment: Increment) {
        let increment = self.scope.orient(increment);
        if let Some(place) = self.ledger.end_idle(&increment) {
            self.timeline.recount(place, &self.ledger.table, false);
            self.outlets.iter_mut().for_each(|outlet| outlet.ended(place));
        }
        let changed = self.ledger.apply(&increment);
        let is_growth = increment.counters != PerDirection::default();
        if changed.evicted_before.is_some() {
            changed.place.into_iter().for_each(|place| self.timeline.evicted(place));
        }
        if matches!(increment.traffic, Traffic::Flow(_)) && increment.point == ObservationPoint::Link {
            self.timeline.apply(changed.place, changed.change, &increment, &self.ledger.table);
        }
        changed.evicted_after.iter().for_each(|(place, _)| self.timeline.evicted(*place));
        let Some(place) = changed.place else { return };
        if let Some(record) = changed.evicted_before {
            self.evict(place, record);
        }
        for outlet in &mut self.outlets {
            match changed.change {
                FlowChange::Opened => outlet.opened(place),
                _ if is_growth && changed.had_ended => outlet.grew_after_end(place),
                _ if is_growth => outlet.grew(place),
                _ => {}
            }
            if changed.has_ended {
                outlet.ended(place);
            }
        }
        changed.evicted_after.into_iter().for_each(|(from, record)| self.evict(from, record));
    }

    /// Removes an evicted flow from the outlets. Its record is shared only if one of them has
    /// changes that were not delivered.
    fn evict(&mut self, place: Place, record: FlowRecord) {
        let mut waiting =
            self.outlets.iter_mut().filter_map(|outlet| (!outlet.evict_unchanged(place)).then_some(outlet)).peekable();
        if waiting.peek().is_some() {
            let record = Arc::new(record);
            waiting.for_each(|outlet| outlet.evict(place, &record));
        }
    }

    /// What is known so far about a flow, of which a packet went in this direction at this time.
    /// `socket` is the cookie of the socket that sent its packets, if it is known.
    pub fn identify(&self, key: FlowKey, direction: Direction, time_ns: u64, socket: Option<u64>) -> FlowIdentity {
        let flow = FlowToAttribute { key, opened_by: direction, first_ns: time_ns, last_ns: time_ns };
        let usages = if self.is_attributing() { self.usages_of_packet(&flow, socket) } else { Usages::new() };
        let process = usages.first().and_then(|usage| self.ledger.trace.process(usage.process));
        let name = self.ledger.names.best(&key, time_ns).map(|best| best.name.clone());
        FlowIdentity { process: process.map(|(process, _)| process), name }
    }

    /// The processes of one packet of a flow. Many processes may share a flow of ICMP, and one of
    /// fragments whose ports are not known, so that only the socket leads to that of the packet.
    fn usages_of_packet(&self, flow: &FlowToAttribute, socket: Option<u64>) -> Usages {
        let is_shared = flow.key.fragment || [Protocol::ICMP, Protocol::ICMPV6].contains(&Protocol(flow.key.protocol));
        match (is_shared, socket) {
            (false, _) => self.ledger.trace.usages_of(flow),
            (true, Some(cookie)) => self.ledger.trace.usages_of_socket(cookie),
            (true, None) => Usages::new(),
        }
    }

    /// Whether the target bound a socket to this port.
    pub fn was_bound(&self, port: u16) -> bool {
        self.ledger.trace.was_bound(port)
    }

    /// Sets whether flows are attributed to processes, if that follows from the first observations.
    pub fn set_attribution(&mut self, attribution: Attribution) {
        self.attribution = attribution;
    }

    /// Adds a drain that took this time.
    pub fn add_drain(&mut self, time_ns: u64) {
        self.drains.count += 1;
        self.drains.sum_ns = self.drains.sum_ns.saturating_add(time_ns);
    }

    /// Sets the losses of the meter so far.
    pub fn set_losses(&mut self, losses: MeterLosses) {
        self.losses = losses;
    }

    /// Adds a note to the report. A repeated note is added once.
    pub fn note(&mut self, note: String) {
        if self.notes.len() > MAX_NOTES || self.notes.contains(&note) {
            return;
        }
        let note = if self.notes.len() == MAX_NOTES { TOO_MANY_NOTES.to_owned() } else { note };
        self.push(&Event::Note(note.as_str().into()));
        self.notes.push(note);
    }

    /// Ends the current interval, after a drain. `duration_ns` is the duration of the session so
    /// far.
    pub fn end_interval(&mut self, duration_ns: u64) {
        self.moment.duration_ns = duration_ns;
        for place in self.ledger.prune() {
            self.timeline.recount(place, &self.ledger.table, false);
            self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
        }
        self.forget_processes();
        let changed: Vec<usize> = self.ledger.names.changed_lookups().map(|(index, _)| index).collect();
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.wants.has(EventKinds::DNS_EXCHANGE)) {
            outlet.lookups.extend(&changed);
        }
        self.end_step(duration_ns);
        self.timeline.end_endpoints(self.moment.now_ns());
        let changed_from = self.timeline.take_changed();
        // Once for all consumers, because it looks at every flow.
        let wants_status = self.outlets.iter().any(|outlet| outlet.wants.has(EventKinds::STATUS));
        self.status = wants_status.then(|| self.current_status());
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.wants.has(deliver::OF_INTERVAL)) {
            outlet.interval_ended(changed_from);
        }
        self.push_losses();
    }

    /// A few numbers of the session, as of the end of the last interval.
    pub fn status(&mut self) -> SessionStatus {
        match self.status {
            Some(status) => status,
            None => self.current_status(),
        }
    }

    /// Forgets which removed processes were delivered. Numbers are not reused.
    fn forget_processes(&mut self) {
        let trace = &self.ledger.trace;
        let max = MIN_PROCESSES_TO_FORGET.max(2 * trace.process_count());
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.processes.len() > max) {
            outlet.processes.retain(|number| trace.has_process(*number));
        }
    }

    /// Ends a part of the current interval, after a drain: the series gets an interval of its own,
    /// and consumers receive it with the next one that ends.
    pub fn end_step(&mut self, duration_ns: u64) {
        self.moment.duration_ns = duration_ns;
        let lost = self.losses().by_reason().into_iter().map(|(_, count)| count).sum();
        let responses = self.ledger.names.take_responses();
        self.timeline.end_interval(self.moment.now_ns(), &self.ledger.table, lost, &responses);
    }

    fn push_losses(&mut self) {
        let losses = self.losses();
        let before = std::mem::replace(&mut self.losses_delivered, losses);
        for (reason, count) in losses.since(&before) {
            self.push(&Event::Lost(reason, count));
        }
    }

    /// Everything that was lost so far.
    pub fn losses(&self) -> SessionLosses {
        let mut processes = self.losses.processes;
        processes.add(&self.ledger.trace.lost());
        SessionLosses {
            meter: self.losses.meter,
            processes,
            names: self.ledger.names.lost(),
            folded: self.ledger.folded.lost,
        }
    }

    fn push(&mut self, event: &Event) {
        self.outlets.iter_mut().for_each(|outlet| outlet.push(event));
    }

    /// Sets the CPU time of the target so far with its peak of memory, and its current memory in
    /// bytes, as far as they are known.
    pub fn set_usage(&mut self, usage: Option<ResourceUsage>, memory: Option<u64>) {
        self.timeline.set_usage(usage, memory);
        self.moment.usage = self.timeline.usage();
    }

    /// What was counted on links so far.
    pub fn counted(&self) -> PerDirection<Amount> {
        self.ledger.table.counted(ObservationPoint::Link).map(Amount::from)
    }

    /// Notes from now on when each endpoint of the link is first used.
    pub fn watch_endpoints(&mut self) {
        self.timeline.watch_endpoints();
    }

    /// The time of the first packet of each endpoint, nanoseconds since the Unix epoch, if they are
    /// watched; at most 65,536.
    pub fn first_used(&self) -> impl Iterator<Item = (EndpointKey, u64)> + '_ {
        self.timeline.first_used()
    }

    /// The end of the last interval, nanoseconds since the Unix epoch.
    pub fn now_ns(&self) -> u64 {
        self.moment.now_ns()
    }

    /// Flows that were never tracked individually: more were live at the same time than fit.
    pub fn untracked_flows(&self) -> u64 {
        self.ledger.table.untracked().flows
    }

    /// The session over time.
    pub fn series(&self) -> &Series {
        &self.timeline.series
    }

    /// Adds names of remotes, from reverse lookups of addresses without a name.
    pub fn resolve(&mut self, names: impl IntoIterator<Item = (IpAddr, Name)>) {
        self.ledger.names.resolve(names);
        self.refresh_all();
    }

    /// Marks all flows as grown, so that their records are delivered again.
    fn refresh_all(&mut self) {
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            for place in self.ledger.table.places(point) {
                self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
            }
        }
    }
}
