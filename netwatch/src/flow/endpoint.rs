//! Endpoints: flows added up to what users ask about, a remote with its protocol and port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Counters, Direction, FailedAttempts, Flow, FlowKey, PerDirection, Protocol};

/// First port of Linux's ephemeral range (`net.ipv4.ip_local_port_range`): from here on, the system may have chosen the port.
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// The other end of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remote {
    /// One address.
    Address(IpAddr),
    /// All remotes that came after the table was full of endpoints.
    Others,
}

/// What flows are added up under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The other end: the server for `out`, the client for `in`.
    pub remote: Remote,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that was asked for: the remote's for `out`, the target's own for `in`. 0 where there is none.
    pub port: u16,
    /// Who opened the flows: [`Direction::Egress`] the target ("out"), [`Direction::Ingress`] the remote ("in").
    pub direction: Direction,
    /// Fragments whose first fragment was never seen: they have no port.
    pub fragment: bool,
}

impl EndpointKey {
    /// The endpoint of a flow that `opened_by` opened.
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

    /// Where endpoints go when there are too many: only protocol and direction are kept.
    pub(super) fn coarsened(self) -> Self {
        Self { remote: Remote::Others, port: 0, fragment: false, ..self }
    }
}

/// An endpoint and everything counted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is.
    pub key: EndpointKey,
    /// Distinct five-tuples.
    pub flows: u64,
    /// TCP handshakes begun, those that failed included; flows for other protocols.
    pub connections: u64,
    /// What each side sent.
    pub counters: PerDirection<Counters>,
    /// Median of the flows' handshake times, nanoseconds; of an even number the lower middle one, so that it is one that was measured. Folded flows have no part in it.
    pub handshake_rtt_ns: Option<u64>,
    /// Attempts that came to nothing. Those of folded flows are known only where an ICMP error named them.
    pub failed: FailedAttempts,
}

impl Endpoint {
    /// Whether no attempt succeeded. A datagram without an answer may have been all that was needed, unless an ICMP error came back. An echo
    /// request without an answer failed.
    pub fn has_only_failed(&self) -> bool {
        let is_unanswered = self.counters.ingress.packets == 0;
        match self.key.protocol {
            Protocol::TCP => self.connections > 0 && self.failed.attempts() >= self.connections,
            Protocol::ICMP | Protocol::ICMPV6 => is_unanswered,
            _ => is_unanswered && self.failed.unreachable >= self.flows,
        }
    }
}

/// What an endpoint is made from while flows are added up.
#[derive(Debug, Default)]
struct EndpointSum {
    flows: u64,
    connections: u64,
    counters: PerDirection<Counters>,
    rtts: Vec<u64>,
    failed: FailedAttempts,
}

/// What is kept of flows that had no room of their own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoldedEndpoint {
    pub flows: u64,
    pub connections: u64,
    pub counters: PerDirection<Counters>,
    pub failed: FailedAttempts,
}

impl FoldedEndpoint {
    /// Adds another part of the same endpoint.
    pub(super) fn add(&mut self, other: &Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.connections = self.connections.saturating_add(other.connections);
        self.counters += other.counters;
        self.failed += other.failed;
    }

    /// As an endpoint that has no other flows.
    pub(super) fn alone(self, key: EndpointKey) -> Endpoint {
        let Self { flows, connections, counters, failed } = self;
        Endpoint { key, flows, connections, counters, handshake_rtt_ns: None, failed }
    }
}

impl From<Endpoint> for FoldedEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint { flows, connections, counters, failed, .. } = endpoint;
        Self { flows, connections, counters, failed }
    }
}

/// Adds up flows and folded flows, largest (by wire bytes, both ways) first.
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
    // Stable: equal sizes stay in the order of their keys.
    endpoints.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.counters.both().wire_bytes));
    endpoints
}

impl EndpointSum {
    fn add_flow(&mut self, flow: &Flow) {
        self.flows += 1;
        self.connections = self.connections.saturating_add(flow.connections());
        self.counters += flow.counters;
        self.rtts.extend(flow.tcp.and_then(|facts| facts.handshake_rtt_ns));
        self.failed += flow.failed();
    }

    fn add_folded(&mut self, part: &FoldedEndpoint) {
        self.flows = self.flows.saturating_add(part.flows);
        self.connections = self.connections.saturating_add(part.connections);
        self.counters += part.counters;
        self.failed += part.failed;
    }

    fn finish(self, key: EndpointKey) -> Endpoint {
        let Self { flows, connections, counters, rtts, failed } = self;
        Endpoint { key, flows, connections, counters, handshake_rtt_ns: median(rtts), failed }
    }
}

/// The lower middle value.
fn median(mut values: Vec<u64>) -> Option<u64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ObservationPoint, TransportAddress};

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7]), Some(7));
        assert_eq!(median(vec![9, 1]), Some(1));
        assert_eq!(median(vec![9, 1, 5]), Some(5));
    }

    #[test]
    fn the_port_is_the_one_that_was_asked_for() {
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
