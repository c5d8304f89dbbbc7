//! Traffic per process: sums over its flows on the link.

use std::collections::BTreeMap;

use super::{Report, ReportFlow};
use crate::flow::{Counters, Direction, EndpointKey, PerDirection};
use crate::process::{Evidence, ProcessId};

/// A number of flows and the sum of their counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowSum {
    /// Number of flows.
    pub flows: u64,
    /// The sum of their counters.
    pub counters: PerDirection<Counters>,
}

impl FlowSum {
    fn add(&mut self, known: &ReportFlow) {
        self.flows += 1;
        self.counters += known.flow.counters;
    }
}

/// Traffic of one process on the link. A flow with several users counts for the one with the best
/// evidence, the latest of several.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProcessTraffic {
    /// Per endpoint.
    pub endpoints: BTreeMap<EndpointKey, FlowSum>,
    /// All endpoints.
    pub total: FlowSum,
}

/// Numbers of flows on the link, by the evidence for their process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AttributionCounts {
    /// By the socket of the packet (exact).
    pub socket: u64,
    /// Inferred from addresses and ports.
    pub tuple: u64,
    /// Some process of the run: no other process is in the namespace.
    pub netns: u64,
    /// Opened by a remote and answered by the kernel alone: no process.
    pub kernel: u64,
    /// Used by a process of the run that could not be determined.
    pub unattributed: u64,
}

impl Report {
    /// Traffic of each process, in the order of [`crate::process::Processes::list`].
    pub fn by_process(&self) -> Vec<ProcessTraffic> {
        let mut traffic = vec![ProcessTraffic::default(); self.processes.list.len()];
        for known in &self.flows {
            let Some(process) = user_of(known).and_then(|user| traffic.get_mut(user.0 as usize)) else { continue };
            process.total.add(known);
            let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
            process.endpoints.entry(key).or_default().add(known);
        }
        traffic
    }

    /// Counts the flows on the link by the evidence for their process.
    pub fn attribution_counts(&self) -> AttributionCounts {
        let mut counts = AttributionCounts::default();
        for known in &self.flows {
            *match known.users.first().map(|user| user.evidence) {
                Some(Evidence::Socket) => &mut counts.socket,
                Some(Evidence::Tuple) => &mut counts.tuple,
                Some(Evidence::Netns) => &mut counts.netns,
                None if known.flow.opened_by == Direction::Ingress => &mut counts.kernel,
                None => &mut counts.unattributed,
            } += 1;
        }
        counts
    }
}

fn user_of(known: &ReportFlow) -> Option<ProcessId> {
    known.users.first().map(|user| user.process)
}
