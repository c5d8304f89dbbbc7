//! From the ABI to the pure vocabulary.

use std::net::{IpAddr, Ipv6Addr};

use netwatch_common::address::Address;
use netwatch_common::flow::{self as abi, EGRESS, FlowValue, Half, housekeeping, kind, malformed};

use super::clock::Clock;
use crate::flow::{
    Counters, Direction, End, FlowKey, Housekeeping, Increment, Malformed, PerDirection, Scope, TcpFacts, Traffic,
};

/// TCP's protocol number.
const TCP: u8 = 6;

/// What grew between two readings; `None` if nothing did.
pub(super) fn increment(key: &abi::FlowKey, value: &FlowValue, last: &FlowValue, clock: Clock) -> Option<Increment> {
    let counters = PerDirection {
        egress: counters(&value.halves[0]) - counters(&last.halves[0]),
        ingress: counters(&value.halves[1]) - counters(&last.halves[1]),
    };
    if counters == PerDirection::default() {
        return None;
    }
    let opened_by = direction(value.opened_by);
    let traffic = traffic(key, opened_by)?;
    // On the loopback "local" is who opened the flow, whichever end sorts lower.
    let flipped = key.scope == abi::scope::LOOPBACK && opened_by == Direction::Ingress;
    Some(Increment {
        traffic,
        scope: scope(key.scope),
        counters: flip(counters, flipped),
        first_seen_ns: clock.unix_ns(value.first_seen_ns),
        last_seen_ns: clock.unix_ns(value.last_seen_ns),
        opened_by: if flipped { Direction::Egress } else { opened_by },
        connections: value.handshake.connections - last.handshake.connections,
        tcp: (is_flow(key) && key.protocol == TCP).then(|| tcp(value, flipped)),
    })
}

fn is_flow(key: &abi::FlowKey) -> bool {
    matches!(key.kind, kind::IPV4 | kind::IPV6)
}

fn flip<T>(pair: PerDirection<T>, flipped: bool) -> PerDirection<T> {
    if flipped { PerDirection { egress: pair.ingress, ingress: pair.egress } } else { pair }
}

fn counters(half: &Half) -> Counters {
    let counts = half.counts;
    Counters { skbs: counts.skbs, packets: counts.packets, bytes: counts.bytes, wire_bytes: counts.wire_bytes }
}

fn tcp(value: &FlowValue, flipped: bool) -> TcpFacts {
    let [egress, ingress] = &value.halves;
    let both = |read: fn(&Half) -> u32| flip(PerDirection { egress: read(egress), ingress: read(ingress) }, flipped);
    let flags = both(|half| half.flags);
    TcpFacts {
        flags: PerDirection { egress: flags.egress as u8, ingress: flags.ingress as u8 },
        handshake_rtt_ns: (value.handshake.rtt_ns != 0).then_some(value.handshake.rtt_ns),
        syns: both(|half| half.syns),
        syn_acks: both(|half| half.syn_acks),
        resets: both(|half| half.resets),
    }
}

fn direction(direction: u32) -> Direction {
    if direction == u32::from(EGRESS) { Direction::Egress } else { Direction::Ingress }
}

fn scope(scope: u8) -> Scope {
    if scope == abi::scope::LOOPBACK { Scope::Loopback } else { Scope::Link }
}

/// `None` for a kind that this build does not know, which the build's own object cannot have.
fn traffic(key: &abi::FlowKey, opened_by: Direction) -> Option<Traffic> {
    Some(match key.kind {
        kind::IPV4 | kind::IPV6 | kind::IPV4_FRAGMENT | kind::IPV6_FRAGMENT => Traffic::Flow(flow_key(key, opened_by)),
        kind::HOUSEKEEPING => Traffic::Housekeeping(match key.protocol {
            housekeeping::ARP => Housekeeping::Arp,
            housekeeping::NEIGHBOUR_DISCOVERY => Housekeeping::NeighbourDiscovery,
            housekeeping::MLD => Housekeeping::Mld,
            _ => Housekeeping::Igmp,
        }),
        kind::NON_IP => Traffic::NonIp(key.local_port),
        kind::MALFORMED => Traffic::Malformed(malformed_reason(key.protocol)),
        kind::OVERFLOW => Traffic::Overflow(key.protocol),
        _ => return None,
    })
}

fn malformed_reason(reason: u8) -> Malformed {
    match reason {
        malformed::ETHERNET => Malformed::Ethernet,
        malformed::IP_VERSION => Malformed::IpVersion,
        malformed::IPV4_HEADER_LENGTH => Malformed::Ipv4HeaderLength,
        malformed::IP_LENGTH => Malformed::IpLength,
        malformed::IP_TRUNCATED => Malformed::IpTruncated,
        malformed::EXTENSION_HEADER => Malformed::ExtensionHeader,
        _ => Malformed::TransportTruncated,
    }
}

/// The flow's key as people see it.
pub(super) fn flow_key(key: &abi::FlowKey, opened_by: Direction) -> FlowKey {
    let local = End { addr: address(&key.local, key.kind), port: key.local_port };
    let remote = End { addr: address(&key.remote, key.kind), port: key.remote_port };
    let flipped = key.scope == abi::scope::LOOPBACK && opened_by == Direction::Ingress;
    let (local, remote) = if flipped { (remote, local) } else { (local, remote) };
    FlowKey {
        scope: scope(key.scope),
        protocol: key.protocol,
        fragment: matches!(key.kind, kind::IPV4_FRAGMENT | kind::IPV6_FRAGMENT),
        local,
        remote,
    }
}

fn address(address: &Address, of_kind: u8) -> IpAddr {
    let v6 = Ipv6Addr::from(address.bytes());
    match v6.to_ipv4_mapped() {
        Some(v4) if matches!(of_kind, kind::IPV4 | kind::IPV4_FRAGMENT) => v4.into(),
        _ => v6.into(),
    }
}
