//! Traffic per process: sums over its flows on the link.

use std::collections::BTreeMap;

use super::{Report, ReportFlow};
use crate::flow::{Counters, Direction, EndpointKey, Flow, PerDirection};
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
    pub(super) fn add(&mut self, flow: &Flow) {
        self.flows += 1;
        self.counters += flow.counters;
    }

    /// Adds other flows.
    pub fn add_sum(&mut self, other: &Self) {
        self.flows += other.flows;
        self.counters += other.counters;
    }
}

/// Traffic of one process on the link. A flow with several users counts for the one with the best
/// evidence, the latest of several.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProcessTraffic {
    /// Per endpoint: its key, and its place in the report.
    pub endpoints: BTreeMap<(EndpointKey, Option<usize>), FlowSum>,
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

impl AttributionCounts {
    pub(super) fn add(&mut self, flow: &Flow, evidence: Option<Evidence>) {
        *match evidence {
            Some(Evidence::Socket) => &mut self.socket,
            Some(Evidence::Tuple) => &mut self.tuple,
            Some(Evidence::Netns) => &mut self.netns,
            None if flow.opened_by == Direction::Ingress => &mut self.kernel,
            None => &mut self.unattributed,
        } += 1;
    }
}

/// Traffic of one process with one endpoint, of flows that were folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldedTraffic {
    /// The process.
    pub process: ProcessId,
    /// The endpoint.
    pub endpoint: EndpointKey,
    /// The folded flows.
    pub sum: FlowSum,
}

impl Report {
    /// Traffic of each process, in the order of [`crate::process::Processes::list`].
    pub fn by_process(&self) -> Vec<ProcessTraffic> {
        let places = self.endpoint_places();
        let mut traffic = vec![ProcessTraffic::default(); self.processes.list.len()];
        for known in &self.flows {
            let Some(process) = user_of(known).and_then(|user| traffic.get_mut(user.0 as usize)) else { continue };
            process.total.add(&known.flow);
            let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
            process.endpoints.entry((key, places.of(known))).or_default().add(&known.flow);
        }
        for FoldedTraffic { process, endpoint, sum } in &self.folded_traffic {
            let Some(process) = traffic.get_mut(process.0 as usize) else { continue };
            process.total.add_sum(sum);
            process.endpoints.entry((*endpoint, places.of_key(endpoint))).or_default().add_sum(sum);
        }
        traffic
    }

    /// Counts the flows on the link by the evidence for their process.
    pub fn attribution_counts(&self) -> AttributionCounts {
        let mut counts = self.folded_attribution;
        for known in &self.flows {
            counts.add(&known.flow, known.users.first().map(|user| user.evidence));
        }
        counts
    }
}

fn user_of(known: &ReportFlow) -> Option<ProcessId> {
    known.users.first().map(|user| user.process)
}
