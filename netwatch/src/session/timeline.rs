//! The series of a session: counts what happened since the last interval, flow by flow, so that an
//! interval costs nothing for flows that did not change.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use super::service_rates::ServiceRates;
use super::top_endpoints::TopEndpoints;
use crate::flow::{
    Counters, Direction, EndpointKey, FlowChange, FlowState, FlowTable, Increment, ObservationPoint, PerDirection,
    Place, Protocol, Traffic,
};
use crate::name::NewResponses;
use crate::report::{Interval, PeakRates, ResourceUsage, Series};

/// Maximum number of flows that are not tracked individually and are known to be active: as many as
/// the kernel can have.
const MAX_ACTIVE_UNTRACKED: usize = 1 << 20;
/// Maximum number of endpoints of which the first use is known.
const MAX_WATCHED_ENDPOINTS: usize = 65_536;

/// What the series contains of the flow at a place.
#[derive(Debug, Default, Clone, Copy)]
struct SeriesFlow {
    /// The number of the interval in which it was last active, plus one.
    active_in: u64,
    /// Its failed attempts.
    failed: u32,
    /// Those of the target: none of a flow that a remote opened.
    own_failed: u32,
    has_handshake: bool,
    is_connection: bool,
    is_open: bool,
}

/// The series, and what is not part of it yet.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub series: Series,
    /// The current interval so far, without its length and its totals.
    current: Interval,
    number: u64,
    /// By place, for flows of the link.
    counted: Vec<SeriesFlow>,
    /// Hashes of the flows that were active in this interval and have no place, because they are
    /// not tracked individually.
    active_untracked: HashSet<u64>,
    /// The endpoints with most traffic.
    top: TopEndpoints,
    /// The start of their current interval.
    top_start_ns: u64,
    /// The services of the target.
    rates: ServiceRates,
    /// TCP connections that are open.
    open: u64,
    /// Failed attempts of the target in the flows that have a place.
    failed: u64,
    before: SessionSums,
    /// The start of the first interval that changed since the last call of
    /// [`Timeline::take_changed`].
    changed_from: Option<u64>,
    /// The time of the first packet of each endpoint, if wanted.
    first_used: Option<HashMap<EndpointKey, u64>>,
    /// What the target used so far.
    usage: Option<ResourceUsage>,
    /// The newest memory of the target.
    memory: Option<u64>,
}

/// Numbers of the session so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct SessionSums {
    pub totals: PerDirection<Counters>,
    pub opened: u64,
    pub failed: u64,
    pub lost: u64,
    pub cpu_ns: u64,
}

/// What a flow adds to an interval.
#[derive(Debug, Clone, Copy)]
struct NewlyCounted {
    has_begun: bool,
    was_closed: bool,
    failed: u32,
    connect_ns: Option<u64>,
}

impl NewlyCounted {
    fn add_to(&self, interval: &mut Interval) {
        interval.connections += u64::from(self.has_begun);
        interval.closed += u64::from(self.was_closed);
        interval.failed += u64::from(self.failed);
        self.connect_ns.into_iter().for_each(|time_ns| interval.connect.add(time_ns, 1));
    }
}

/// Adds what TCP headers show.
fn add_tcp(interval: &mut Interval, increment: &Increment) {
    let Some(tcp) = &increment.tcp else { return };
    let PerDirection { egress, ingress } = tcp.retransmitted_packets;
    interval.retransmitted += egress + ingress;
    interval.tcp_packets += increment.counters.both().packets;
    // The mean of those since the previous drain.
    let trips = tcp.round_trips;
    trips.mean_ns().into_iter().for_each(|mean_ns| interval.round_trip.add(mean_ns, trips.count));
}

impl Timeline {
    pub(super) fn start(&mut self, started_ns: u64) {
        self.current.start_ns = started_ns;
        self.top_start_ns = started_ns;
        self.rates.start(started_ns);
    }

    /// Counts an increment of a flow of the link.
    pub(super) fn apply(&mut self, place: Option<Place>, change: FlowChange, increment: &Increment, table: &FlowTable) {
        let Traffic::Flow(key) = increment.traffic else { return };
        if increment.counters != PerDirection::default() {
            self.activate(place, change, increment);
        }
        if change != FlowChange::Grew {
            self.note_endpoint(increment);
        }
        self.rates.add(&key, change, increment);
        add_tcp(&mut self.current, increment);
        let state = place.and_then(|place| Some((place, table.state(place)?)));
        let counted = match state {
            Some((place, state)) => self.count(place, &state, state.failed_so_far),
            None => self.count_untracked(increment),
        };
        if let Some(endpoint) = self.top.interval(&key, increment.opened_by) {
            endpoint.totals += increment.counters;
            endpoint.opened += u64::from(change == FlowChange::Opened);
            add_tcp(endpoint, increment);
            counted.add_to(endpoint);
        }
    }

    pub(super) fn watch_endpoints(&mut self) {
        self.first_used.get_or_insert_default();
    }

    /// The time of the first packet of each endpoint, if they are watched.
    pub(super) fn first_used(&self) -> impl Iterator<Item = (EndpointKey, u64)> + '_ {
        self.first_used.iter().flatten().map(|(key, time_ns)| (*key, *time_ns))
    }

    fn note_endpoint(&mut self, increment: &Increment) {
        let (Some(first_used), Traffic::Flow(key)) = (&mut self.first_used, increment.traffic) else { return };
        let key = EndpointKey::of(&key, increment.opened_by);
        if first_used.len() < MAX_WATCHED_ENDPOINTS || first_used.contains_key(&key) {
            let first_ns = first_used.entry(key).or_insert(increment.first_seen_ns);
            *first_ns = increment.first_seen_ns.min(*first_ns);
        }
    }

    /// Counts a flow of the link as active, once per interval.
    fn activate(&mut self, place: Option<Place>, change: FlowChange, increment: &Increment) {
        let Some(place) = place else {
            let Traffic::Flow(key) = increment.traffic else { return };
            let hash = foldhash::fast::FixedState::default().hash_one((key, increment.epoch));
            // Beyond the limit a flow is counted once per drain.
            let is_new = self.active_untracked.len() >= MAX_ACTIVE_UNTRACKED || self.active_untracked.insert(hash);
            self.current.active += u64::from(is_new);
            return;
        };
        let number = self.number + 1;
        let last = std::mem::replace(&mut self.counted_mut(place).active_in, number);
        // Another flow may have been active at this place before in the same interval.
        self.current.active += u64::from(change == FlowChange::Opened || last != number);
    }

    fn counted_mut(&mut self, place: Place) -> &mut SeriesFlow {
        if place >= self.counted.len() {
            self.counted.resize(place + 1, SeriesFlow::default());
        }
        &mut self.counted[place]
    }

    /// Adds what the series does not contain yet of a flow of the link, and returns it.
    fn count(&mut self, place: Place, state: &FlowState, failed: u64) -> NewlyCounted {
        let failed = u32::try_from(failed).unwrap_or(u32::MAX);
        let counted = self.counted_mut(place);
        let is_new_handshake = state.handshake_rtt_ns.is_some() && !counted.has_handshake;
        let is_open = state.is_connection && state.is_live;
        let was_open = std::mem::replace(&mut counted.is_open, is_open);
        let was_connection = std::mem::replace(&mut counted.is_connection, state.is_connection);
        let failed_before = std::mem::replace(&mut counted.failed, failed);
        let own_failed = if state.opened_by == Direction::Egress { failed } else { 0 };
        let own_before = std::mem::replace(&mut counted.own_failed, own_failed);
        counted.has_handshake |= is_new_handshake;
        // One that began and was closed since the previous drain was never found open.
        let begins = state.is_connection && !was_connection || is_open && !was_open;
        self.failed = self.failed + u64::from(own_failed) - u64::from(own_before);
        self.open = self.open + u64::from(is_open) - u64::from(was_open);
        let is_connect = is_new_handshake && state.opened_by == Direction::Egress;
        let counted = NewlyCounted {
            has_begun: begins,
            was_closed: (begins || was_open) && !is_open,
            failed: failed.saturating_sub(failed_before),
            connect_ns: state.handshake_rtt_ns.filter(|_| is_connect),
        };
        // Failed attempts are the difference of two sums, because they can be taken back.
        NewlyCounted { failed: 0, ..counted }.add_to(&mut self.current);
        counted
    }

    /// Counts the handshake of a flow that has no place, and returns it.
    fn count_untracked(&mut self, increment: &Increment) -> NewlyCounted {
        let handshake_rtt_ns = increment.tcp.and_then(|tcp| tcp.handshake_rtt_ns);
        let connect_ns = handshake_rtt_ns.filter(|_| increment.opened_by == Direction::Egress);
        let counted = NewlyCounted { has_begun: false, was_closed: false, failed: 0, connect_ns };
        counted.add_to(&mut self.current);
        counted
    }

    /// The flow at this place was evicted. The table counts its failed attempts from now on.
    pub(super) fn evicted(&mut self, place: Place) {
        let Some(counted) = self.counted.get_mut(place).map(std::mem::take) else { return };
        self.failed -= u64::from(counted.own_failed);
        self.open -= u64::from(counted.is_open);
        self.current.closed += u64::from(counted.is_open);
    }

    /// Counts a flow that changed without an increment. With `is_last`, attempts that were not
    /// answered have failed.
    pub(super) fn recount(&mut self, place: Place, table: &FlowTable, is_last: bool) {
        if table.at(place).is_none_or(|flow| flow.key.point != ObservationPoint::Link) {
            return;
        }
        if let Some(state) = table.state(place) {
            let failed = if is_last { state.failed } else { state.failed_so_far };
            self.count(place, &state, failed);
        }
    }

    /// Sets what the target used so far, and its current memory, as far as they are known.
    pub(super) fn set_usage(&mut self, usage: Option<ResourceUsage>, memory: Option<u64>) {
        self.usage = usage.or(self.usage);
        self.memory = memory.or(self.memory);
    }

    pub(super) fn usage(&self) -> Option<ResourceUsage> {
        self.usage
    }

    pub(super) fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Adds the current interval to the series.
    pub(super) fn end_interval(&mut self, now_ns: u64, table: &FlowTable, lost: u64, responses: &NewResponses) {
        let sums = SessionSums {
            totals: table.totals_by_sums(ObservationPoint::Link),
            opened: table.opened(ObservationPoint::Link),
            failed: self.failed + table.folded_failed(),
            lost,
            cpu_ns: self.usage.map_or(0, |usage| usage.user_ns + usage.system_ns),
        };
        let before = std::mem::replace(&mut self.before, sums);
        let next = Interval { start_ns: now_ns, ..Interval::default() };
        let mut ended = std::mem::replace(&mut self.current, next);
        ended.length_ns = now_ns.saturating_sub(ended.start_ns);
        ended.totals = sums.totals.zip(before.totals, |now, before| now - before);
        ended.opened = sums.opened - before.opened;
        ended.failed = sums.failed.saturating_sub(before.failed);
        ended.lost = sums.lost.saturating_sub(before.lost);
        ended.cpu_ns = sums.cpu_ns.saturating_sub(before.cpu_ns);
        ended.open = self.open;
        ended.memory = self.memory;
        ended.dns_failed = responses.failed;
        responses.times_ns.iter().for_each(|time_ns| ended.dns.add(*time_ns, 1));
        let taken_back = self.series.take_back_failed(before.failed.saturating_sub(sums.failed));
        let changed_from = self.series.push(ended);
        self.changed_from = [self.changed_from, taken_back, changed_from].into_iter().flatten().min();
        self.number += 1;
        self.active_untracked.clear();
        self.rates.end_interval(now_ns);
    }

    /// Ends the current interval of the largest endpoints.
    pub(super) fn end_endpoints(&mut self, now_ns: u64) {
        let start_ns = std::mem::replace(&mut self.top_start_ns, now_ns);
        self.top.end_interval(start_ns, now_ns.saturating_sub(start_ns));
    }

    /// The whole series.
    pub(super) fn to_series(&self) -> Series {
        Series { endpoints: self.top.to_series(), ..self.series.clone() }
    }

    /// The highest rates of the services of the target, by protocol and local port.
    pub(super) fn peaks(&self) -> impl Iterator<Item = ((Protocol, u16), PeakRates)> + '_ {
        self.rates.peaks()
    }

    /// The start of the first interval that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Option<u64> {
        self.changed_from.take()
    }
}
