//! The ledger of a session: flows with their names and processes, in bounded memory. Names and
//! processes of a live flow are looked up when a record of it is created. Those of an ended flow
//! are stored when it ends, and folded into its endpoint when the flow is evicted.

use std::net::IpAddr;
use std::sync::Arc;

use super::connections::{ConnectionNames, NamesOf};
use super::event::FlowRecord;
use super::input::Observed;
use super::scope::Scope;
use crate::flow::{Flow, FlowChange, FlowKey, FlowTable, Increment, ObservationPoint, Place};
use crate::name::{NameSample, Names};
use crate::process::{Evidence, FlowToAttribute, ReportedFlows, Trace, Usage, Usages};
use crate::report::{FlowNaming, FoldedFacts};

/// Names and processes of an ended flow, as they were when it ended.
#[derive(Debug)]
struct Settled {
    naming: Option<Arc<FlowNaming>>,
    usages: Usages,
    /// Its memory is part of [`Ledger::settled_bytes`]: the flow has not been reopened.
    is_counted: bool,
}

/// Flows, names and processes.
#[derive(Debug)]
pub(super) struct Ledger {
    pub table: FlowTable,
    pub names: Names,
    pub trace: Trace,
    connections: ConnectionNames,
    /// Names and processes of ended flows, by place.
    settled: Vec<Option<Box<Settled>>>,
    /// Approximate memory of the ended flows in `settled`, bytes. Reopened flows are not included,
    /// because they cannot be evicted.
    pub settled_bytes: usize,
    /// Flows are evicted while `settled_bytes` is higher.
    pub max_settled_bytes: usize,
    pub folded: FoldedFacts,
    /// The addresses of the host on the link, which need no name.
    pub gateways: Vec<IpAddr>,
}

/// How an increment changed the ledger.
#[derive(Debug)]
pub(super) struct Changed {
    pub change: FlowChange,
    pub place: Option<Place>,
    pub had_ended: bool,
    pub has_ended: bool,
    /// The last record of the flow that was evicted from `place` before the change, to make room
    /// for this flow.
    pub evicted_before: Option<FlowRecord>,
    /// The last records of flows that were evicted after the change, and where they were. The flow
    /// that has just ended can be among them.
    pub evicted_after: Vec<(Place, FlowRecord)>,
}

/// Maximum memory for the names and processes of ended flows, bytes: about 100,000 flows with
/// names.
const MAX_SETTLED_BYTES: usize = 64 << 20;

impl Ledger {
    pub(super) fn new(table: FlowTable, names: Names, trace: Trace) -> Self {
        Self {
            table,
            names,
            trace,
            connections: ConnectionNames::default(),
            settled: Vec::new(),
            settled_bytes: 0,
            max_settled_bytes: MAX_SETTLED_BYTES,
            folded: FoldedFacts::default(),
            gateways: Vec::new(),
        }
    }

    /// Processes an observation. Returns the place of an ended flow if its record changed.
    pub(super) fn observe(&mut self, observed: Observed<'_>, scope: &impl Scope) -> Option<Place> {
        match observed {
            Observed::Socket { flow, cookie } => self.trace.note_flow(scope.orient_key(flow), cookie),
            Observed::Begun { flow, time_ns } => self.connections.begin(scope.orient_key(flow), time_ns),
            Observed::Name(sample) => {
                let sample = scope.orient_name(sample);
                self.divide_names(&sample);
                self.names.observe(&sample);
            }
            Observed::IcmpError(quoted) => return self.table.note_icmp_error(scope.orient_icmp_error(quoted)),
            Observed::Process(event, system) => self.trace.apply(event, system),
        }
        None
    }

    /// If another connection began before this sample, stores the names of the connection before.
    fn divide_names(&mut self, sample: &NameSample<'_>) {
        let flow = sample.flow;
        let Some(until_ns) = self.connections.next(&flow, sample.time_ns) else { return };
        self.names.finish_flow(&flow);
        if self.names.flow(&flow).is_some() {
            let naming = crate::report::naming_of(&flow, until_ns, &self.names).map(Arc::new);
            self.names.take(&flow);
            self.connections.store(flow, until_ns, naming);
        }
    }

    /// Ends an idle flow if that is due before this increment. Returns its place.
    pub(super) fn end_idle(&mut self, increment: &Increment) -> Option<Place> {
        let place = self.table.end_idle(increment)?;
        self.settle(place);
        Some(place)
    }

    pub(super) fn apply(&mut self, increment: &Increment) -> Changed {
        let applied = self.table.apply(*increment);
        let evicted = applied.evicted.and_then(|flow| Some((applied.place?, *flow)));
        let evicted_before = evicted.map(|(place, flow)| self.fold(place, flow));
        let mut evicted_after = Vec::new();
        let (had_ended, has_ended) = (applied.had_ended, applied.has_ended);
        if let Some(place) = applied.place {
            self.stop_counting(place);
            // Also if it is ended already: late segments may have been sampled.
            if increment.ended.is_some() {
                self.settle(place);
                self.evict_settled(&mut evicted_after);
            }
        }
        Changed { change: applied.change, place: applied.place, had_ended, has_ended, evicted_before, evicted_after }
    }

    /// Evicts flows until the memory of the ended ones is within its limit.
    fn evict_settled(&mut self, evicted: &mut Vec<(Place, FlowRecord)>) {
        while self.settled_bytes > self.max_settled_bytes
            && let Some((place, flow)) = self.table.evict()
        {
            evicted.push((place, self.fold(place, flow)));
        }
    }

    /// The flow at this place may be live again.
    fn stop_counting(&mut self, place: Place) {
        if let Some(settled) = self.settled.get_mut(place).and_then(Option::as_deref_mut)
            && std::mem::take(&mut settled.is_counted)
        {
            self.settled_bytes -= settled.memory();
        }
    }

    /// Folds the names and processes of an evicted flow into its endpoint.
    fn fold(&mut self, place: Place, flow: Flow) -> FlowRecord {
        let settled = self.take_settled(place);
        let (naming, usages) = settled.map_or((None, Usages::new()), |it| (it.naming, it.usages));
        let record = FlowRecord { flow, naming, usages };
        self.folded.add(&record.flow, record.naming.as_deref(), &record.usages, &self.names, &self.gateways);
        record
    }

    /// Stores the names and processes of a flow that ended, and removes its samples.
    fn settle(&mut self, place: Place) {
        let Some(flow) = self.table.at(place) else { return };
        let names_of = self.connections.names_of(&flow.key, flow.first_seen_ns);
        let has_newest = matches!(names_of, NamesOf::Newest);
        if has_newest {
            self.names.finish_flow(&flow.key);
        }
        let naming = naming_of(names_of, &flow, &self.names);
        let usages = self.usages_of(&flow);
        if has_newest {
            self.names.take(&flow.key);
        }
        self.connections.forget(&flow.key, flow.first_seen_ns);
        // The sockets of earlier flows with this key are forgotten with the newest one.
        if self.table.is_newest(place) {
            self.trace.forget_flow(&flow.key, flow.last_seen_ns);
        }
        if place >= self.settled.len() {
            self.settled.resize_with(place + 1, || None);
        }
        let before = self.take_settled(place);
        let settled = Settled::merged(before.map(|it| *it), naming, usages);
        self.settled_bytes += settled.memory();
        self.settled[place] = Some(Box::new(settled));
    }

    fn take_settled(&mut self, place: Place) -> Option<Box<Settled>> {
        self.stop_counting(place);
        self.settled.get_mut(place).and_then(Option::take)
    }

    /// The names of a live flow so far.
    fn naming_of(&self, flow: &Flow) -> Option<Arc<FlowNaming>> {
        naming_of(self.connections.names_of(&flow.key, flow.first_seen_ns), flow, &self.names)
    }

    /// The processes of a live flow so far.
    fn usages_of(&self, flow: &Flow) -> Usages {
        self.trace.usages_of(&to_attribute(flow))
    }

    /// The current record of the flow at this place.
    pub(super) fn record(&self, place: Place) -> Option<FlowRecord> {
        self.table.at(place).map(|flow| self.record_of(place, flow))
    }

    /// The records of one observation point, sorted by the time of the first packet.
    pub(super) fn records(&self, point: ObservationPoint) -> impl Iterator<Item = FlowRecord> {
        self.table.places(point).into_iter().filter_map(|place| self.record(place))
    }

    fn record_of(&self, place: Place, flow: Flow) -> FlowRecord {
        let settled = self.settled.get(place).and_then(Option::as_deref);
        let Some(settled) = settled else {
            return FlowRecord { naming: self.naming_of(&flow), usages: self.usages_of(&flow), flow };
        };
        let naming = match flow.ended {
            Some(_) => with_name_of_address(settled.naming.clone(), &flow, &self.names),
            None => Settled::merge_naming(settled.naming.clone(), self.naming_of(&flow)),
        };
        let usages = match flow.ended {
            Some(_) => settled.usages.clone(),
            None => merge_usages(self.usages_of(&flow), &settled.usages),
        };
        FlowRecord { flow, naming, usages }
    }

    /// Removes processes and sockets that no flow needs, and assigns ICMP errors. To be called
    /// after each drain. Returns the places of ended flows with a changed record.
    pub(super) fn prune(&mut self) -> Vec<Place> {
        let changed = self.table.settle_icmp_errors();
        let Self { table, trace, settled, folded, .. } = self;
        let settled = settled.iter().flatten().flat_map(|settled| settled.usages.iter().map(|usage| usage.process));
        trace.tidy(&LiveFlows(table), settled.chain(folded.processes()));
        changed
    }
}

impl Settled {
    /// Adds names and processes. A flow that was reopened has some from its earlier ends.
    fn merged(before: Option<Self>, naming: Option<Arc<FlowNaming>>, usages: Usages) -> Self {
        match before {
            None => Self { naming, usages, is_counted: true },
            Some(before) => Self {
                naming: Self::merge_naming(before.naming, naming),
                usages: merge_usages(usages, &before.usages),
                is_counted: true,
            },
        }
    }

    /// Approximate memory, bytes, allocations included.
    fn memory(&self) -> usize {
        const LIST_BYTES: usize = 64;
        let naming = self.naming.as_ref().map_or(0, |naming| {
            let names: usize = naming.names.iter().map(|named| size_of_val(named) + named.name.as_str().len()).sum();
            let tls = naming.tls.as_ref().map_or(0, |tls| LIST_BYTES * (2 + tls.alpn.len()));
            size_of::<FlowNaming>() + names + tls + LIST_BYTES
        });
        let usages = if self.usages.spilled() { self.usages.len() * size_of::<Usage>() } else { 0 };
        size_of::<Self>() + naming + usages + LIST_BYTES
    }

    /// Combines names: the first display name, protocol and TLS facts are kept, names are added.
    fn merge_naming(before: Option<Arc<FlowNaming>>, later: Option<Arc<FlowNaming>>) -> Option<Arc<FlowNaming>> {
        let (before, later) = match (before, later) {
            (Some(before), Some(later)) => (before, later),
            (before, later) => return before.or(later),
        };
        let [mut before, later] = [before, later].map(Arc::unwrap_or_clone);
        before.display_name = before.display_name.or(later.display_name);
        before.application = before.application.or(later.application);
        before.tls = before.tls.or(later.tls);
        for named in later.names {
            if !before.names.iter().any(|known| (&known.name, known.source) == (&named.name, named.source)) {
                before.names.push(named);
            }
        }
        for hidden in later.hidden {
            if !before.hidden.contains(&hidden) {
                before.hidden.push(hidden);
            }
        }
        Some(Arc::new(before))
    }
}

/// The names of a live flow so far.
fn naming_of(names_of: NamesOf<'_>, flow: &Flow, names: &Names) -> Option<Arc<FlowNaming>> {
    match names_of {
        NamesOf::Newest => crate::report::naming_of(&flow.key, flow.first_seen_ns, names).map(Arc::new),
        NamesOf::Earlier(naming) => naming.cloned(),
        NamesOf::Unobserved => with_name_of_address(None, flow, names),
    }
}

/// The names of an ended flow. If it has no display name, that of the address is used, which may
/// have been added since, for example by `--resolve`. The names of its five-tuple may be those of
/// the next connection.
fn with_name_of_address(settled: Option<Arc<FlowNaming>>, flow: &Flow, names: &Names) -> Option<Arc<FlowNaming>> {
    if settled.as_ref().is_some_and(|naming| naming.display_name.is_some()) {
        return settled;
    }
    let Some(display_name) = crate::report::name_of_address(flow, names) else { return settled };
    let settled = settled.map_or_else(FlowNaming::default, Arc::unwrap_or_clone);
    Some(Arc::new(FlowNaming { display_name: Some(display_name), ..settled }))
}

/// Combines usages, the strongest evidence first, and the later ones of equal evidence. Late
/// segments of a closed connection come when its socket is forgotten: then the network namespace is
/// no evidence beside the socket.
fn merge_usages(mut later: Usages, before: &[Usage]) -> Usages {
    for usage in before {
        match later.iter_mut().find(|known| known.process == usage.process) {
            Some(known) => {
                known.evidence = known.evidence.min(usage.evidence);
                known.is_maker |= usage.is_maker;
            }
            None => later.push(*usage),
        }
    }
    later.sort_by_key(|usage| usage.evidence);
    if later.first().is_some_and(|strongest| strongest.evidence != Evidence::Netns) {
        later.retain(|usage| usage.evidence != Evidence::Netns);
    }
    later
}

pub(super) fn to_attribute(flow: &Flow) -> FlowToAttribute {
    FlowToAttribute {
        key: flow.key,
        opened_by: flow.opened_by,
        first_ns: flow.first_seen_ns,
        last_ns: flow.last_seen_ns,
    }
}

/// The flows with sockets that are still needed.
struct LiveFlows<'t>(&'t FlowTable);

impl ReportedFlows for LiveFlows<'_> {
    fn contains(&self, flow: &FlowKey) -> bool {
        self.0.has_live(flow)
    }

    fn is_complete(&self) -> bool {
        self.0.is_full()
    }
}
