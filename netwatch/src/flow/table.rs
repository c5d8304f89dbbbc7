//! The flow table of user space: adds up what the drain hands over, in bounded memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use indexmap::IndexMap;

use super::endpoint::{self, FoldedEndpoint};
use super::{
    Counters, Direction, Endpoint, EndpointKey, Flow, FlowKey, IcmpError, Increment, ObservationPoint, PerDirection,
    Protocol, Quoted, RemainderKind, Remainders, Traffic,
};

/// Flows kept one by one unless configured otherwise: about 30 MB when full (measured), next to nothing while there are few.
pub const DEFAULT_MAX_FLOWS: usize = 65_536;

/// Fingerprints (8 bytes) of folded flows are kept for this many times `max_flows`, so that a folded flow is counted once however often it grows.
const FINGERPRINTS_PER_FLOW: usize = 4;

/// Everything counted so far.
///
/// Beyond `max_flows` flows, further ones are folded into their endpoint; beyond as many folded endpoints, into one for
/// each protocol and direction. Totals stay exact, only detail is lost, and [`Table::folded`] says how much.
#[derive(Debug)]
pub struct Table {
    max_flows: usize,
    /// In the order in which they came.
    flows: IndexMap<FlowKey, Flow>,
    /// Behind the flow that grew last. The drain hands over in the same order each time, so that this is most often the next one, and neither
    /// hashed nor searched for.
    next: usize,
    folded: BTreeMap<(ObservationPoint, EndpointKey), FoldedEndpoint>,
    fingerprints: HashSet<u64>,
    hasher: RandomState,
    counts: Folded,
    /// Apart from the flows, because a sample usually arrives before the drain that brings its flow.
    /// By flow, and by whether the target sent it.
    icmp_errors: HashMap<(FlowKey, bool), IcmpError>,
    link: ScopeSums,
    loopback: ScopeSums,
}

/// What is kept for the veth and for `lo` each.
#[derive(Debug, Default)]
struct ScopeSums {
    counted: PerDirection<Counters>,
    remainders: Remainders,
    /// Distinct flows, folded ones included as far as they can be told apart.
    opened: u64,
}

/// Detail that the table had no room for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Flows that were folded into their endpoint.
    pub flows: u64,
    /// There were more than could be told apart, so `flows` is a lower bound.
    pub at_least: bool,
    /// ICMP errors that could not be noted.
    pub icmp_errors: u64,
    /// What the folded flows of the link carried.
    pub counters: PerDirection<Counters>,
}

impl Table {
    /// An empty table that keeps at most `max_flows` flows one by one.
    pub fn new(max_flows: usize) -> Self {
        Self {
            max_flows,
            flows: IndexMap::new(),
            next: 0,
            folded: BTreeMap::new(),
            fingerprints: HashSet::new(),
            hasher: RandomState::new(),
            counts: Folded::default(),
            icmp_errors: HashMap::new(),
            link: ScopeSums::default(),
            loopback: ScopeSums::default(),
        }
    }

    /// Adds growth: counters are added, times widened, facts replaced.
    pub fn apply(&mut self, increment: Increment) {
        self.keep(increment);
    }

    /// [`Table::apply`], and the place of the flow, if it has an entry of its own: flows are counted from 0 as they come, and stay.
    pub fn keep(&mut self, increment: Increment) -> Option<usize> {
        let sums = self.sums_mut(increment.scope);
        sums.counted += increment.counters;
        match increment.traffic {
            Traffic::Flow(key) => self.apply_flow(key, &increment),
            remainder => {
                sums.remainders.add(remainder, increment.counters);
                None
            }
        }
    }

    fn apply_flow(&mut self, key: FlowKey, increment: &Increment) -> Option<usize> {
        let place = match self.place_of(&key) {
            Some(place) => {
                self.flows[place].absorb(increment);
                place
            }
            None if self.flows.len() < self.max_flows => {
                self.sums_mut(key.scope).opened += 1;
                self.flows.insert_full(key, Flow::new(key, increment)).0
            }
            None => {
                self.fold(key, increment);
                return None;
            }
        };
        self.next = place + 1;
        Some(place)
    }

    fn place_of(&self, key: &FlowKey) -> Option<usize> {
        let is_next = self.flows.get_index(self.next).is_some_and(|(next, _)| next == key);
        if is_next { Some(self.next) } else { self.flows.get_index_of(key) }
    }

    fn fold(&mut self, key: FlowKey, increment: &Increment) {
        let new = self.is_new_folded(&key);
        let endpoint = self.folded_endpoint(EndpointKey::of(&key, increment.opened_by), increment.scope);
        endpoint.counters += increment.counters;
        endpoint.flows += u64::from(new);
        let is_tcp = key.protocol == Protocol::TCP.0 && !key.fragment;
        endpoint.connections += if is_tcp { u64::from(increment.connections) } else { u64::from(new) };
        self.counts.flows += u64::from(new);
        self.sums_mut(key.scope).opened += u64::from(new);
        if increment.scope == ObservationPoint::Link {
            self.counts.counters += increment.counters;
        }
    }

    fn is_new_folded(&mut self, key: &FlowKey) -> bool {
        let fingerprint = self.hasher.hash_one(key);
        if self.fingerprints.len() < self.max_flows.saturating_mul(FINGERPRINTS_PER_FLOW) {
            return self.fingerprints.insert(fingerprint);
        }
        self.counts.at_least |= !self.fingerprints.contains(&fingerprint);
        false
    }

    fn folded_endpoint(&mut self, key: EndpointKey, scope: ObservationPoint) -> &mut FoldedEndpoint {
        let room = self.folded.len() < self.max_flows || self.folded.contains_key(&(scope, key));
        let key = if room { key } else { key.coarsened() };
        self.folded.entry((scope, key)).or_default()
    }

    /// An ICMP error was seen. Errors that end no attempt are ignored, as are in the end those that whoever opened the flow sent: an answer that
    /// came when nobody waited for it any more.
    pub fn note_icmp_error(&mut self, quoted: Quoted) {
        let Quoted { flow, error, by_target } = quoted;
        if !error.is_failure(flow.remote.addr) {
            return;
        }
        if self.icmp_errors.len() < self.max_flows || self.icmp_errors.contains_key(&(flow, by_target)) {
            self.icmp_errors.insert((flow, by_target), error);
        } else {
            self.counts.icmp_errors += 1;
        }
    }

    /// The flows of one scope that have an entry of their own, in the order in which they began. Sorted before they are copied: there may be
    /// many.
    pub fn flows(&self, scope: ObservationPoint) -> impl ExactSizeIterator<Item = Flow> {
        let mut flows: Vec<&Flow> = self.flows.values().filter(|flow| flow.key.scope == scope).collect();
        flows.sort_by_key(|flow| (flow.first_seen_ns, flow.key));
        flows.into_iter().map(|flow| self.with_error(flow))
    }

    /// Every flow that has an entry of its own: who opened it, and when it was seen first and last.
    pub fn lives(&self) -> impl Iterator<Item = (FlowKey, Direction, u64, u64)> {
        self.flows.values().map(|flow| (flow.key, flow.opened_by, flow.first_seen_ns, flow.last_seen_ns))
    }

    /// Whether further flows get no entry of their own.
    pub fn is_full(&self) -> bool {
        self.flows.len() >= self.max_flows
    }

    /// Whether a flow has an entry of its own; on the loopback by either end.
    pub fn has(&self, key: &FlowKey) -> bool {
        let turned = FlowKey { local: key.remote, remote: key.local, ..*key };
        self.flows.contains_key(key) || key.scope == ObservationPoint::Loopback && self.flows.contains_key(&turned)
    }

    fn flows_with_errors(&self, scope: ObservationPoint) -> impl Iterator<Item = Flow> {
        self.flows.values().filter(move |flow| flow.key.scope == scope).map(|flow| self.with_error(flow))
    }

    fn with_error(&self, flow: &Flow) -> Flow {
        Flow { icmp_error: self.icmp_error(flow), ..flow.clone() }
    }

    /// What the other side than the opener said.
    fn icmp_error(&self, flow: &Flow) -> Option<IcmpError> {
        self.icmp_errors.get(&(flow.key, flow.opened_by == Direction::Ingress)).copied()
    }

    /// One flow, if it has an entry of its own.
    pub fn flow(&self, key: &FlowKey) -> Option<Flow> {
        self.flows.get(key).map(|flow| self.with_error(flow))
    }

    /// The flow at a place that [`Table::keep`] gave.
    pub fn flow_at(&self, place: usize) -> Option<Flow> {
        self.flows.get_index(place).map(|(_, flow)| self.with_error(flow))
    }

    /// Flows that began so far in one scope; a lower bound where [`Folded::at_least`] is set.
    pub fn opened(&self, scope: ObservationPoint) -> u64 {
        self.sums(scope).opened
    }

    /// The parts of endpoints that are flows without an entry of their own.
    pub fn folded_endpoints(&self) -> impl Iterator<Item = (ObservationPoint, Endpoint)> {
        self.folded.iter().map(|((scope, key), part)| (*scope, part.alone(*key)))
    }

    /// How many there are of those.
    pub fn folded_endpoint_count(&self) -> usize {
        self.folded.len()
    }

    /// A table of what was kept of one: flows, the parts of endpoints that were folded, what belongs to no flow of the link, and how much was folded.
    pub fn of_parts(
        flows: Vec<Flow>,
        folded: Vec<(ObservationPoint, Endpoint)>,
        remainders: Remainders,
        counts: Folded,
    ) -> Self {
        let mut table = Self { counts, ..Self::new(flows.len()) };
        table.link.counted += remainders.sum(|_| true);
        table.link.remainders = remainders;
        for (scope, endpoint) in folded {
            table.sums_mut(scope).counted += endpoint.counters;
            table.folded.insert((scope, endpoint.key), endpoint.into());
        }
        for flow in flows {
            table.sums_mut(flow.key.scope).counted += flow.counters;
            let by_target = flow.opened_by == Direction::Ingress;
            table.icmp_errors.extend(flow.icmp_error.map(|error| ((flow.key, by_target), error)));
            table.flows.insert(flow.key, flow);
        }
        table
    }

    /// The endpoints of one scope, largest first, folded flows included: they add up to the flows' total exactly.
    pub fn endpoints(&self, scope: ObservationPoint) -> Vec<Endpoint> {
        let mut folded: BTreeMap<EndpointKey, FoldedEndpoint> =
            self.folded.iter().filter(|((of, _), _)| *of == scope).map(|((_, key), part)| (*key, *part)).collect();
        let received = self.icmp_errors.keys().filter(|(_, by_target)| !by_target).map(|(key, _)| key);
        for key in received.filter(|key| key.scope == scope && !self.flows.contains_key(*key)) {
            if let Some(part) = folded.get_mut(&EndpointKey::of(key, Direction::Egress)) {
                part.failed.unreachable += 1;
            }
        }
        endpoint::collect(self.flows_with_errors(scope), folded.iter())
    }

    /// Every packet of one scope, whatever it was counted under.
    pub fn counted(&self, scope: ObservationPoint) -> PerDirection<Counters> {
        self.sums(scope).counted
    }

    /// What all flows of one scope carried, folded ones included.
    pub fn flows_total(&self, scope: ObservationPoint) -> PerDirection<Counters> {
        let own = self.flows.values().filter(|flow| flow.key.scope == scope).map(|flow| flow.counters);
        let folded = self.folded.iter().filter(|((of, _), _)| *of == scope).map(|(_, part)| part.counters);
        own.chain(folded).sum()
    }

    /// What the target sent and received: everything but link housekeeping.
    pub fn totals(&self, scope: ObservationPoint) -> PerDirection<Counters> {
        let mut totals = self.flows_total(scope);
        totals += self.remainders(scope).sum(|kind: RemainderKind| !kind.is_housekeeping());
        totals
    }

    /// The same as [`Table::totals`] without looking at each flow.
    pub fn totals_by_sums(&self, scope: ObservationPoint) -> PerDirection<Counters> {
        let sums = self.sums(scope);
        sums.counted.zip(sums.remainders.sum(RemainderKind::is_housekeeping), |all, housekeeping| all - housekeeping)
    }

    /// What belongs to no flow.
    pub fn remainders(&self, scope: ObservationPoint) -> &Remainders {
        &self.sums(scope).remainders
    }

    /// The detail there was no room for.
    pub fn folded(&self) -> Folded {
        self.counts
    }

    fn sums(&self, scope: ObservationPoint) -> &ScopeSums {
        match scope {
            ObservationPoint::Link => &self.link,
            ObservationPoint::Loopback => &self.loopback,
        }
    }

    fn sums_mut(&mut self, scope: ObservationPoint) -> &mut ScopeSums {
        match scope {
            ObservationPoint::Link => &mut self.link,
            ObservationPoint::Loopback => &mut self.loopback,
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FLOWS)
    }
}

#[cfg(test)]
mod tests;
