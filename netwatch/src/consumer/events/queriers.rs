//! Which process sent a DNS query: lookups are added up by question, not by process.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::flow::{Direction, Protocol};
use crate::process::ProcessNumber;
use crate::session::FlowRecord;
use crate::wire::port;

/// Half of the number of flows to DNS servers that are remembered.
const MAX_RECENT: usize = 1024;
/// Packets are counted a moment before or after they are read for names.
const CLOCK_SLACK_NS: u64 = 10_000_000;

/// The flows to DNS servers.
#[derive(Debug, Default)]
pub(super) struct LiveQueriers {
    recent: HashMap<u64, QueryFlow>,
    /// Those without packets since `recent` was full.
    older: HashMap<u64, QueryFlow>,
    /// The last packet of the flows that were forgotten.
    forgotten_ns: Option<u64>,
}

#[derive(Debug)]
struct QueryFlow {
    first_ns: u64,
    last_ns: u64,
    process: Option<ProcessNumber>,
}

impl LiveQueriers {
    /// Remembers a flow to a DNS server.
    pub(super) fn note_flow(&mut self, record: &FlowRecord) {
        let flow = &record.flow;
        let is_to_server = flow.key.remote.port == port::DNS && Protocol(flow.key.protocol).has_ports();
        if !is_to_server || flow.opened_by != Direction::Egress {
            return;
        }
        if self.recent.len() >= MAX_RECENT && !self.recent.contains_key(&flow.serial) {
            let forgotten = std::mem::replace(&mut self.older, std::mem::take(&mut self.recent));
            let last_ns = forgotten.into_values().map(|flow| flow.last_ns).max();
            self.forgotten_ns = self.forgotten_ns.max(last_ns);
        }
        self.older.remove(&flow.serial);
        let process = record.usages.first().map(|usage| usage.process);
        let query = QueryFlow { first_ns: flow.first_seen_ns, last_ns: flow.last_seen_ns, process };
        self.recent.insert(flow.serial, query);
    }

    /// The process of all flows to servers at these times; `None` if there are several, or one is
    /// not known.
    pub(super) fn only(&self, times: RangeInclusive<u64>) -> Option<ProcessNumber> {
        let from_ns = times.start().saturating_sub(CLOCK_SLACK_NS);
        let to_ns = times.end().saturating_add(CLOCK_SLACK_NS);
        if self.forgotten_ns.is_some_and(|last_ns| last_ns >= from_ns) {
            return None;
        }
        let flows = self.recent.values().chain(self.older.values());
        let mut processes =
            flows.filter(|flow| flow.first_ns <= to_ns && flow.last_ns >= from_ns).map(|flow| flow.process);
        let first = processes.next()??;
        processes.all(|other| other == Some(first)).then_some(first)
    }
}
