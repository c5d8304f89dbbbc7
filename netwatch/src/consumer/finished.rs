//! Flows that have ended, each counted once: what a consumer exports that has a record for each
//! finished flow.

use std::collections::{HashMap, VecDeque};

use crate::flow::{Counters, Flow, ObservationPoint, PerDirection};
use crate::process::ProcessNumber;
use crate::session::{FlowRecord, ProcessRecord};

/// Number of ended flows whose exported counts are remembered: more than a session tracks and has
/// undelivered, so that late packets of an ended flow are exported once.
const MAX_ENDED: usize = 1 << 18;
/// Maximum number of processes that are remembered; all are forgotten when there are more.
const MAX_PROCESSES: usize = 1 << 18;

/// What was exported, and the processes of flows.
#[derive(Debug, Default)]
pub(super) struct FinishedFlows {
    processes: HashMap<ProcessNumber, FlowProcess>,
    exported: HashMap<u64, PerDirection<Counters>>,
    /// The serial numbers of `exported`, in the order of the first ends.
    order: VecDeque<u64>,
}

/// A process that used a flow.
#[derive(Debug)]
pub(super) struct FlowProcess {
    pub pid: u32,
    pub program: Box<str>,
}

/// What is new of a flow that has ended.
#[derive(Debug)]
pub(super) struct FinishedFlow<'a> {
    /// All its packets at its first end; after that those of a later one.
    pub counters: PerDirection<Counters>,
    /// The process with the strongest evidence.
    pub process: Option<&'a FlowProcess>,
}

impl FinishedFlows {
    /// Remembers a process.
    pub(super) fn add_process(&mut self, used: &ProcessRecord) {
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        let process = FlowProcess { pid: used.process.pid, program: used.process.program().into() };
        self.processes.insert(used.process.number, process);
    }

    /// A flow of the link has ended. `None` if nothing is new since its end before.
    pub(super) fn end(&mut self, record: &FlowRecord) -> Option<FinishedFlow<'_>> {
        if record.flow.key.point != ObservationPoint::Link {
            return None;
        }
        let counters = self.advance(&record.flow);
        if counters == PerDirection::default() {
            return None;
        }
        let process = record.usages.first().and_then(|usage| self.processes.get(&usage.process));
        Some(FinishedFlow { counters, process })
    }

    fn advance(&mut self, flow: &Flow) -> PerDirection<Counters> {
        if let Some(before) = self.exported.insert(flow.serial, flow.counters) {
            return flow.counters.zip(before, Counters::saturating_sub);
        }
        self.order.push_back(flow.serial);
        if self.order.len() > MAX_ENDED {
            self.order.pop_front().map(|serial| self.exported.remove(&serial));
        }
        flow.counters
    }
}
