//! Hand-made conversations, and the facts that are read from them.

mod best;
mod bounds;
mod datagrams;
mod exchanges;
mod lookups;
mod streams;

use std::net::IpAddr;

use super::*;
use crate::flow::{Direction, FlowKey, ObservationPoint, TransportAddress};
use crate::wire::Application;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;

/// 203.0.113.n.
fn v4(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

fn flow(protocol: u8, local_port: u16, remote: u8, port: u16) -> FlowKey {
    FlowKey {
        point: ObservationPoint::Link,
        protocol,
        fragment: false,
        local: TransportAddress { addr: [10, 0, 0, 2].into(), port: local_port },
        remote: TransportAddress { addr: v4(remote), port },
    }
}

fn tcp(remote: u8, port: u16) -> FlowKey {
    flow(TCP, 40_000, remote, port)
}

fn udp(remote: u8, port: u16) -> FlowKey {
    flow(UDP, 40_000, remote, port)
}

fn sample(flow: FlowKey, direction: Direction, payload: &[u8]) -> NameSample<'_> {
    NameSample {
        time_ns: 0,
        flow,
        direction,
        opened_by: Direction::Egress,
        payload,
        payload_len: payload.len() as u32,
        tcp: None,
    }
}

fn sent(flow: FlowKey, payload: &[u8]) -> NameSample<'_> {
    sample(flow, Direction::Egress, payload)
}

fn received(flow: FlowKey, payload: &[u8]) -> NameSample<'_> {
    sample(flow, Direction::Ingress, payload)
}

fn at(time_ns: u64, sample: NameSample<'_>) -> NameSample<'_> {
    NameSample { time_ns, ..sample }
}

fn segment(sample: NameSample<'_>, sequence: u32, flags: u8) -> NameSample<'_> {
    NameSample { tcp: Some(Segment { sequence, flags, acknowledgment: None }), ..sample }
}

fn names() -> Names {
    Names::new(NameLimits::default(), Hosts::default())
}

/// A TCP connection with segments in order.
struct Conversation {
    flow: FlowKey,
    names: Names,
    next: [u32; 2],
}

impl Conversation {
    fn new(flow: FlowKey) -> Self {
        Self::with(flow, NameLimits::default())
    }

    fn with(flow: FlowKey, limits: NameLimits) -> Self {
        // The sequence numbers of the client wrap.
        Self { flow, names: Names::new(limits, Hosts::default()), next: [u32::MAX - 10, 7] }
    }

    fn send(mut self, direction: Direction, payload: &[u8]) -> Self {
        let next = &mut self.next[usize::from(direction == Direction::Ingress)];
        self.names.observe(&segment(sample(self.flow, direction, payload), *next, 0));
        *next = next.wrapping_add(payload.len() as u32);
        self
    }

    fn client(self, payload: &[u8]) -> Self {
        self.send(Direction::Egress, payload)
    }

    fn server(self, payload: &[u8]) -> Self {
        self.send(Direction::Ingress, payload)
    }

    fn facts(&self) -> &FlowFacts {
        self.names.flow(&self.flow).unwrap()
    }

    /// The names of the flow with their sources.
    fn named(&self) -> Vec<String> {
        self.facts().names.iter().map(|named| format!("{} {}", named.source.name(), named.name)).collect()
    }

    fn applications(&self) -> Vec<Application> {
        self.facts().applications.iter().map(|proven| proven.application).collect()
    }

    /// The names of the remote's address.
    fn address(&self) -> Vec<&str> {
        self.names.address(self.flow.remote.addr).iter().map(|named| named.name.as_str()).collect()
    }
}
