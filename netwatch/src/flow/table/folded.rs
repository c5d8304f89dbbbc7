//! Flows that are folded into their endpoints: details are lost, counts are kept.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::hash_table::Entry;

use super::shards::ShardedTable;
use crate::flow::endpoint::FoldedEndpoint;
use crate::flow::{
    Counters, Direction, Endpoint, EndpointKey, Flow, FlowKey, Increment, ObservationPoint, PerDirection, Protocol,
};

/// Maximum number of fingerprints of folded flows (16 bytes each), as a multiple of `max_flows`.
/// With a fingerprint, a folded flow that grows again is not counted again, and a reused key gets a
/// new epoch.
const MAX_FINGERPRINTS_PER_FLOW: usize = 4;

/// How much was folded because the flow table was full.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FoldedCounts {
    /// Flows that were folded into their endpoint.
    pub flows: u64,
    /// True if `flows` is a lower bound, because the fingerprints were used up.
    pub at_least: bool,
    /// ICMP errors that were discarded.
    pub icmp_errors: u64,
    /// Counts of the folded flows of the link.
    pub counters: PerDirection<Counters>,
}

impl FoldedCounts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut counters = self.counters;
        counters += other.counters;
        Self {
            flows: self.flows.saturating_add(other.flows),
            at_least: self.at_least || other.at_least,
            icmp_errors: self.icmp_errors.saturating_add(other.icmp_errors),
            counters,
        }
    }

    pub(super) fn with_icmp_errors(self, icmp_errors: u64) -> Self {
        Self { icmp_errors, ..self }
    }
}

/// Folded flows by endpoint. When there are `max_endpoints` endpoints, further ones are counted by
/// protocol and direction only.
#[derive(Debug)]
pub struct FoldedFlows {
    max_endpoints: usize,
    endpoints: BTreeMap<(ObservationPoint, EndpointKey), FoldedEndpoint>,
    /// The fingerprint of each key, which is its hash, and the epoch of the next record with that
    /// key.
    fingerprints: ShardedTable<(u64, u32)>,
    fingerprint_count: usize,
    hasher: RandomState,
    counts: FoldedCounts,
    /// Failed attempts of the target in the folded flows of the link.
    link_failed: u64,
    /// Higher than the epoch of every folded flow without a fingerprint.
    epoch_floor: u32,
}

impl Default for FoldedFlows {
    fn default() -> Self {
        Self::new(super::DEFAULT_MAX_FLOWS)
    }
}

/// Whether failed attempts of a flow are those of the target on the link.
fn is_counted(point: ObservationPoint, opened_by: Direction) -> bool {
    point == ObservationPoint::Link && opened_by == Direction::Egress
}

impl FoldedFlows {
    pub(super) fn new(max_endpoints: usize) -> Self {
        Self {
            max_endpoints,
            endpoints: BTreeMap::new(),
            fingerprints: ShardedTable::default(),
            fingerprint_count: 0,
            hasher: RandomState::new(),
            counts: FoldedCounts::default(),
            link_failed: 0,
            epoch_floor: 0,
        }
    }

    pub(super) fn of_parts(endpoints: Vec<(ObservationPoint, Endpoint)>, counts: FoldedCounts) -> Self {
        let mut folded = Self { counts, ..Self::new(0) };
        for (point, endpoint) in endpoints {
            folded.endpoints.entry((point, endpoint.key)).or_default().add(&endpoint.into());
        }
        let is_own = |(point, key): &(ObservationPoint, EndpointKey)| is_counted(*point, key.direction);
        let of_link = folded.endpoints.iter().filter(|(key, _)| is_own(key));
        folded.link_failed = of_link.map(|(_, part)| part.failed.attempts()).sum();
        folded.max_endpoints = folded.endpoints.len();
        folded.counts.icmp_errors = 0;
        folded
    }

    /// Folds a flow.
    pub fn fold_flow(&mut self, flow: &Flow) {
        let next_epoch = flow.epoch.saturating_add(1);
        if self.remember(&flow.key, next_epoch).is_none() {
            self.epoch_floor = self.epoch_floor.max(next_epoch);
        }
        let part = self.endpoint(EndpointKey::of(&flow.key, flow.opened_by), flow.key.point);
        part.flows += 1;
        part.connections = part.connections.saturating_add(flow.connections());
        part.counters += flow.counters;
        part.payload += flow.payload;
        let failed = flow.failed();
        part.failed += failed;
        self.link_failed += if is_counted(flow.key.point, flow.opened_by) { failed.attempts() } else { 0 };
        self.count(flow.key.point, flow.counters, true);
    }

    /// Adds the growth of a flow that was folded before. Failed attempts can be taken back.
    pub fn add_growth(&mut self, before: &Flow, now: &Flow) {
        let growth = now.counters.zip(before.counters, Counters::saturating_sub);
        let part = self.endpoint(EndpointKey::of(&before.key, before.opened_by), before.key.point);
        part.connections = part.connections.saturating_add(now.connections()).saturating_sub(before.connections());
        part.counters += growth;
        part.payload += now.payload.since(before.payload);
        part.failed = part.failed.plus(now.failed()).minus(before.failed());
        if is_counted(before.key.point, before.opened_by) {
            let failed = self.link_failed.saturating_add(now.failed().attempts());
            self.link_failed = failed.saturating_sub(before.failed().attempts());
        }
        self.count(before.key.point, growth, false);
    }

    /// Folds the growth of a flow that is not tracked individually. Returns whether the flow is
    /// new.
    pub(super) fn fold_increment(&mut self, key: &FlowKey, increment: &Increment) -> bool {
        let remembered = self.remember(key, 1);
        self.counts.at_least |= remembered.is_none();
        let is_new = remembered == Some(true);
        let part = self.endpoint(EndpointKey::of(key, increment.opened_by), key.point);
        part.counters += increment.counters;
        part.payload.grow(increment.payload);
        part.flows += u64::from(is_new);
        let is_tcp = key.protocol == Protocol::TCP.0 && !key.fragment;
        part.connections += if is_tcp { u64::from(increment.connections) } else { u64::from(is_new) };
        self.count(key.point, increment.counters, is_new);
        is_new
    }

    /// The counts without some of the flows.
    pub fn counts_without<'f>(&self, flows: impl Iterator<Item = &'f Flow>) -> FoldedCounts {
        flows.fold(self.counts, |counts, flow| {
            let of_link = if flow.key.point == ObservationPoint::Link { flow.counters } else { Default::default() };
            let counters = counts.counters.zip(of_link, Counters::saturating_sub);
            FoldedCounts { flows: counts.flows.saturating_sub(1), counters, ..counts }
        })
    }

    fn count(&mut self, point: ObservationPoint, counters: PerDirection<Counters>, is_new: bool) {
        self.counts.flows += u64::from(is_new);
        if point == ObservationPoint::Link {
            self.counts.counters += counters;
        }
    }

    /// Stores the fingerprint of a key. Returns whether it is new, or `None` if there is no room.
    fn remember(&mut self, key: &FlowKey, next_epoch: u32) -> Option<bool> {
        let fingerprint = self.hasher.hash_one(key);
        let has_room = self.fingerprint_count < self.max_endpoints.saturating_mul(MAX_FINGERPRINTS_PER_FLOW);
        let shard = self.fingerprints.of_mut(fingerprint);
        match shard.entry(fingerprint, |(known, _)| *known == fingerprint, |(known, _)| *known) {
            Entry::Occupied(mut entry) => {
                let (_, epoch) = entry.get_mut();
                *epoch = next_epoch.max(*epoch);
                Some(false)
            }
            Entry::Vacant(entry) if has_room => {
                entry.insert((fingerprint, next_epoch));
                self.fingerprint_count += 1;
                Some(true)
            }
            Entry::Vacant(_) => None,
        }
    }

    /// Whether a flow with this key was folded.
    pub(super) fn has(&self, key: &FlowKey) -> bool {
        self.remembered(key).is_some()
    }

    /// The epoch of the next record with this key, if the key has a fingerprint.
    fn remembered(&self, key: &FlowKey) -> Option<u32> {
        if self.fingerprint_count == 0 {
            return None;
        }
        let fingerprint = self.hasher.hash_one(key);
        let found = self.fingerprints.of(fingerprint).find(fingerprint, |(known, _)| *known == fingerprint);
        found.map(|(_, epoch)| *epoch)
    }

    /// Removes the fingerprint of a flow that ended, so that the next flow with this key is new.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        let fingerprint = self.hasher.hash_one(key);
        let shard = self.fingerprints.of_mut(fingerprint);
        if let Ok(entry) = shard.find_entry(fingerprint, |(known, _)| *known == fingerprint) {
            entry.remove();
            self.fingerprint_count -= 1;
        }
    }

    /// The epoch of a new record with this key.
    pub(super) fn next_epoch(&self, key: &FlowKey) -> u32 {
        if self.counts.flows == 0 {
            return 0;
        }
        self.remembered(key).unwrap_or(self.epoch_floor)
    }

    fn endpoint(&mut self, key: EndpointKey, point: ObservationPoint) -> &mut FoldedEndpoint {
        let has_room = self.endpoints.len() < self.max_endpoints || self.endpoints.contains_key(&(point, key));
        let key = if has_room { key } else { key.coarsened() };
        self.endpoints.entry((point, key)).or_default()
    }

    /// Adds an ICMP error of a flow that was opened by the target and folded. Returns false if the
    /// endpoint is not listed.
    pub(super) fn add_unreachable(&mut self, key: &FlowKey) -> bool {
        let part = self.endpoints.get_mut(&(key.point, EndpointKey::of(key, Direction::Egress)));
        let is_listed = part.map(|part| part.failed.unreachable += 1).is_some();
        self.link_failed += u64::from(is_listed && key.point == ObservationPoint::Link);
        is_listed
    }

    /// Whether the endpoint of a flow that the target opened is listed.
    pub(super) fn has_endpoint(&self, key: &FlowKey) -> bool {
        self.endpoints.contains_key(&(key.point, EndpointKey::of(key, Direction::Egress)))
    }

    /// Number and counts of the folded flows.
    pub fn counts(&self) -> FoldedCounts {
        self.counts
    }

    /// Failed attempts of the target in the folded flows of one observation point.
    pub(super) fn failed(&self, point: ObservationPoint) -> u64 {
        let is_own = |at: ObservationPoint, key: &EndpointKey| at == point && key.direction == Direction::Egress;
        self.endpoints.iter().filter(|((at, key), _)| is_own(*at, key)).map(|(_, part)| part.failed.attempts()).sum()
    }

    /// Failed attempts of the target in the folded flows of the link.
    pub(super) fn link_failed(&self) -> u64 {
        self.link_failed
    }

    /// Counts of the folded flows of one observation point.
    pub(super) fn counters(&self, point: ObservationPoint) -> PerDirection<Counters> {
        self.endpoints.iter().filter(|((at, _), _)| *at == point).map(|(_, part)| part.counters).sum()
    }

    /// The endpoints of the folded flows.
    pub fn endpoints(&self) -> impl Iterator<Item = (ObservationPoint, Endpoint)> {
        self.endpoints.iter().map(|((point, key), part)| (*point, part.into_endpoint(*key)))
    }

    /// The endpoints of one observation point.
    pub(super) fn at(&self, point: ObservationPoint) -> BTreeMap<EndpointKey, FoldedEndpoint> {
        let mut parts = BTreeMap::new();
        self.add_to(&mut parts, point);
        parts
    }

    /// Adds the endpoints of one observation point to `parts`.
    pub(super) fn add_to(&self, parts: &mut BTreeMap<EndpointKey, FoldedEndpoint>, point: ObservationPoint) {
        for ((_, key), part) in self.endpoints.iter().filter(|((at, _), _)| *at == point) {
            parts.entry(*key).or_default().add(part);
        }
    }
}
