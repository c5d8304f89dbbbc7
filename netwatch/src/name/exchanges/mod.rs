//! Exchanges of the services of the target: how long a service takes from the last byte of a
//! request to the first byte of its response, and the status of HTTP/1. What was not sampled is not
//! measured: [`ServiceExchanges`] counts it.

mod head;
mod reader;
mod tls;

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::facts::FlowFacts;
use super::sample::{NameSample, flag};
use crate::flow::{Direction, FlowKey, ObservationPoint, TimeHistogram};
use reader::{ExchangeOutcome, ExchangeReader, ExchangeSegment};

/// Maximum number of connections that are read at the same time. Beyond it, the exchange in
/// progress of another connection is given up.
const MAX_CONNECTIONS: usize = 65_536;

/// The exchanges of a service that were sampled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceExchanges {
    /// From the last byte of a request to the first byte of its response, nanoseconds.
    pub times: TimeHistogram,
    /// Requests without a time: a part of the exchange was not sampled, the response began before
    /// the request was complete, there was none, or the request followed another one of HTTP/1
    /// that had no response so far.
    pub unmeasured: u64,
    /// Responses of HTTP/1 by the first digit of their status, from 1 to 5.
    pub statuses: [u64; 5],
    /// Bytes of requests that were sampled. The service received more if exchanges are missing.
    pub request_bytes: u64,
}

impl ServiceExchanges {
    /// Whether nothing was sampled.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Responses of HTTP/1 whose status is a failure of the server.
    pub fn server_errors(&self) -> u64 {
        self.statuses[4]
    }

    /// Adds those of another service.
    pub fn merge(&mut self, other: &Self) {
        self.times.merge(&other.times);
        self.unmeasured += other.unmeasured;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.request_bytes += other.request_bytes;
    }

    fn add(&mut self, outcome: ExchangeOutcome) {
        match outcome.time_ns {
            Some(time_ns) => self.times.add(time_ns, 1),
            None => self.unmeasured += 1,
        }
        let class = outcome.status.and_then(|status| usize::from(status / 100).checked_sub(1));
        if let Some(count) = class.and_then(|class| self.statuses.get_mut(class)) {
            *count += 1;
        }
    }
}

/// The connections that are being read, and the sums of their services.
#[derive(Debug, Default)]
pub(super) struct ExchangeTable {
    connections: IndexMap<FlowKey, ExchangeReader, foldhash::fast::RandomState>,
    services: BTreeMap<u16, ServiceExchanges>,
    /// The place of the connection that makes room next.
    next_evicted: usize,
}

impl ExchangeTable {
    /// Takes a sample. `facts` looks up what is known about its flow.
    pub fn observe<'f>(&mut self, sample: &NameSample<'_>, facts: impl FnOnce() -> Option<&'f FlowFacts>) {
        let Some(tcp) = sample.tcp.filter(|_| is_of_service(sample)) else { return };
        let is_from_client = sample.direction == Direction::Ingress;
        if tcp.has(flag::SYN) && is_from_client {
            self.remove(&sample.flow);
        }
        if sample.payload_len == 0 {
            return;
        }
        if !self.connections.contains_key(&sample.flow) {
            self.make_room();
        }
        let segment = ExchangeSegment {
            time_ns: sample.time_ns,
            tcp,
            payload: sample.payload,
            payload_len: sample.payload_len,
            is_from_client,
            may_interleave: facts().is_none_or(may_interleave),
        };
        let mut outcomes = Vec::new();
        let request_bytes = self.connections.entry(sample.flow).or_default().observe(&segment, &mut outcomes);
        if request_bytes > 0 || !outcomes.is_empty() {
            let service = self.service(sample.flow.local.port);
            service.request_bytes += request_bytes;
            outcomes.into_iter().for_each(|outcome| service.add(outcome));
        }
    }

    /// Removes a connection that has ended.
    pub fn remove(&mut self, flow: &FlowKey) {
        if let Some(reader) = self.connections.swap_remove(flow) {
            self.finish_one(flow.local.port, reader);
        }
    }

    /// Ends all connections.
    pub fn finish(&mut self) {
        for (flow, reader) in std::mem::take(&mut self.connections) {
            self.finish_one(flow.local.port, reader);
        }
    }

    /// The exchanges of the services by their local ports. Those that are in progress are not
    /// among them.
    pub fn services(&self) -> &BTreeMap<u16, ServiceExchanges> {
        &self.services
    }

    fn make_room(&mut self) {
        if self.connections.len() >= MAX_CONNECTIONS {
            self.next_evicted = (self.next_evicted + 1) % self.connections.len();
            if let Some((flow, reader)) = self.connections.swap_remove_index(self.next_evicted) {
                self.finish_one(flow.local.port, reader);
            }
        }
    }

    fn finish_one(&mut self, port: u16, mut reader: ExchangeReader) {
        let mut outcomes = Vec::new();
        reader.finish(&mut outcomes);
        for outcome in outcomes {
            self.service(port).add(outcome);
        }
    }

    fn service(&mut self, port: u16) -> &mut ServiceExchanges {
        self.services.entry(port).or_default()
    }
}

/// Whether this is a packet between a remote and a service of the target on the link.
fn is_of_service(sample: &NameSample<'_>) -> bool {
    sample.opened_by == Direction::Ingress && sample.flow.point == ObservationPoint::Link && !sample.flow.fragment
}

/// Whether TLS may carry HTTP/2, in which exchanges do not take turns. The server's choice is only
/// readable before TLS 1.3.
fn may_interleave(facts: &FlowFacts) -> bool {
    let Some(hello) = &facts.hello else { return true };
    let chosen = facts.server_hello.as_ref().and_then(|hello| hello.alpn.as_ref());
    match chosen {
        Some(chosen) => chosen.as_str() == "h2",
        None => !hello.whole || hello.alpn.iter().any(|alpn| alpn.as_str() == "h2"),
    }
}
