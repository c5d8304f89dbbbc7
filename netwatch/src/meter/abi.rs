//! Converts the types of the ABI to those of [`crate::flow`].

use std::net::{IpAddr, Ipv6Addr};

use netwatch_common::address::Address;
use netwatch_common::flow::{self as abi, FlowValue, kind, observation_point};
use netwatch_common::parse::protocol;
use netwatch_common::table::FlowEntry;
use netwatch_common::tcp;

use super::clock::Clock;
use super::payload;
use crate::flow::{
    Counters, Direction, EndReason, FIRST_EPHEMERAL_PORT, FlowKey, Housekeeping, Increment, Malformed,
    ObservationPoint, PayloadGrowth, PerDirection, RoundTripTimes, TcpFacts, Traffic, TransportAddress,
};

/// The change of an entry of the flow table between two drains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth<'a> {
    /// The entry's key.
    pub(super) key: &'a abi::EntryKey,
    /// Its counters and state at the last drain.
    pub(super) before: &'a FlowValue,
    /// Its counters and state now.
    pub(super) now: &'a FlowValue,
    /// Why the flow of the entry has ended; `None` while it may go on.
    pub(super) ended: Option<EndReason>,
    /// The entry has left the table.
    pub(super) is_last: bool,
}

impl<'a> Growth<'a> {
    /// The growth of an entry that stays in the table.
    pub(super) fn of(entry: &'a FlowEntry, before: &'a FlowValue) -> Self {
        Self { key: &entry.key, before, now: &entry.value, ended: None, is_last: false }
    }
}

/// Converts growth to an increment. `None` if nothing grew and the entry is still in the table.
pub(super) fn increment(growth: &Growth<'_>, clock: Clock) -> Option<Increment> {
    let Growth { key, before, now, ended, is_last } = *growth;
    if *before == *now && !is_last {
        return None;
    }
    let opener = opener(key, now);
    let (traffic, flipped) = traffic(key, opener.into());
    let opened_by = direction(opener);
    Some(Increment {
        traffic,
        point: observation_point_of(key.observation_point),
        counters: oriented(counters(before, now), flipped),
        payload: oriented_payload(payload::growth(key, before, now), flipped),
        first_seen_ns: clock.unix_ns(now.first_seen_ns),
        // Most packets have the time of the kernel's tick, which is behind the precise time of the
        // first packet.
        last_seen_ns: clock.unix_ns(now.last_seen_ns.max(now.first_seen_ns)),
        opened_by: if flipped { opposite(opened_by) } else { opened_by },
        connections: now.handshake.connections.wrapping_sub(before.handshake.connections).into(),
        initial_sequence: (now.handshake.connections != 0).then_some(now.handshake.isn),
        epoch: now.epoch,
        superseded: now.superseded != 0,
        ended,
        is_last,
        tcp: (key.protocol == protocol::TCP && key.kind <= kind::IPV6).then(|| tcp_facts(before, now, flipped)),
    })
}

/// The direction that opened a flow: that of its first packet. The rest of a TCP connection whose
/// handshake was not counted, because the table was full or the session began later, may begin with
/// a packet of the server: from an ephemeral port to one that is not, the target has connected.
fn opener(key: &abi::EntryKey, now: &FlowValue) -> u8 {
    let has_handshake = now.halves.iter().any(|half| half.flags & u32::from(tcp::SYN) != 0);
    let is_rest = key.kind <= kind::IPV6 && key.protocol == protocol::TCP && !has_handshake;
    let is_client = key.local_port >= FIRST_EPHEMERAL_PORT && key.remote_port < FIRST_EPHEMERAL_PORT;
    let on_link = key.observation_point != observation_point::LOOPBACK;
    if is_rest && is_client && on_link { abi::EGRESS } else { now.opened_by }
}

fn counters(before: &FlowValue, now: &FlowValue) -> PerDirection<Counters> {
    let [egress, ingress] = [0, 1].map(|half| half_counters(&before.halves[half].counts, &now.halves[half].counts));
    PerDirection { egress, ingress }
}

fn half_counters(before: &abi::Counts, now: &abi::Counts) -> Counters {
    let (skbs, bytes) = (now.skbs - before.skbs, now.bytes - before.bytes);
    let packets = skbs + (now.extra_packets - before.extra_packets);
    Counters { skbs, packets, bytes, wire_bytes: bytes + (now.extra_wire_bytes - before.extra_wire_bytes) }
}

/// Converts a key. On the loopback, the lower end is local in the ABI, but the opener is local in
/// [`crate::flow`]: returns true if the ends were swapped.
pub(super) fn traffic(key: &abi::EntryKey, opened_by: u32) -> (Traffic, bool) {
    let flipped =
        is_flow(key) && key.observation_point == observation_point::LOOPBACK && opened_by == u32::from(abi::INGRESS);
    let traffic = match key.kind {
        kind::HOUSEKEEPING => Traffic::Housekeeping(housekeeping(key.protocol)),
        kind::NON_IP => Traffic::NonIp(key.local_port),
        kind::MALFORMED => Traffic::Malformed(malformed(key.protocol)),
        kind::OVERFLOW => Traffic::Overflow(key.protocol),
        _ => Traffic::Flow(flow_key(key, flipped)),
    };
    (traffic, flipped)
}

fn is_flow(key: &abi::EntryKey) -> bool {
    key.kind < kind::HOUSEKEEPING
}

fn flow_key(key: &abi::EntryKey, flipped: bool) -> FlowKey {
    let is_v4 = matches!(key.kind, kind::IPV4 | kind::IPV4_FRAGMENT);
    let one = TransportAddress { addr: address(&key.local, is_v4), port: key.local_port };
    let other = TransportAddress { addr: address(&key.remote, is_v4), port: key.remote_port };
    let (local, remote) = if flipped { (other, one) } else { (one, other) };
    let fragment = matches!(key.kind, kind::IPV4_FRAGMENT | kind::IPV6_FRAGMENT);
    FlowKey { point: observation_point_of(key.observation_point), protocol: key.protocol, fragment, local, remote }
}

/// Converts an address. IPv6 packets may have IPv4-mapped addresses, so the kind of the key
/// determines the family.
fn address(address: &Address, is_v4: bool) -> IpAddr {
    let v6 = Ipv6Addr::from(address.bytes());
    v6.to_ipv4_mapped().filter(|_| is_v4).map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn observation_point_of(number: u8) -> ObservationPoint {
    if number == observation_point::LOOPBACK { ObservationPoint::Loopback } else { ObservationPoint::Link }
}

pub(super) fn direction(number: u8) -> Direction {
    if number == abi::EGRESS { Direction::Egress } else { Direction::Ingress }
}

pub(super) fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Egress => Direction::Ingress,
        Direction::Ingress => Direction::Egress,
    }
}

fn oriented<T>(value: PerDirection<T>, flipped: bool) -> PerDirection<T> {
    let PerDirection { egress, ingress } = value;
    if flipped { PerDirection { egress: ingress, ingress: egress } } else { PerDirection { egress, ingress } }
}

fn oriented_payload(growth: PayloadGrowth, flipped: bool) -> PayloadGrowth {
    PayloadGrowth { bytes: oriented(growth.bytes, flipped), ..growth }
}

fn tcp_facts(before: &FlowValue, now: &FlowValue, flipped: bool) -> TcpFacts {
    // The kernel's counters of 32 bits may wrap around between two drains, but only once.
    let both = |field: fn(&abi::Half) -> u32| {
        let growth = |half: usize| field(&now.halves[half]).wrapping_sub(field(&before.halves[half])).into();
        let [egress, ingress] = [0, 1].map(growth);
        oriented(PerDirection { egress, ingress }, flipped)
    };
    let [egress, ingress] =
        [0, 1].map(|half| now.halves[half].retransmitted_bytes - before.halves[half].retransmitted_bytes);
    let retransmitted_bytes = oriented(PerDirection { egress, ingress }, flipped);
    let [egress, ingress] = [0, 1].map(|half| now.halves[half].flags as u8);
    TcpFacts {
        flags: oriented(PerDirection { egress, ingress }, flipped),
        handshake_rtt_ns: (now.handshake.rtt_ns != before.handshake.rtt_ns).then_some(now.handshake.rtt_ns.into()),
        syns: both(|half| half.syns),
        syn_acks: both(|half| half.syn_acks),
        resets: both(|half| half.resets),
        retransmitted_packets: both(|half| half.retransmitted_packets),
        retransmitted_bytes,
        zero_windows: both(|half| half.zero_windows),
        round_trips: round_trips(&before.round_trips, &now.round_trips),
    }
}

fn round_trips(before: &abi::RoundTrips, now: &abi::RoundTrips) -> RoundTripTimes {
    RoundTripTimes {
        count: now.count.wrapping_sub(before.count).into(),
        sum_ns: now.sum_ns - before.sum_ns,
        min_ns: (now.min_ns != 0).then_some(now.min_ns.into()),
    }
}

fn housekeeping(number: u8) -> Housekeeping {
    match number {
        abi::housekeeping::ARP => Housekeeping::Arp,
        abi::housekeeping::NEIGHBOR_DISCOVERY => Housekeeping::NeighborDiscovery,
        abi::housekeeping::MLD => Housekeeping::Mld,
        _ => Housekeeping::Igmp,
    }
}

fn malformed(number: u8) -> Malformed {
    match number {
        abi::malformed::ETHERNET => Malformed::Ethernet,
        abi::malformed::IP_VERSION => Malformed::IpVersion,
        abi::malformed::IPV4_HEADER_LENGTH => Malformed::Ipv4HeaderLength,
        abi::malformed::IP_LENGTH => Malformed::IpLength,
        abi::malformed::IP_TRUNCATED => Malformed::IpTruncated,
        abi::malformed::EXTENSION_HEADER => Malformed::ExtensionHeader,
        _ => Malformed::TransportTruncated,
    }
}

#[cfg(test)]
mod tests {
    use netwatch_common::flow::{EntryKey, Half};

    use super::*;

    /// Counters of 32 bits may wrap around in an entry that lives for weeks.
    #[test]
    fn narrow_counters_are_widened_when_they_are_drained() {
        let half = |count: u32| Half {
            retransmitted_packets: count,
            zero_windows: count,
            syns: count,
            syn_acks: count,
            resets: count,
            ..Half::default()
        };
        let round_trips = |count| abi::RoundTrips { count, sum_ns: u64::from(count), min_ns: 1 };
        let value = |count: u32| FlowValue {
            halves: [half(count), half(count.wrapping_add(7))],
            round_trips: round_trips(count),
            ..FlowValue::EMPTY
        };
        let key = EntryKey { kind: kind::IPV4, protocol: protocol::TCP, ..EntryKey::default() };
        let (before, mut now) = (value(u32::MAX - 1), value(3));
        now.round_trips.sum_ns = u64::from(u32::MAX) + 3;
        let growth = Growth { key: &key, before: &before, now: &now, ended: None, is_last: false };
        let tcp = increment(&growth, Clock::UNIX).and_then(|increment| increment.tcp).expect("TCP");
        let five = PerDirection { egress: 5, ingress: 5 };
        let counts = [tcp.retransmitted_packets, tcp.zero_windows, tcp.syns, tcp.syn_acks, tcp.resets];
        assert_eq!((counts, tcp.round_trips.count), ([five; 5], 5));
    }

    /// Its SYN found the table full.
    #[test]
    fn the_rest_of_a_connection_to_a_lower_port_was_opened_by_the_target() {
        let opened_by = |local_port, remote_port, flags: u8| {
            let ports = EntryKey { local_port, remote_port, ..EntryKey::default() };
            let key = EntryKey { kind: kind::IPV4, protocol: protocol::TCP, ..ports };
            let received = Half { flags: flags.into(), ..Half::default() };
            let halves = [Half::default(), received];
            let now = FlowValue { opened_by: abi::INGRESS, first_seen_ns: 1, halves, ..FlowValue::EMPTY };
            let growth = Growth { key: &key, before: &FlowValue::EMPTY, now: &now, ended: None, is_last: false };
            increment(&growth, Clock::UNIX).expect("it grew").opened_by
        };
        assert_eq!(opened_by(42_870, 443, tcp::ACK), Direction::Egress);
        assert_eq!(opened_by(42_870, 40_000, tcp::ACK), Direction::Ingress, "either may be a server");
        assert_eq!(opened_by(42_870, 443, tcp::SYN), Direction::Ingress, "a handshake");
        assert_eq!(opened_by(8_080, 42_870, tcp::ACK), Direction::Ingress, "a server");
        assert_eq!(opened_by(8_080, 443, tcp::ACK), Direction::Ingress, "a port that is not ephemeral");
    }

    #[test]
    fn a_handshake_is_measured_once() {
        let key = EntryKey { kind: kind::IPV4, protocol: protocol::TCP, ..EntryKey::default() };
        let value = |skbs, rtt_ns| {
            let counts = abi::Counts { skbs, ..abi::Counts::default() };
            let handshake = abi::Handshake { rtt_ns, ..abi::Handshake::default() };
            FlowValue { handshake, halves: [Half { counts, ..Half::default() }; 2], ..FlowValue::EMPTY }
        };
        let rtt_ns = |before: &FlowValue, now: &FlowValue| {
            let growth = Growth { key: &key, before, now, ended: None, is_last: false };
            increment(&growth, Clock::UNIX).and_then(|increment| increment.tcp).expect("TCP").handshake_rtt_ns
        };
        assert_eq!(rtt_ns(&FlowValue::EMPTY, &value(1, 0)), None);
        assert_eq!(rtt_ns(&value(1, 0), &value(2, 7)), Some(7));
        assert_eq!(rtt_ns(&value(2, 7), &value(3, 7)), None);
    }
}
