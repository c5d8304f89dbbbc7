//! Endpoints: sums of flows by remote, protocol and port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Counters, Direction, FailedAttempts, Flow, FlowKey, Payload, PerDirection, Protocol};

/// First port of the default ephemeral range of Linux (`net.ipv4.ip_local_port_range`). The system
/// may have chosen a port from here on.
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// The remote of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remote {
    /// One address.
    Address(IpAddr),
    /// All remotes that were added after the table of endpoints was full.
    Others,
}

impl Remote {
    /// The address, if it is one.
    pub fn address(self) -> Option<IpAddr> {
        if let Self::Address(address) = self { Some(address) } else { None }
    }
}

/// The key of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The remote: the server for `out`, the client for `in`.
    pub remote: Remote,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the server: the remote's for `out`, the target's for `in`; 0 for protocols
    /// without ports.
    pub port: u16,
    /// The side that opened the flows: the target for [`Direction::Egress`] ("out"), the remote for
    /// [`Direction::Ingress`] ("in").
    pub direction: Direction,
    /// True for later IP fragments without a first fragment, which have no port.
    pub fragment: bool,
}

impl EndpointKey {
    /// The endpoint of a flow. `opened_by` is the side that opened it.
    pub fn of(flow: &FlowKey, opened_by: Direction) -> Self {
        let port = match opened_by {
            Direction::Egress => flow.remote.port,
            Direction::Ingress => flow.local.port,
        };
        Self {
            remote: Remote::Address(flow.remote.addr),
            protocol: Protocol(flow.protocol),
            port,
            direction: opened_by,
            fragment: flow.fragment,
        }
    }

    /// Whether it is a port of the target to which remotes connected. ICMP errors and pings have no
    /// port.
    pub fn is_service(&self) -> bool {
        self.direction == Direction::Ingress && self.protocol.has_ports() && !self.fragment
    }

    /// The key that an endpoint is counted under if the table of endpoints is full: only protocol
    /// and direction are kept.
    pub(super) fn coarsened(self) -> Self {
        Self { remote: Remote::Others, port: 0, fragment: false, ..self }
    }
}

/// An endpoint and its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The key.
    pub key: EndpointKey,
    /// Number of flows.
    pub flows: u64,
    /// TCP: handshakes that began, failed ones included. Other protocols: flows.
    pub connections: u64,
    /// Counts by direction.
    pub counters: PerDirection<Counters>,
    /// What applications sent and received.
    pub payload: Payload,
    /// Median handshake time, nanoseconds, without folded flows. Of an even number of values it is
    /// the lower one in the middle, so it was measured.
    pub handshake_rtt_ns: Option<u64>,
    /// Failed attempts. Of flows that were never tracked individually, only attempts with an ICMP
    /// error are included.
    pub failed: FailedAttempts,
}

impl Endpoint {
    /// Whether nothing proves that remotes connected to an ephemeral port: of all its connections
    /// the handshake was not counted, and the system may have chosen the port for a client.
    pub fn is_remnant(&self) -> bool {
        self.key.is_service()
            && self.key.protocol == Protocol::TCP
            && self.key.port >= FIRST_EPHEMERAL_PORT
            && self.connections == 0
    }

    /// Moves some of its flows to an endpoint of their own, with the same key. The median of the
    /// handshake times of those that stay has to be set by the caller.
    pub fn split_off<'f>(&mut self, flows: impl Iterator<Item = &'f Flow>) -> Self {
        let mut sum = EndpointSum::default();
        flows.for_each(|flow| sum.add_flow(flow));
        let part = sum.finish(self.key);
        self.flows = self.flows.saturating_sub(part.flows);
        self.connections = self.connections.saturating_sub(part.connections);
        self.counters = self.counters.zip(part.counters, Counters::saturating_sub);
        self.payload = self.payload.since(part.payload);
        self.failed = self.failed.minus(part.failed);
        part
    }

    /// Adds the counts of another endpoint with the same key. The median of the handshake times
    /// stays.
    pub fn add(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.connections = self.connections.saturating_add(other.connections);
        self.counters += other.counters;
        self.payload += other.payload;
        self.failed += other.failed;
    }

    /// Whether all attempts failed. A datagram needs no answer, so it failed only if an ICMP error
    /// came back. An echo request without an answer failed.
    pub fn has_only_failed(&self) -> bool {
        let answers = match self.key.direction {
            Direction::Egress => self.counters.ingress,
            Direction::Ingress => self.counters.egress,
        };
        let is_unanswered = answers.packets == 0;
        match self.key.protocol {
            Protocol::TCP => self.connections > 0 && self.failed.attempts() >= self.connections,
            Protocol::ICMP | Protocol::ICMPV6 => is_unanswered,
            _ => is_unanswered && self.failed.unreachable >= self.flows,
        }
    }
}

/// Intermediate sums of an endpoint.
#[derive(Debug, Default)]
struct EndpointSum {
    flows: u64,
    connections: u64,
    counters: PerDirection<Counters>,
    payload: Payload,
    rtts: Vec<u64>,
    failed: FailedAttempts,
}

/// The counts of the folded flows of an endpoint.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoldedEndpoint {
    pub flows: u64,
    pub connections: u64,
    pub counters: PerDirection<Counters>,
    pub payload: Payload,
    pub failed: FailedAttempts,
}

impl FoldedEndpoint {
    /// Adds other folded flows of the same endpoint.
    pub(super) fn add(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.connections = self.connections.saturating_add(other.connections);
        self.counters += other.counters;
        self.payload += other.payload;
        self.failed += other.failed;
    }

    /// Converts to an endpoint without other flows.
    pub(super) fn into_endpoint(self, key: EndpointKey) -> Endpoint {
        let Self { flows, connections, counters, payload, failed } = self;
        Endpoint { key, flows, connections, counters, payload, handshake_rtt_ns: None, failed }
    }
}

impl From<Endpoint> for FoldedEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint { flows, connections, counters, payload, failed, .. } = endpoint;
        Self { flows, connections, counters, payload, failed }
    }
}

/// Sums flows and folded flows by endpoint, largest first (wire bytes of both directions).
pub(super) fn collect<'a>(
    flows: impl Iterator<Item = Flow>,
    folded: impl Iterator<Item = (&'a EndpointKey, &'a FoldedEndpoint)>,
) -> Vec<Endpoint> {
    let mut sums: BTreeMap<EndpointKey, EndpointSum> = BTreeMap::new();
    for flow in flows {
        sums.entry(EndpointKey::of(&flow.key, flow.opened_by)).or_default().add_flow(&flow);
    }
    for (key, part) in folded {
        sums.entry(*key).or_default().add_folded(part);
    }
    let mut endpoints: Vec<Endpoint> = sums.into_iter().map(|(key, sum)| sum.finish(key)).collect();
    // The sort is stable: endpoints of equal size stay sorted by key.
    endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.counters.both().wire_bytes));
    endpoints
}

impl EndpointSum {
    fn add_flow(&mut self, flow: &Flow) {
        self.flows += 1;
        self.connections = self.connections.saturating_add(flow.connections());
        self.counters += flow.counters;
        self.payload += flow.payload;
        self.rtts.extend(flow.tcp.and_then(|facts| facts.handshake_rtt_ns));
        self.failed += flow.failed();
    }

    fn add_folded(&mut self, part: &FoldedEndpoint) {
        self.flows = self.flows.saturating_add(part.flows);
        self.connections = self.connections.saturating_add(part.connections);
        self.counters += part.counters;
        self.payload += part.payload;
        self.failed += part.failed;
    }

    fn finish(self, key: EndpointKey) -> Endpoint {
        let Self { flows, connections, counters, payload, rtts, failed } = self;
        Endpoint { key, flows, connections, counters, payload, handshake_rtt_ns: median(rtts), failed }
    }
}

/// The median; of an even number of values, the lower one in the middle.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ObservationPoint, TransportAddress};

    #[test]
    fn the_median_is_a_measured_value() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![9, 1]), Some(1));
        assert_eq!(median(vec![9, 1, 5]), Some(5));
    }

    #[test]
    fn a_datagram_to_a_closed_port_failed_in_both_directions() {
        let one_packet = Counters { packets: 1, ..Counters::default() };
        let of = |direction, counters, unreachable| {
            let remote = Remote::Address([198, 51, 100, 9].into());
            Endpoint {
                key: EndpointKey { remote, protocol: Protocol::UDP, port: 7003, direction, fragment: false },
                flows: 1,
                connections: 1,
                counters,
                payload: Payload::default(),
                handshake_rtt_ns: None,
                failed: FailedAttempts { unreachable, ..FailedAttempts::default() },
            }
        };
        let sent = PerDirection { egress: one_packet, ingress: Counters::default() };
        let received = PerDirection { egress: Counters::default(), ingress: one_packet };
        for (direction, attempt, answered) in
            [(Direction::Egress, sent, received), (Direction::Ingress, received, sent)]
        {
            assert!(of(direction, attempt, 1).has_only_failed());
            assert!(!of(direction, attempt, 0).has_only_failed(), "no answer is required");
            assert!(!of(direction, answered, 1).has_only_failed());
        }
    }

    #[test]
    fn the_port_is_that_of_the_server() {
        let key = FlowKey {
            point: ObservationPoint::Link,
            protocol: 6,
            fragment: false,
            local: TransportAddress { addr: [10, 0, 0, 2].into(), port: 8080 },
            remote: TransportAddress { addr: [198, 51, 100, 9].into(), port: 51_000 },
        };
        assert_eq!(EndpointKey::of(&key, Direction::Ingress).port, 8080);
        assert_eq!(EndpointKey::of(&key, Direction::Egress).port, 51_000);
    }
}
