//! The flow table in user space: sums the increments of a meter in bounded memory. It contains only
//! counts; the session keeps the names and processes of flows.

mod activity;
mod departures;
mod folded;
mod icmp;
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
    Counters, Direction, EndReason, Endpoint, Flow, FlowKey, Increment, ObservationPoint, PerDirection, RemainderKind,
    Remainders, Traffic,
};
use icmp::PendingError;
use store::{FlowStore, Owner, StoredFlow};

/// Default maximum number of flows that are tracked individually.
pub const DEFAULT_MAX_FLOWS: usize = 65_536;
/// Default idle timeout of flows of other protocols than TCP: as long as Linux's connection
/// tracking keeps a UDP stream.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that was counted so far.
///
/// The table tracks live flows and the most recent ended flows individually, at most `max_flows` in
/// all. When it is full, the flow that ended first is evicted: folded into its endpoint. If none
/// has ended, the one ends that was idle for longest without an entry in the meter. When the meter
/// has entries of all flows, new flows are folded immediately. Totals stay exact;
/// [`FlowTable::folded`] returns how much was folded.
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
    /// The flow that was at this place before. It was folded into its endpoint to make room.
    pub evicted: Option<Box<Flow>>,
}

impl Applied {
    fn at(change: FlowChange, place: Option<Place>) -> Self {
        Self { change, place, had_ended: false, has_ended: false, evicted: None }
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
        Applied { has_ended, evicted, ..Applied::at(FlowChange::Opened, Some(place)) }
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
        increment.ended.is_some_and(|reason| self.end_for(place, reason))
    }

    fn end_for(&mut self, place: Place, reason: EndReason) -> bool {
        let has_ended = self.store.end(place, reason);
        if has_ended && self.store.is_newest(place) {
            self.move_icmp_error(place, u64::MAX);
        }
        has_ended
    }

    /// Ends an idle flow if this increment opens a flow: the one with the same key before it, or,
    /// if the table is full, the one that was idle for longest, to make room. To be called before
    /// [`FlowTable::apply`]. Returns the place of the flow that ended.
    pub fn end_idle(&mut self, increment: &Increment) -> Option<Place> {
        let Traffic::Flow(key) = increment.traffic else { return None };
        if !self.store.has_idle() {
            return None;
        }
        let before = match self.store.owner(&key, increment, self.idle_timeout_ns) {
            Owner::Tracked(_) => return None,
            Owner::New(None) if self.untracked.has(&key) => return None,
            Owner::New(before) => before,
            Owner::NewBefore(_) => None,
        };
        if let Some(before) = before.and_then(|place| self.store.stored(place).filter(|before| before.is_idle())) {
            let is_tcp = before.flow.is_tcp();
            let place = self.store.find(&key)?;
            self.move_icmp_error(place, increment.first_seen_ns);
            self.store.end(place, if is_tcp { EndReason::EndOfFlow } else { EndReason::IdleTimeout });
            return Some(place);
        }
        if self.store.len() < self.max_flows || self.store.has_ended() {
            return None;
        }
        let place = self.store.oldest_idle()?;
        self.end_for(place, EndReason::LackOfResources);
        Some(place)
    }

    /// Folds the flow that ended first into its endpoint and returns it; `None` if all flows are
    /// live. The next flow that is opened reuses the place.
    pub fn evict(&mut self) -> Option<(Place, Flow)> {
        let (place, flow) = self.store.remove_oldest_ended()?;
        self.evicted.fold_flow(&flow);
        Some((place, flow))
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

    /// Whether there is no room for another flow, and no flow can be evicted.
    pub fn is_full(&self) -> bool {
        self.store.len() >= self.max_flows && !self.store.has_ended() && !self.store.has_idle()
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

impl Default for FlowTable {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FLOWS)
    }
}
