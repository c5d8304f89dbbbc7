//! Flows that have ended, each counted once: what a consumer exports that has a record for each
//! finished flow.

use std::collections::HashMap;

use super::remembered::RememberedFlows;
use crate::flow::{Counters, Flow, ObservationPoint, PerDirection};
use crate::process::ProcessNumber;
use crate::session::{FlowRecord, ProcessRecord};

/// Maximum number of processes that are remembered; all are forgotten when there are more.
const MAX_PROCESSES: usize = 1 << 18;

/// What was exported, and the processes of flows.
#[derive(Debug, Default)]
pub(super) struct FinishedFlows {
    processes: HashMap<ProcessNumber, FlowProcess>,
    /// The counts of flows that have ended at least once.
    exported: RememberedFlows<PerDirection<Counters>>,
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
        let counters = self.advance(&record.flow);
        if counters == PerDirection::default() {
            return None;
        }
        let process = record.usages.first().and_then(|usage| self.processes.get(&usage.process));
        Some(FinishedFlow { counters, process })
    }

    fn advance(&mut self, flow: &Flow) -> PerDirection<Counters> {
        let exported = self.exported.entry(flow.serial);
        let before = std::mem::replace(exported, flow.counters);
        self.exported.end(flow.serial);
        flow.counters.zip(before, Counters::saturating_sub)
    }
}
