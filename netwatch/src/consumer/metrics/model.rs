//! The state of the metrics: what the events of a session add up to. Every counter only grows, also
//! when the session folds flows.

use std::sync::Arc;

use super::label::MetricLabel;
use super::series::{LabelValues, TopSeries};
use super::sums::{CAUSES, CountedFlow, FlowGrowth, Histogram, causes_of};
use crate::consumer::remembered::{RememberedFlows, RememberedProcesses};
use crate::flow::{Direction, Endpoint, FlowActivity, ObservationPoint, PerDirection};
use crate::report::{Interface, Run};
use crate::session::{Event, FlowRecord, IntervalTotals, ProcessRecord};

/// Maximum number of flows that are remembered. Packets of further flows are in no series, and
/// their records are counted as missed.
const MAX_FLOWS: usize = 1 << 20;

/// What the metrics show.
#[derive(Debug)]
pub(super) struct MetricsModel {
    pub labels: Vec<MetricLabel>,
    pub run: Option<Run>,
    interface: Interface,
    /// The end of the last interval.
    pub totals: Option<Arc<IntervalTotals>>,
    pub activity: FlowActivity,
    pub series: TopSeries,
    pub connect: Histogram,
    pub round_trip: Histogram,
    pub retransmitted: PerDirection<u64>,
    /// Failed attempts of the target in flows that were tracked individually.
    failed: [u64; CAUSES.len()],
    /// Those of all others.
    failed_untracked: [u64; CAUSES.len()],
    flows: RememberedFlows<CountedFlow>,
    pub(super) max_flows: usize,
    /// Records of flows beyond the maximum.
    pub missed: u64,
    programs: RememberedProcesses<Box<str>>,
}

impl MetricsModel {
    pub(super) fn new(labels: Vec<MetricLabel>) -> Self {
        Self {
            labels,
            run: None,
            interface: Interface::default(),
            totals: None,
            activity: FlowActivity::default(),
            series: TopSeries::default(),
            connect: Histogram::default(),
            round_trip: Histogram::default(),
            retransmitted: PerDirection::default(),
            failed: [0; CAUSES.len()],
            failed_untracked: [0; CAUSES.len()],
            flows: RememberedFlows::default(),
            max_flows: MAX_FLOWS,
            missed: 0,
            programs: RememberedProcesses::default(),
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Started(started) => {
                self.run = Some(started.run.clone());
                self.interface = started.interface.clone();
            }
            Event::UsedBy(used) => self.name_process(&used),
            Event::FlowOpened(record) | Event::FlowGrew(record) => self.count(&record, false),
            Event::FlowEnded(record, _) => self.count(&record, true),
            Event::Interval(totals) => {
                if let Some(endpoints) = &totals.untracked_endpoints {
                    self.failed_untracked = failed_by_cause(endpoints);
                }
                self.totals = Some(totals);
            }
            Event::Status(status) => self.activity = status.flows,
            _ => {}
        }
    }

    /// Failed attempts by cause.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sums = self.failed.iter().zip(self.failed_untracked).map(|(tracked, untracked)| tracked + untracked);
        CAUSES.into_iter().zip(sums)
    }

    fn name_process(&mut self, used: &ProcessRecord) {
        self.programs.insert(used.process.number, used.process.program().into());
    }

    /// Adds what is new in a record of a flow of the link.
    fn count(&mut self, record: &FlowRecord, has_ended: bool) {
        let FlowRecord { flow, .. } = record;
        if flow.key.point != ObservationPoint::Link {
            return;
        }
        if self.flows.len() >= self.max_flows && !self.flows.has(flow.serial) {
            self.missed += 1;
            return;
        }
        let growth = self.flows.entry(flow.serial).advance(flow, has_ended);
        // A flow that TCP closed has not reopened when late packets arrive.
        if has_ended {
            self.flows.end(flow.serial);
        } else if flow.ended.is_none() {
            self.flows.reopen(flow.serial);
        }
        self.add(record, &growth);
    }

    fn add(&mut self, record: &FlowRecord, growth: &FlowGrowth) {
        let program = record.usages.first().and_then(|usage| self.programs.get(usage.process));
        let program = program.map(AsRef::as_ref);
        let values: LabelValues =
            self.labels.iter().map(|label| label.value(record, program, &self.interface)).collect();
        self.series.add(values, &growth.sums);
        self.connect.add(growth.handshake_ns.map_or(0, |_| 1), growth.handshake_ns.unwrap_or_default());
        self.round_trip.add(growth.round_trips.0, growth.round_trips.1);
        self.retransmitted += growth.retransmitted;
        self.failed.iter_mut().zip(growth.failed).for_each(|(sum, failed)| *sum += failed);
    }
}

/// Failed attempts of the target on the link, in the order of [`CAUSES`].
fn failed_by_cause(endpoints: &[(ObservationPoint, Endpoint)]) -> [u64; CAUSES.len()] {
    let mut sums = [0; CAUSES.len()];
    let on_link = endpoints.iter().filter(|(point, _)| *point == ObservationPoint::Link);
    for (_, endpoint) in on_link.filter(|(_, endpoint)| endpoint.key.direction == Direction::Egress) {
        sums.iter_mut().zip(causes_of(endpoint.failed)).for_each(|(sum, failed)| *sum += failed);
    }
    sums
}
