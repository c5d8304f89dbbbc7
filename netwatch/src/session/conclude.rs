//! The reports of a session: interim reports and the final report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::event::{Event, EventKinds, Finished, FlowRecord};
use super::{Moment, Scope, ScopeFacts, Session};
use crate::flow::{InterfaceCounters, ObservationPoint, Protocol};
use crate::process::{Attribution, Evidence, FlowUser, ProcessId, ProcessNumber, Processes, TraceOutcome, Usage};
use crate::report::{
    EndedBy, ExitStatus, Facts, Report, ReportFlow, ReportFlows, ServiceActivity, service_activity, were,
};

impl<S: Scope> Session<S> {
    /// An interim report. Its balance is pending, because packets move while counters are read.
    pub fn report(&self, duration_ns: u64, interface_counters: Option<InterfaceCounters>) -> Report {
        self.report_at(&Moment { duration_ns, interface_counters, is_final: false, ..self.moment })
    }

    /// Concludes the session and returns the final report. To be called after the last drain.
    pub fn conclude(
        &mut self,
        duration_ns: u64,
        ending: Option<(ExitStatus, EndedBy)>,
        interface_counters: Option<InterfaceCounters>,
    ) -> Report {
        self.ledger.names.finish();
        // No further flow can begin, so errors that still wait belong to an earlier one. The
        // second time is that of the interval.
        for place in self.ledger.table.settle_icmp_errors() {
            self.timeline.recount(place, &self.ledger.table, true);
            self.outlets.iter_mut().for_each(|outlet| outlet.grew(place));
        }
        for place in self.ledger.table.live_places() {
            self.timeline.recount(place, &self.ledger.table, true);
        }
        self.end_interval(duration_ns);
        self.end_live();
        self.note_missed_events();
        self.moment = Moment { duration_ns, ending, interface_counters, is_final: true, ..self.moment };
        self.report_at(&self.moment)
    }

    /// Ends the live flows for the consumers. Names and processes can be added after their last
    /// packet, so a consumer that does not want ends receives the record once more.
    fn end_live(&mut self) {
        for place in self.ledger.table.live_places() {
            for outlet in &mut self.outlets {
                outlet.grew(place);
                outlet.forced_end(place);
            }
        }
    }

    /// Adds a note about events that slow consumers missed, for the report only: these consumers
    /// receive the number when they are closed.
    fn note_missed_events(&mut self) {
        let missed = self.outlets.iter().map(|outlet| {
            let folds = outlet.wants.has(EventKinds::FOLDS_MISSED);
            // Of each flow at least one event.
            let flows = if folds { 0 } else { outlet.missed.flows.counts().flows };
            outlet.missed.events + flows
        });
        let missed: u64 = missed.sum();
        if missed > 0 {
            self.notes.push(format!("{} not delivered, because a consumer was too slow", were(missed, "event")));
        }
    }

    /// The final report with the names that were added since [`Session::conclude`].
    pub fn final_report(&self) -> Report {
        self.report_at(&self.moment)
    }

    /// Delivers the end of the session to all consumers.
    pub fn finish(&mut self, report: Arc<Report>) {
        let table = &self.ledger.table;
        let finished = Finished {
            report,
            untracked: table.untracked(),
            untracked_endpoints: table.untracked_endpoints().collect(),
            losses: self.losses(),
        };
        self.push(&Event::Finished(Arc::new(finished)));
    }

    fn report_at(&self, moment: &Moment) -> Report {
        let link: Vec<FlowRecord> = self.ledger.records(ObservationPoint::Link).collect();
        let loopback: Vec<FlowRecord> = self.ledger.records(ObservationPoint::Loopback).collect();
        let outcome = self.outcome(link.iter().chain(&loopback), moment.is_final);
        let TraceOutcome { processes, attempts, ids } = outcome;
        let ScopeFacts { run, interface, dns, replay } = self.scope.facts(moment);
        let facts = Facts {
            run,
            interface,
            dns,
            interface_counters: moment.interface_counters,
            complete: moment.is_final,
            lost: self.losses.meter,
            processes,
            attempts,
            notes: self.notes.iter().cloned().chain(elsewhere(&self.ledger.trace.programs_elsewhere())).collect(),
            replay,
        };
        let flows = ReportFlows {
            link: link.into_iter().map(|record| report_flow(record, &ids)).collect(),
            loopback: loopback.into_iter().map(|record| report_flow(record, &ids)).collect(),
            folded: &self.ledger.folded,
            ids: &ids,
        };
        let report = Report::of_flows(facts, &self.ledger.table, flows, &self.ledger.names);
        // A capture is read at once.
        if report.replay.is_some() {
            return report;
        }
        Report { series: self.timeline.to_series(), activity: self.activity(), ..report }
    }

    /// Exchanges and peaks of the services of the target so far.
    pub(super) fn activity(&self) -> BTreeMap<(Protocol, u16), ServiceActivity> {
        let mut activity = service_activity(&self.ledger.names);
        for (key, peak) in self.timeline.peaks() {
            activity.entry(key).or_default().peak = Some(peak);
        }
        activity
    }

    pub(super) fn is_attributing(&self) -> bool {
        self.attribution == Attribution::On
    }

    /// Processes and failed calls, with the index of each process in the list of the report.
    fn outcome<'r>(&self, records: impl Iterator<Item = &'r FlowRecord> + Clone, is_final: bool) -> TraceOutcome {
        if !self.is_attributing() {
            let processes = Processes { attribution: self.attribution.clone(), ..Processes::default() };
            return TraceOutcome { processes, ..TraceOutcome::default() };
        }
        let used = records.clone().flat_map(|record| &record.usages).map(|usage| usage.process);
        let used = used.chain(self.ledger.folded.processes());
        let mut outcome =
            self.ledger.trace.outcome(used, &remotes_without_socket(records), self.packet_coverage(is_final));
        outcome.processes.lost = self.losses().processes;
        outcome
    }
}

/// The note about sockets whose packets are not captured, unless they are forwarded.
fn elsewhere(programs: &BTreeSet<String>) -> Option<String> {
    let listed = programs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (!programs.is_empty()).then(|| {
        format!(
            "{listed} used sockets in another network namespace than the one of the run: only what left by the link \
             of the run is counted"
        )
    })
}

/// The remotes of TCP flows without a known socket. A socket without packets may belong to one of
/// these flows.
fn remotes_without_socket<'r>(records: impl Iterator<Item = &'r FlowRecord>) -> BTreeSet<SocketAddr> {
    let is_known = |record: &FlowRecord| record.usages.iter().any(|usage| usage.evidence == Evidence::Socket);
    let unknown = records.filter(|record| record.flow.key.protocol == Protocol::TCP.0 && !is_known(record));
    unknown.map(|record| SocketAddr::new(record.flow.key.remote.addr, record.flow.key.remote.port)).collect()
}

/// Converts a record to a flow of the report, which refers to processes by their index.
fn report_flow(record: FlowRecord, ids: &BTreeMap<ProcessNumber, ProcessId>) -> ReportFlow {
    let FlowRecord { flow, naming, usages } = record;
    let user = |usage: &Usage| {
        let Usage { process, evidence, is_maker } = *usage;
        Some(FlowUser { process: *ids.get(&process)?, evidence, is_maker })
    };
    let naming = naming.map(|naming| Box::new(Arc::unwrap_or_clone(naming)));
    ReportFlow { flow, naming, users: usages.iter().filter_map(user).collect() }
}
