//! Flows that have ended, each counted once: what a consumer exports that has a record for each
//! finished flow.

use super::remembered::{RememberedFlows, RememberedProcesses};
use crate::flow::{Counters, Flow, ObservationPoint, PerDirection};
use crate::session::{FlowRecord, ProcessRecord};

/// What was exported, and the processes of flows.
#[derive(Debug, Default)]
pub(super) struct FinishedFlows {
    processes: RememberedProcesses<FlowProcess>,
    /// What was exported of flows that have ended at least once.
    exported: RememberedFlows<Exported>,
}

/// What was exported of a flow.
#[derive(Debug, Default)]
struct Exported {
    counters: PerDirection<Counters>,
    retransmitted: PerDirection<u64>,
    failure: Option<&'static str>,
}

/// A process that used a flow.
#[derive(Debug, Clone)]
pub(super) struct FlowProcess {
    pub pid: u32,
    pub program: Box<str>,
}

/// What is new of a flow that has ended.
#[derive(Debug)]
pub(super) struct FinishedFlow<'a> {
    /// All its packets at its first end; after that those of a later one.
    pub counters: PerDirection<Counters>,
    /// Packets of these that TCP retransmitted, or that came out of order.
    pub retransmitted: PerDirection<u64>,
    /// Why the attempt failed, unless that was exported before.
    pub failure: Option<&'static str>,
    /// The process with the strongest evidence.
    pub process: Option<&'a FlowProcess>,
}

impl FinishedFlows {
    /// Remembers a process.
    pub(super) fn add_process(&mut self, used: &ProcessRecord) {
        let process = FlowProcess { pid: used.process.pid, program: used.process.program().into() };
        self.processes.insert(used.process.number, process);
    }

    /// A flow has grown after its end. If it is live again, it is remembered until it ends.
    pub(super) fn grow(&mut self, flow: &Flow) {
        if flow.ended.is_none() {
            self.exported.reopen(flow.serial);
        }
    }

    /// A flow of the link has ended. `None` if nothing is new since its end before.
    pub(super) fn end(&mut self, record: &FlowRecord) -> Option<FinishedFlow<'_>> {
        if record.flow.key.point != ObservationPoint::Link {
            return None;
        }
        let Exported { counters, retransmitted, failure } = self.advance(&record.flow);
        if counters == PerDirection::default() {
            return None;
        }
        let process = record.usages.first().and_then(|usage| self.processes.get(usage.process));
        Some(FinishedFlow { counters, retransmitted, failure, process })
    }

    /// What is new of a flow.
    fn advance(&mut self, flow: &Flow) -> Exported {
        let now = Exported {
            counters: flow.counters,
            retransmitted: flow.tcp.unwrap_or_default().retransmitted_packets,
            failure: flow.failed().causes().map(|(cause, _)| cause).next(),
        };
        let new = |before: &Exported| Exported {
            counters: now.counters.zip(before.counters, Counters::saturating_sub),
            retransmitted: now.retransmitted.zip(before.retransmitted, u64::saturating_sub),
            failure: now.failure.filter(|failure| before.failure != Some(failure)),
        };
        let exported = self.exported.entry(flow.serial);
        let new = new(exported);
        *exported = now;
        self.exported.end(flow.serial);
        new
    }
}
