//! Writes events to the tables of a recording, with a transaction for each batch.

use rusqlite::{Connection, Result};

use super::fold::FoldedRows;
use super::processes::RemovedProcesses;
use crate::flow::{Endpoint, ObservationPoint};
use crate::process::{FlowUser, ProcessId};
use crate::record::rows::{self, FlowRows, ProcessNumbers, RecordingState};
use crate::session::{Event, Finished, FlowRecord, IntervalTotals, Missed};

/// What the recording has.
#[derive(Debug, Default)]
pub(super) struct WrittenTables {
    flows: WrittenFlows,
    folded: FoldedRows,
    removed: RemovedProcesses,
    /// The endpoints of flows that the session does not track individually.
    untracked: Vec<(ObservationPoint, Endpoint)>,
}

/// The flows that the recording has.
#[derive(Debug, Default)]
struct WrittenFlows {
    /// Higher than the serial number of each. Flows are mostly delivered in the order in which they
    /// were opened, so nearly every other number below belongs to one that is written again.
    next_serial: u64,
}

impl WrittenFlows {
    /// Adds a flow. Returns whether it is known to be new.
    fn add(&mut self, serial: u64) -> bool {
        let is_new = serial >= self.next_serial;
        self.next_serial = self.next_serial.max(serial.saturating_add(1));
        is_new
    }
}

/// Writes a batch in one transaction, and makes room for the next.
pub(super) fn events(db: &mut Connection, events: &[Event], written: &mut WrittenTables) -> Result<()> {
    let transaction = db.transaction()?;
    let mut flows = FlowRows::new(&transaction, ProcessNumbers::Identity);
    for event in events {
        match event {
            Event::FlowOpened(record) | Event::FlowGrew(record) | Event::FlowEnded(record, _) => {
                if !written.folded.grow(&record.flow) {
                    written.removed.restore(&transaction, record.usages.iter().map(|usage| usage.process))?;
                    put(&mut flows, record, &mut written.flows)?;
                }
            }
            Event::UsedBy(used) => rows::process(&transaction, &used.process, used.parent)?,
            Event::DnsExchange(number, lookup) => rows::lookup(&transaction, *number, lookup)?,
            Event::Attempts(all) => {
                let processes = all.iter().filter_map(|attempt| attempt.process);
                written.removed.restore(&transaction, processes.map(|id| id.0))?;
                rows::replace_attempts(&transaction, all, ProcessNumbers::Identity)?;
            }
            Event::LocalSockets(all) => {
                let processes = all.iter().flat_map(|socket| &socket.processes);
                written.removed.restore(&transaction, processes.map(|id| id.0))?;
                rows::replace_local_sockets(&transaction, all, ProcessNumbers::Identity)?;
            }
            Event::Interval(totals) => interval(&transaction, totals, written)?,
            Event::Started(_) | Event::Lost(..) | Event::Note(_) | Event::Status(_) | Event::Finished(_) => {}
        }
    }
    drop(flows);
    transaction.commit()?;
    written.folded.make_room(db, &mut written.removed)
}

/// Writes a record. The tables refer to processes by their number.
fn put(flows: &mut FlowRows<'_>, record: &FlowRecord, written: &mut WrittenFlows) -> Result<()> {
    let FlowRecord { flow, naming, usages } = record;
    let users = usages.iter().map(|usage| FlowUser {
        process: ProcessId(usage.process),
        evidence: usage.evidence,
        is_maker: usage.is_maker,
    });
    if !written.add(flow.serial) {
        flows.remove_users(flow.serial)?;
    }
    flows.put_new(flow, naming.as_deref(), users)
}

fn interval(db: &Connection, totals: &IntervalTotals, written: &mut WrittenTables) -> Result<()> {
    let IntervalTotals { run, interface, dns, series, losses, .. } = totals;
    if let Some(from_ns) = series.from_ns {
        rows::replace_steps(db, from_ns, &series.intervals)?;
    }
    rows::replace_run(db, run, interface, dns, false, &totals.attribution)?;
    let folded = totals.untracked.plus(written.folded.counts());
    rows::replace_totals(db, &totals.totals, &folded, &totals.loopback)?;
    rows::replace_remainders(db, &totals.remainders)?;
    rows::replace_losses(db, &[losses.by_reason(), written.folded.lost().into_iter().collect()].concat())?;
    if let Some(endpoints) = &totals.untracked_endpoints {
        written.untracked.clone_from(endpoints);
    }
    if totals.untracked_endpoints.is_some() || written.folded.has_changed() {
        let own: Vec<_> = written.folded.endpoints().collect();
        rows::replace_folded_endpoints(db, written.untracked.iter().chain(&own))?;
    }
    rows::replace_service_activity(db, &totals.activity)?;
    if let Some(notes) = &totals.notes {
        rows::replace_notes(db, notes)?;
    }
    rows::recording(db, RecordingState::Running, totals.end_ns, totals.waiting)
}

/// Completes the recording. Flows without a final record are folded into their endpoints.
pub(super) fn finished(
    db: &mut Connection,
    finished: &Finished,
    missed: &Missed,
    written: &mut WrittenTables,
) -> Result<()> {
    let Finished { report, untracked, losses, .. } = finished;
    let transaction = db.transaction()?;
    rows::remove_flows(&transaction, &missed.outdated)?;
    let folded = untracked.plus(missed.flows.counts()).plus(written.folded.retract(&missed.outdated));
    let left_out = written.removed.left_out(&transaction, report)?;
    rows::replace_all_but_flows(&transaction, report, &folded, &left_out)?;
    let losses = [losses.by_reason(), written.folded.lost().into_iter().collect()].concat();
    rows::replace_losses(&transaction, &losses)?;
    let until_ns = report.run.started_ns.saturating_add(report.run.duration_ns);
    rows::recording(&transaction, RecordingState::Complete, until_ns, 0)?;
    transaction.commit()?;
    crate::record::close(db)
}
