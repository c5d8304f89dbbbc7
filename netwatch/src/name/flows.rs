//! The facts of all flows, within bounds. To make room for another flow, the oldest of those that
//! are no longer being read is evicted, so a long session keeps the most recent flows.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::event::NameEvent;
use super::facts::FlowFacts;
use super::flow_reader::{FlowReader, ReadEvents};
use super::limits::{NameLimits, NamesLost};
use super::sample::{NameSample, flag};
use crate::flow::{Direction, FlowKey, Protocol};
use crate::wire::{Application, dns, port};

/// A flow.
#[derive(Debug)]
pub(super) struct FactsEntry {
    pub facts: FlowFacts,
    pub opened_by: Direction,
    open: Option<FlowReader>,
    /// Sequence number of its creation.
    created: u64,
    /// Sequence number of the last time it was opened for reading; 0 before the first time.
    opened: u64,
    /// It was closed to make room, and everything received so far has been parsed: its next sample
    /// counts as lost.
    is_closed_early: bool,
    /// Bytes of `facts` as included in [`FactsTable::facts_bytes`].
    counted: usize,
}

/// An event read from a flow.
#[derive(Debug)]
pub(super) struct FlowEvent {
    pub flow: FlowKey,
    pub direction: Direction,
    pub event: NameEvent,
}

/// The table of flows.
#[derive(Debug)]
pub(super) struct FactsTable {
    limits: NameLimits,
    /// Looked up for every sample. The index is small enough for the CPU cache, and the entry is
    /// accessed once.
    entries: IndexMap<FlowKey, FactsEntry, foldhash::fast::RandomState>,
    /// Flows that are not being read, by [`FactsEntry::created`], and those that are, by
    /// [`FactsEntry::opened`].
    settled: BTreeMap<u64, FlowKey>,
    open_by_age: BTreeMap<u64, FlowKey>,
    /// Bytes of payload that are buffered.
    held: usize,
    /// Bytes of all facts.
    facts_bytes: usize,
    counter: u64,
}

impl FactsTable {
    pub fn new(limits: NameLimits) -> Self {
        Self {
            limits,
            entries: IndexMap::default(),
            settled: BTreeMap::new(),
            open_by_age: BTreeMap::new(),
            held: 0,
            facts_bytes: 0,
            counter: 0,
        }
    }

    pub fn held(&self) -> usize {
        self.held
    }

    pub fn get(&self, flow: &FlowKey) -> Option<&FactsEntry> {
        self.entries.get(flow)
    }

    /// Changes the facts of a flow.
    pub fn update<T>(&mut self, flow: &FlowKey, change: impl FnOnce(&mut FlowFacts) -> T) -> Option<T> {
        let entry = self.entries.get_mut(flow)?;
        let outcome = change(&mut entry.facts);
        let memory = entry.facts.memory();
        self.facts_bytes = self.facts_bytes - entry.counted + memory;
        entry.counted = memory;
        Some(outcome)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &FlowFacts)> {
        self.entries.iter().map(|(flow, entry)| (flow, &entry.facts))
    }

    /// Takes a sample; returns the events that were read from it and from flows that were closed to
    /// make room.
    pub fn observe(&mut self, sample: &NameSample<'_>, lost: &mut NamesLost) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        if self.is_over(sample) {
            let entry = self.entries.get_mut(&sample.flow);
            lost.open_flows += entry.map_or(0, |entry| std::mem::take(&mut entry.is_closed_early).into());
            return events;
        }
        let flow = sample.flow;
        self.admit(sample, lost, &mut events);
        if let Some((application, message)) = dns_datagram(sample) {
            let direction = sample.direction;
            events.push(FlowEvent { flow, direction, event: NameEvent::Proven(application, "message") });
            events.push(FlowEvent { flow, direction, event: NameEvent::Dns(Box::new(message)) });
            return events;
        }
        self.reopen(sample, &mut events);
        self.read(sample, lost, &mut events);
        while self.open_by_age.len() > self.limits.open_flows {
            lost.open_flows += u64::from(self.close_early(&mut events));
        }
        while self.held > self.limits.waiting_bytes && self.close_oldest(&mut events) {
            lost.waiting_bytes += 1;
        }
        events
    }

    /// Whether nothing more can be read from this flow, which is the case for most samples of long
    /// flows.
    fn is_over(&self, sample: &NameSample<'_>) -> bool {
        let begins = sample.tcp.is_some_and(|segment| segment.has(flag::SYN));
        let is_dns = sample.tcp.is_none() && dns_port(sample).is_some();
        let is_closed = |entry: &FactsEntry| entry.opened > 0 && entry.open.is_none();
        !begins && !is_dns && self.entries.get(&sample.flow).is_some_and(is_closed)
    }

    /// Adds an entry, and evicts others to make room.
    fn admit(&mut self, sample: &NameSample<'_>, lost: &mut NamesLost, events: &mut Vec<FlowEvent>) {
        if self.entries.contains_key(&sample.flow) {
            return;
        }
        let is_full =
            |flows: &Self| flows.entries.len() >= flows.limits.flows || flows.facts_bytes > flows.limits.table_bytes;
        while is_full(self) && !self.entries.is_empty() {
            self.evict_oldest(events);
            lost.flows += 1;
        }
        self.counter += 1;
        let entry = FactsEntry {
            facts: FlowFacts::default(),
            opened_by: sample.opened_by,
            open: None,
            created: self.counter,
            opened: 0,
            is_closed_early: false,
            counted: 0,
        };
        self.entries.insert(sample.flow, entry);
        self.settled.insert(self.counter, sample.flow);
    }

    /// Opens a flow for reading: once, and again at each SYN of a new connection.
    fn reopen(&mut self, sample: &NameSample<'_>, events: &mut Vec<FlowEvent>) {
        let Some(entry) = self.entries.get_mut(&sample.flow) else { return };
        let is_new = entry.opened == 0 || sample.tcp.is_some_and(|segment| segment.has(flag::SYN));
        let is_over = entry.open.as_mut().is_some_and(|open| open.is_over(sample));
        if is_over {
            self.close(&sample.flow, events);
        }
        let Some(entry) = self.entries.get_mut(&sample.flow) else { return };
        if entry.open.is_some() || !is_new {
            return;
        }
        let Some(mut open) = FlowReader::new(&sample.flow, &self.limits) else { return };
        open.is_over(sample);
        self.counter += 1;
        (entry.open, entry.opened, entry.is_closed_early) = (Some(open), self.counter, false);
        self.settled.remove(&entry.created);
        self.open_by_age.insert(self.counter, sample.flow);
    }

    fn read(&mut self, sample: &NameSample<'_>, lost: &mut NamesLost, events: &mut Vec<FlowEvent>) {
        let Some(entry) = self.entries.get_mut(&sample.flow) else { return };
        let Some(open) = &mut entry.open else { return };
        let before = open.held();
        let mut read = ReadEvents::new();
        open.observe(sample, lost, &mut read);
        self.held = self.held + open.held() - before;
        if open.is_done() {
            self.held -= open.held();
            self.open_by_age.remove(&entry.opened);
            self.settled.insert(entry.created, sample.flow);
            entry.open = None;
        }
        push(sample.flow, read, events);
    }

    /// Ends reading of a flow.
    fn close(&mut self, flow: &FlowKey, events: &mut Vec<FlowEvent>) {
        let Some(entry) = self.entries.get_mut(flow) else { return };
        let Some(mut open) = entry.open.take() else { return };
        self.open_by_age.remove(&entry.opened);
        self.settled.insert(entry.created, *flow);
        self.held -= open.held();
        let mut read = ReadEvents::new();
        open.finish(flow, &mut read);
        push(*flow, read, events);
    }

    /// True if there was an open flow.
    fn close_oldest(&mut self, events: &mut Vec<FlowEvent>) -> bool {
        let Some(flow) = self.open_by_age.first_key_value().map(|(_, flow)| *flow) else { return false };
        self.close(&flow, events);
        true
    }

    /// Closes the oldest open flow, for which more samples may follow, to make room. Returns true
    /// if one of its messages is incomplete.
    fn close_early(&mut self, events: &mut Vec<FlowEvent>) -> bool {
        let Some(flow) = self.open_by_age.first_key_value().map(|(_, flow)| *flow) else { return false };
        let is_incomplete =
            self.entries.get(&flow).and_then(|entry| entry.open.as_ref()).is_some_and(|open| open.held() > 0);
        self.close(&flow, events);
        if let Some(entry) = self.entries.get_mut(&flow) {
            entry.is_closed_early = !is_incomplete;
        }
        is_incomplete
    }

    /// Removes the oldest flow that is not open; if all are open, the one that was opened first.
    fn evict_oldest(&mut self, events: &mut Vec<FlowEvent>) {
        if self.settled.is_empty() {
            self.close_oldest(events);
        }
        if let Some((_, flow)) = self.settled.pop_first() {
            self.remove(&flow);
        }
    }

    /// Parses the buffered bytes of one flow.
    pub fn finish_flow(&mut self, flow: &FlowKey) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        self.close(flow, &mut events);
        events
    }

    /// Removes a flow; returns its facts.
    pub fn remove(&mut self, flow: &FlowKey) -> Option<FlowFacts> {
        let entry = self.entries.swap_remove(flow)?;
        self.settled.remove(&entry.created);
        self.facts_bytes -= entry.counted;
        if let Some(open) = entry.open {
            self.open_by_age.remove(&entry.opened);
            self.held -= open.held();
        }
        Some(entry.facts)
    }

    /// Parses the buffered bytes of all flows.
    pub fn finish(&mut self) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        while self.close_oldest(&mut events) {}
        events
    }
}

fn push(flow: FlowKey, read: ReadEvents, events: &mut Vec<FlowEvent>) {
    events.extend(read.into_iter().map(|(direction, event)| FlowEvent { flow, direction, event }));
}

/// The DNS message in a datagram. DNS flows may last indefinitely, and reading them needs no state.
fn dns_datagram(sample: &NameSample<'_>) -> Option<(Application, dns::DnsMessage)> {
    if Protocol(sample.flow.protocol) != Protocol::UDP {
        return None;
    }
    // NetBIOS uses the same messages for other names.
    let is_dns = || !sample.ports().has(port::NETBIOS_NAMES) && dns::is_certain(sample.payload);
    let application = dns_port(sample).or_else(|| is_dns().then_some(Application::Dns))?;
    dns::parse(sample.payload).map(|message| (application, message))
}

/// The kind of DNS that one of the ports is registered for.
fn dns_port(sample: &NameSample<'_>) -> Option<Application> {
    let ports = sample.ports();
    port::dns_at(ports.destination).or_else(|| port::dns_at(ports.source))
}
