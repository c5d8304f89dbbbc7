//! The flow table in user space: sums the increments of a meter in bounded memory. It contains only
//! counts; the session keeps the names and processes of flows.

mod activity;
mod folded;
mod shards;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

pub use activity::{FlowActivity, FlowState};
pub use folded::{FoldedCounts, FoldedFlows};
pub use store::{FlowChange, Place};

use super::endpoint;
use super::{
    Counters, Direction, Endpoint, Flow, FlowKey, IcmpError, Increment, ObservationPoint, PerDirection, QuotedError,
    RemainderKind, Remainders, Traffic,
};
use store::{FlowStore, Owner, StoredFlow};

/// Default maximum number of flows that are tracked individually.
pub const DEFAULT_MAX_FLOWS: usize = 65_536;
/// Default idle timeout of flows of other protocols than TCP: as long as Linux's connection
/// tracking keeps a UDP stream.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that was counted so far.
///
/// The table tracks live flows and the most recent ended flows individually, at most `max_flows` in
/// all. When it is full, the flow that ended first is evicted: folded into its endpoint. When all
/// flows are live, new flows are folded immediately. Totals stay exact; [`FlowTable::folded`]
/// returns how much was folded.
#[derive(Debug)]
pub struct FlowTable {
    max_flows: usize,
    /// A packet after a pause of this length opens another flow, except for TCP.
    idle_timeout_ns: u64,
    store: FlowStore,
    /// Flows that were tracked individually and evicted.
    evicted: FoldedFlows,
    /// Flows that were never tracked individually.
    untracked: FoldedFlows,
    /// ICMP errors by flow and by whether the target sent the error. They are stored separately
    /// because a sample usually arrives before the drain that adds its flow.
    icmp_errors: HashMap<(FlowKey, bool), PendingError>,
    /// ICMP errors that were discarded because there were `max_flows` of them.
    icmp_errors_lost: u64,
    link: PointSums,
    loopback: PointSums,
}

/// An ICMP error that is not part of a stored flow yet.
#[derive(Debug, Clone, Copy)]
struct PendingError {
    error: IcmpError,
    /// Nanoseconds since the Unix epoch.
    time_ns: u64,
    /// Drains since then without a live flow with its key.
    drains: u8,
}

/// An error waits for its flow for this many drains. The second one includes every flow that began
/// before the error, also if the error arrived during the first.
const MAX_DRAINS_WITHOUT_FLOW: u8 = 2;

/// The sums of one observation point.
#[derive(Debug, Default)]
struct PointSums {
    counted: PerDirection<Counters>,
    remainders: Remainders,
    /// Number of flows, including folded flows that could be distinguished.
    opened: u64,
}

/// The result of [`FlowTable::apply`].
#[derive(Debug)]
pub struct Applied {
    /// How the table changed.
    pub change: FlowChange,
    /// The place of the flow, if it is tracked individually.
    pub place: Option<Place>,
    /// Whether that flow had ended before this increment.
    pub had_ended: bool,
    /// Whether that flow ended with this increment.
    pub has_ended: bool,
    /// The place of a live flow with the same key before the one that was opened.
    pub superseded: Option<Place>,
    /// The flow that was at this place before. It was folded into its endpoint to make room.
    pub evicted: Option<Box<Flow>>,
}

impl Applied {
    fn at(change: FlowChange, place: Option<Place>) -> Self {
        Self { change, place, had_ended: false, has_ended: false, superseded: None, evicted: None }
    }
}

impl FlowTable {
    /// An empty table that tracks at most `max_flows` flows individually.
    pub fn new(max_flows: usize) -> Self {
        Self {
            max_flows,
            idle_timeout_ns: nanoseconds(DEFAULT_IDLE_TIMEOUT),
            store: FlowStore::default(),
            evicted: FoldedFlows::new(max_flows),
            untracked: FoldedFlows::new(max_flows),
            icmp_errors: HashMap::new(),
            icmp_errors_lost: 0,
            link: PointSums::default(),
            loopback: PointSums::default(),
        }
    }

    /// The table with another idle timeout.
    #[must_use]
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout_ns: nanoseconds(idle_timeout), ..self }
    }

    /// Adds an increment to its flow or remainder.
    pub fn apply(&mut self, increment: Increment) -> Applied {
        let sums = self.sums_mut(increment.point);
        sums.counted += increment.counters;
        match increment.traffic {
            Traffic::Flow(key) => self.apply_flow(key, &increment),
            remainder => {
                sums.remainders.add(remainder, increment.counters);
                Applied::at(FlowChange::Remainder, None)
            }
        }
    }

    fn apply_flow(&mut self, key: FlowKey, increment: &Increment) -> Applied {
        let owner = self.store.owner(&key, increment, self.idle_timeout_ns);
        match owner {
            Owner::New(None) if self.untracked.has(&key) => self.fold(key, increment),
            Owner::New(_) | Owner::NewBefore(_) => self.open(key, owner, increment),
            Owner::Tracked(place) => {
                let had_ended = self.store.stored(place).is_some_and(StoredFlow::is_ended);
                self.store.grow(place, increment);
                let has_ended = self.end(place, increment);
                Applied { had_ended, has_ended, ..Applied::at(FlowChange::Grew, Some(place)) }
            }
        }
    }

    fn open(&mut self, key: FlowKey, owner: Owner, increment: &Increment) -> Applied {
        let before = if let Owner::New(before) = owner { before } else { None };
        if let Some(before) = before {
            self.move_icmp_error(before, increment.first_seen_ns);
        }
        let superseded = before.filter(|place| self.store.stored(*place).is_some_and(|stored| !stored.is_ended()));
        let mut evicted = None;
        if self.store.len() >= self.max_flows {
            evicted = self.evict().map(|(_, flow)| Box::new(flow));
            if evicted.is_none() {
                return self.fold(key, increment);
            }
        }
        self.sums_mut(key.point).opened += 1;
        let place = self.store.open(key, self.evicted.next_epoch(&key), owner, increment);
        let has_ended = self.end(place, increment);
        Applied { has_ended, superseded, evicted, ..Applied::at(FlowChange::Opened, Some(place)) }
    }

    fn fold(&mut self, key: FlowKey, increment: &Increment) -> Applied {
        let is_new = self.untracked.fold_increment(&key, increment);
        self.sums_mut(key.point).opened += u64::from(is_new);
        if increment.ended.is_some() {
            self.untracked.forget(&key);
        }
        Applied::at(FlowChange::Folded, None)
    }

    /// Ends the flow if the increment is the last one of its entry. Returns whether it was live.
    fn end(&mut self, place: Place, increment: &Increment) -> bool {
        let has_ended = increment.ended.is_some_and(|reason| self.store.end(place, reason));
        if has_ended && self.store.is_newest(place) {
            self.move_icmp_error(place, u64::MAX);
        }
        has_ended
    }

    /// Moves the ICMP errors of a flow that arrived before `until_ns` into the flow, so that the
    /// next flow with this key does not get them. Returns whether the flow changed.
    fn move_icmp_error(&mut self, place: Place, until_ns: u64) -> bool {
        let Some(flow) = self.store.flow_mut(place) else { return false };
        let mut is_changed = false;
        for by_target in [false, true] {
            let key = (flow.key, by_target);
            let is_due = self.icmp_errors.get(&key).is_some_and(|pending| pending.time_ns < until_ns);
            if is_due
                && let Some(pending) = self.icmp_errors.remove(&key)
                && is_response(flow, by_target)
            {
                flow.icmp_error = Some(pending.error);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Assigns the ICMP errors that no live flow has for `MAX_DRAINS_WITHOUT_FLOW` drains: to the
    /// ended flow with their key, or to the endpoint of a folded flow. To be called after each
    /// drain. Returns the places of the flows that changed.
    pub fn settle_icmp_errors(&mut self) -> Vec<Place> {
        let mut due = Vec::new();
        for (key, pending) in &mut self.icmp_errors {
            let found = self.store.find(&key.0);
            let has_flow = match found.and_then(|place| self.store.stored(place)) {
                Some(stored) => !stored.is_ended(),
                // The error of an untracked flow counts once, however often it is sent.
                None => self.untracked.has(&key.0),
            };
            pending.drains = if has_flow { 0 } else { pending.drains + 1 };
            if pending.drains >= MAX_DRAINS_WITHOUT_FLOW {
                due.push((*key, found));
            }
        }
        let mut changed = Vec::new();
        for (key, found) in due {
            match found {
                Some(place) if self.move_icmp_error(place, u64::MAX) => changed.push(place),
                Some(_) => {}
                None => self.fold_icmp_error(key),
            }
        }
        changed
    }

    /// Adds an ICMP error to the endpoint of a folded flow.
    fn fold_icmp_error(&mut self, (key, by_target): (FlowKey, bool)) {
        self.icmp_errors.remove(&(key, by_target));
        if !by_target && !self.evicted.add_unreachable(&key) && !self.untracked.add_unreachable(&key) {
            self.icmp_errors_lost += 1;
        }
    }

    /// Folds the flow that ended first into its endpoint and returns it; `None` if all flows are
    /// live. The next flow that is opened reuses the place.
    pub fn evict(&mut self) -> Option<(Place, Flow)> {
        let (place, flow) = self.store.remove_oldest_ended()?;
        self.evicted.fold_flow(&flow);
        Some((place, flow))
    }

    /// Records an ICMP error. Ignores errors that do not end an attempt, and errors sent by the
    /// side that opened the flow: it sends them for answers that arrived after it stopped waiting.
    ///
    /// Returns the place of the flow if it has ended and the error was added to it.
    pub fn note_icmp_error(&mut self, quoted: QuotedError) -> Option<Place> {
        let QuotedError { flow, error, by_target, time_ns } = quoted;
        if !error.is_failure(flow.remote.addr) {
            return None;
        }
        let found = self.store.find(&flow);
        let ended = found.and_then(|place| self.store.ended_mut(place));
        // A later error may belong to the next flow with this key, which was not drained yet.
        if let Some(ended) = ended.filter(|ended| time_ns <= ended.last_seen_ns) {
            let is_response = is_response(ended, by_target);
            if is_response {
                ended.icmp_error = Some(error);
            }
            return found.filter(|_| is_response);
        }
        let has_room = self.icmp_errors.len() < self.max_flows;
        if has_room || self.icmp_errors.contains_key(&(flow, by_target)) {
            self.icmp_errors.insert((flow, by_target), PendingError { error, time_ns, drains: 0 });
        } else {
            self.icmp_errors_lost += 1;
        }
        None
    }

    /// The individually tracked flows of one observation point, sorted by the time of their first
    /// packet.
    pub fn flows(&self, point: ObservationPoint) -> impl ExactSizeIterator<Item = Flow> {
        let flow = |place| self.at(place).expect("a place of this table");
        self.places(point).into_iter().map(flow)
    }

    /// The places of the individually tracked flows of one observation point, sorted by the time of
    /// their first packet.
    pub fn places(&self, point: ObservationPoint) -> Vec<Place> {
        let at_point = self.store.places().filter(|(_, stored)| stored.flow.key.point == point);
        let mut places: Vec<(Place, &StoredFlow)> = at_point.collect();
        places.sort_by_key(|(_, stored)| (stored.flow.first_seen_ns, stored.flow.id()));
        places.into_iter().map(|(place, _)| place).collect()
    }

    /// The places of all live flows, in no particular order.
    pub fn live_places(&self) -> Vec<Place> {
        self.store.places().filter(|(_, stored)| !stored.is_ended()).map(|(place, _)| place).collect()
    }

    /// All individually tracked flows, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.store.iter().map(|stored| &stored.flow)
    }

    /// Whether all tracked flows are live and there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.store.len() >= self.max_flows && !self.store.has_ended()
    }

    /// Whether a flow with this key is tracked individually. On the loopback, either end can be the
    /// local one.
    pub fn has(&self, key: &FlowKey) -> bool {
        let turned = FlowKey { local: key.remote, remote: key.local, ..*key };
        let is_loopback = key.point == ObservationPoint::Loopback;
        self.store.find(key).is_some() || is_loopback && self.store.find(&turned).is_some()
    }

    /// Whether a live flow with this key is tracked individually. On the loopback, either end can
    /// be the local one.
    pub fn has_live(&self, key: &FlowKey) -> bool {
        let turned = FlowKey { local: key.remote, remote: key.local, ..*key };
        let is_live = |key: &FlowKey| {
            let found = self.store.find(key).and_then(|place| self.store.stored(place));
            found.is_some_and(|stored| !stored.is_ended())
        };
        is_live(key) || key.point == ObservationPoint::Loopback && is_live(&turned)
    }

    fn flows_with_errors(&self, point: ObservationPoint) -> impl Iterator<Item = Flow> {
        let at_point = move |stored: &&StoredFlow| stored.flow.key.point == point;
        self.store.iter().filter(at_point).map(|stored| self.with_error(stored))
    }

    /// The flow with its ICMP error: the one sent by the side that did not open the flow.
    fn with_error(&self, stored: &StoredFlow) -> Flow {
        let flow = stored.flow.clone();
        Flow { icmp_error: self.pending_error(stored).or(flow.icmp_error), ..flow }
    }

    /// The ICMP error that is not yet part of a live flow.
    fn pending_error(&self, stored: &StoredFlow) -> Option<IcmpError> {
        let flow = &stored.flow;
        if stored.is_ended() || self.icmp_errors.is_empty() {
            return None;
        }
        let sent_by_target = flow.opened_by == Direction::Ingress;
        self.icmp_errors.get(&(flow.key, sent_by_target)).map(|pending| pending.error)
    }

    /// The place of the newest flow with this key, if it is tracked individually.
    pub fn place(&self, key: &FlowKey) -> Option<Place> {
        self.store.find(key)
    }

    /// The newest flow with this key, if it is tracked individually.
    pub fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.store.find(key).and_then(|place| self.at(place))
    }

    /// Whether the flow at a place is the newest one with its key.
    pub fn is_newest(&self, place: Place) -> bool {
        self.store.is_newest(place)
    }

    /// The flow at a place; `None` if there is none.
    pub fn at(&self, place: Place) -> Option<Flow> {
        self.store.stored(place).map(|stored| self.with_error(stored))
    }

    /// Number of flows of one observation point so far; a lower bound if
    /// [`FoldedCounts::at_least`] is set.
    pub fn opened(&self, point: ObservationPoint) -> u64 {
        self.sums(point).opened
    }

    /// The endpoints of the flows that were never tracked individually.
    pub fn untracked_endpoints(&self) -> impl Iterator<Item = (ObservationPoint, Endpoint)> {
        self.untracked.endpoints()
    }

    /// Restores a table from its parts: flows, endpoints of folded flows, remainders of the link,
    /// and how much was folded.
    pub fn of_parts(
        flows: Vec<Flow>,
        folded: Vec<(ObservationPoint, Endpoint)>,
        remainders: Remainders,
        counts: FoldedCounts,
    ) -> Self {
        let mut table = Self::new(flows.len());
        table.link.counted += remainders.sum(|_| true);
        table.link.remainders = remainders;
        table.icmp_errors_lost = counts.icmp_errors;
        table.untracked = FoldedFlows::of_parts(folded, counts);
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            let folded = table.untracked.counters(point);
            table.sums_mut(point).counted += folded;
        }
        for flow in flows {
            table.sums_mut(flow.key.point).counted += flow.counters;
            table.store.insert(flow);
        }
        table
    }

    /// The endpoints of one observation point, largest first. Folded flows are included, so the sum
    /// equals [`FlowTable::flows_total`].
    pub fn endpoints(&self, point: ObservationPoint) -> Vec<Endpoint> {
        let mut folded = self.evicted.at(point);
        self.untracked.add_to(&mut folded, point);
        for (key, _) in self.icmp_errors.keys().filter(|(key, by_target)| !by_target && key.point == point) {
            if self.store.find(key).is_none()
                && let Some(part) = folded.get_mut(&super::EndpointKey::of(key, Direction::Egress))
            {
                part.failed.unreachable += 1;
            }
        }
        endpoint::collect(self.flows_with_errors(point), folded.iter())
    }

    /// Counts of all packets of one observation point, in flows and remainders.
    pub fn counted(&self, point: ObservationPoint) -> PerDirection<Counters> {
        self.sums(point).counted
    }

    /// Counts of all flows of one observation point, folded ones included.
    pub fn flows_total(&self, point: ObservationPoint) -> PerDirection<Counters> {
        let tracked = self.store.iter().filter(|stored| stored.flow.key.point == point);
        let folded = [self.evicted.counters(point), self.untracked.counters(point)];
        tracked.map(|stored| stored.flow.counters).chain(folded).sum()
    }

    /// Counts of what the target sent and received: everything except link housekeeping.
    pub fn totals(&self, point: ObservationPoint) -> PerDirection<Counters> {
        let mut totals = self.flows_total(point);
        totals += self.remainders(point).sum(|kind: RemainderKind| !kind.is_housekeeping());
        totals
    }

    /// The same as [`FlowTable::totals`], in constant time.
    pub fn totals_by_sums(&self, point: ObservationPoint) -> PerDirection<Counters> {
        let sums = self.sums(point);
        let housekeeping = sums.remainders.sum(RemainderKind::is_housekeeping);
        sums.counted.zip(housekeeping, |all, housekeeping| all - housekeeping)
    }

    /// The remainders of one observation point.
    pub fn remainders(&self, point: ObservationPoint) -> &Remainders {
        &self.sums(point).remainders
    }

    /// How much was folded: evicted flows and flows that were never tracked individually.
    pub fn folded(&self) -> FoldedCounts {
        self.evicted.counts().plus(self.untracked()).with_icmp_errors(self.icmp_errors_lost)
    }

    /// The flows that were never tracked individually. Consumers receive no records of them.
    pub fn untracked(&self) -> FoldedCounts {
        self.untracked.counts().with_icmp_errors(self.icmp_errors_lost)
    }

    /// Number of flows that are tracked individually, at both observation points.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether no flow is tracked individually.
    pub fn is_empty(&self) -> bool {
        self.store.len() == 0
    }

    fn sums(&self, point: ObservationPoint) -> &PointSums {
        match point {
            ObservationPoint::Link => &self.link,
            ObservationPoint::Loopback => &self.loopback,
        }
    }

    fn sums_mut(&mut self, point: ObservationPoint) -> &mut PointSums {
        match point {
            ObservationPoint::Link => &mut self.link,
            ObservationPoint::Loopback => &mut self.loopback,
        }
    }
}

/// A duration in nanoseconds.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether an ICMP error responds to the side that opened the flow.
fn is_response(flow: &Flow, by_target: bool) -> bool {
    by_target == (flow.opened_by == Direction::Ingress)
}

impl Default for FlowTable {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FLOWS)
    }
}
