//! Flow records for IPFIX collectors and files: a consumer that exports each flow when it ends. A
//! collector that is slow or dead costs records, which are counted, and never delays the run.

mod exporter;
mod tcp;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;

pub use transport::{IpfixDestination, IpfixTarget};

use self::exporter::Exporter;
use super::finished::{FinishedFlow, FinishedFlows};
use super::{Consumer, Discards, StreamEnd};
use crate::error::{Error, Result};
use crate::flow::{BalanceState, Counters, Direction, EndReason, PerDirection, RemainderKind, TransportAddress};
use crate::format::ipfix::{BiflowRecord, DirectionRecord, FirstHeader, MeasurementRecord, encode_flow};
use crate::session::{Event, EventKinds, Finished, FlowRecord, IntervalTotals};

/// Exports flow records.
#[derive(Debug)]
pub struct Ipfix {
    exporter: Exporter,
    finished: FinishedFlows,
    /// That of the packets of the session.
    first_header: FirstHeader,
}

impl Ipfix {
    /// Exports to a destination. `domain` is the observation domain: a number of the run.
    pub fn new(destination: IpfixDestination, domain: u32) -> Self {
        let exporter = Exporter::new(destination, domain);
        Self { exporter, finished: FinishedFlows::default(), first_header: FirstHeader::default() }
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Started(started) => {
                let is_ip = started.interface.is_of_cgroups();
                self.first_header = if is_ip { FirstHeader::Ip } else { FirstHeader::Ethernet };
                Ok(())
            }
            Event::UsedBy(used) => {
                self.finished.add_process(used);
                Ok(())
            }
            Event::FlowEnded(record, reason) => self.flow(record, *reason),
            // Only of flows that are live again after their end.
            Event::FlowGrew(record) => {
                self.finished.grow(&record.flow);
                Ok(())
            }
            Event::Interval(totals) if self.exporter.needs_options() => self.exporter.options(&measured(totals)),
            Event::Finished(finished) => self.exporter.options(&concluded(finished)),
            _ => Ok(()),
        }
    }

    /// Exports what is new of a flow that has ended.
    fn flow(&mut self, record: &FlowRecord, reason: EndReason) -> Result<()> {
        let Some(finished) = self.finished.end(record) else { return Ok(()) };
        let counters = finished.counters;
        let biflow = biflow(record, reason, &finished, self.first_header);
        let octets = biflow.forward.octets() + biflow.reverse.octets();
        self.exporter.flow(&encode_flow(&biflow), counters.both().packets, octets)
    }
}

impl Consumer for Ipfix {
    fn name(&self) -> &'static str {
        "ipfix"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::SESSION.with(EventKinds::FLOW_ENDED).with(EventKinds::USED_BY).with(EventKinds::INTERVAL)
    }

    fn discards(&self) -> Option<Arc<Discards>> {
        Some(self.exporter.discards())
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        events.iter().try_for_each(|event| self.event(event))?;
        self.exporter.flush()
    }

    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        self.exporter.finish()?;
        match self.exporter.discards().report() {
            Some(report) => Err(Error::other("export", "every flow", report)),
            None => Ok(()),
        }
    }
}

/// The record of a flow, as the end that opened it sees it.
fn biflow<'a>(
    record: &'a FlowRecord,
    reason: EndReason,
    finished: &FinishedFlow<'a>,
    first_header: FirstHeader,
) -> BiflowRecord<'a> {
    let FinishedFlow { counters, retransmitted, process, .. } = *finished;
    let flow = &record.flow;
    let (source, destination) = match flow.opened_by {
        Direction::Egress => (flow.key.local, flow.key.remote),
        Direction::Ingress => (flow.key.remote, flow.key.local),
    };
    let end = |end: TransportAddress| (end.addr, end.port);
    let tcp = flow.tcp.unwrap_or_default();
    let direction = |direction: Direction| {
        let counters = counters.of(direction);
        DirectionRecord {
            packets: counters.packets,
            wire_bytes: counters.wire_bytes,
            first_header,
            tcp_flags: *tcp.flags.of(direction),
            retransmitted: *retransmitted.of(direction),
        }
    };
    let naming = record.naming.as_deref();
    let service = naming.and_then(|naming| naming.application.as_ref()).map_or("", |proven| proven.name.as_ref());
    let name = naming.and_then(|naming| naming.display_name.as_ref()).map_or("", |display| display.name.as_str());
    BiflowRecord {
        id: flow.serial,
        source: end(source),
        destination: end(destination),
        protocol: flow.key.protocol,
        end_reason: reason.number(),
        time_ns: (flow.first_seen_ns, flow.last_seen_ns),
        forward: direction(flow.opened_by),
        reverse: direction(flow.opened_by.opposite()),
        handshake_ns: tcp.handshake_rtt_ns.unwrap_or_default(),
        service,
        remote_name: name,
        process: process.map_or((0, ""), |process| (process.pid, &process.program)),
    }
}

fn measured(totals: &IntervalTotals) -> MeasurementRecord {
    let remainders: Counters = totals.remainders.sum(|_: RemainderKind| true).both();
    let untracked = totals.untracked.counters.both();
    MeasurementRecord {
        lost: totals.losses.by_reason().into_iter().map(|(_, count)| count).sum(),
        remainders: (remainders.packets, remainders.wire_bytes),
        untracked: (totals.untracked.flows, untracked.packets, untracked.wire_bytes),
        ..MeasurementRecord::default()
    }
}

/// As [`measured`], with the balance.
fn concluded(finished: &Finished) -> MeasurementRecord {
    let balance = &finished.report.balance;
    let counted = balance.counted.both();
    let interface = balance.interface.map(PerDirection::both).unwrap_or_default();
    let remainders = finished.report.remainders.sum(|_| true).both();
    let untracked = finished.untracked.counters.both();
    MeasurementRecord {
        counted: (counted.skbs, counted.bytes),
        interface: (interface.skbs, interface.bytes),
        balance_state: match balance.state {
            BalanceState::Closed => 1,
            BalanceState::Open => 2,
            BalanceState::Live | BalanceState::Unknown | BalanceState::NotApplicable => 0,
        },
        lost: finished.losses.by_reason().into_iter().map(|(_, count)| count).sum(),
        remainders: (remainders.packets, remainders.wire_bytes),
        untracked: (finished.untracked.flows, untracked.packets, untracked.wire_bytes),
    }
}
