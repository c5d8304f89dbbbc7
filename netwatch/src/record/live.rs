//! A recording while its run goes on: batches into the tables, and the report of what is there when nothing more came.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use rusqlite::{Connection, Result};

use super::batch::{Batch, Rest, Steps};
use super::cell::{Count, Cursor, Wrong};
use super::processes::{self, ProcessIds, ProcessNumbers};
use super::read::{self, Losses};
use super::remainder;
use super::table::{Rows, clear, read};
use super::write::{self, Flows, State};
use crate::flow::{Endpoint, FlowKey, ObservationPoint};
use crate::report::{Facts, Report, UnfinishedRun};

/// Under which number each flow is written. By fingerprints: keys would take four times the memory.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    of: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Numbers {
    /// That of a flow which has been written.
    fn known(&self, key: &FlowKey) -> Option<u64> {
        self.of.get(&self.hasher.hash_one(key)).copied().map(u64::from)
    }

    fn of(&mut self, key: &FlowKey) -> u64 {
        let next = u32::try_from(self.of.len()).unwrap_or(u32::MAX);
        u64::from(*self.of.entry(self.hasher.hash_one(key)).or_insert(next))
    }
}

/// Writes a batch, all or nothing.
pub(super) fn write(db: &mut Connection, batch: &Batch, numbers: &mut Numbers) -> Result<()> {
    let transaction = db.transaction()?;
    let mut flows = Flows::new(&transaction, ProcessNumbers::default());
    for known in &batch.flows {
        // Users are in the rest.
        flows.put(numbers.of(&known.flow.key), known)?;
    }
    drop(flows);
    steps(&transaction, &batch.steps)?;
    batch.rest.iter().try_for_each(|rest| write_rest(&transaction, rest, numbers))?;
    write::recording(&transaction, State::Running, batch.until_ns, batch.waiting)?;
    transaction.commit()
}

fn steps(db: &Connection, steps: &Steps) -> Result<()> {
    let Some(from_ns) = steps.from_ns else { return Ok(()) };
    db.prepare("DELETE FROM step WHERE start_ns >= ?")?.execute([from_ns.cast_signed()])?;
    let mut rows = Rows::of(db, "step");
    steps.steps.iter().try_for_each(|step| rows.put(&[step]))
}

fn write_rest(db: &Connection, rest: &Rest, numbers: &Numbers) -> Result<()> {
    const REPLACED: [&str; 12] = [
        "flow_user",
        "run",
        "total",
        "folded",
        "remainder",
        "lost",
        "folded_endpoint",
        "lookup_outcome",
        "process",
        "unix_socket",
        "attempt",
        "note",
    ];
    REPLACED.iter().try_for_each(|table| clear(db, table))?;
    let facts = &rest.facts;
    let process_numbers = ProcessNumbers::new(&facts.processes.list);
    write::run(db, &facts.run, &facts.interface, &facts.dns, facts.complete, &facts.processes.attribution)?;
    write::totals(db, &rest.totals, &rest.folded, &rest.loopback)?;
    remainder::write(db, &rest.remainders)?;
    write::lost(db, &facts.lost, &rest.names_lost, &facts.processes.lost)?;
    let mut rows = Rows::of(db, "folded_endpoint");
    for (scope, endpoint) in &rest.folded_endpoints {
        let Endpoint { key, flows, connections, counters, .. } = endpoint;
        rows.put(&[scope, key, flows, connections, counters])?;
    }
    let mut rows = Rows::of(db, "flow_user");
    for (flow, users) in rest.users.iter() {
        // One that waits has its users with the rest after it.
        let Some(number) = numbers.known(flow) else { continue };
        processes::write_users(&mut rows, number, users, process_numbers)?;
    }
    write::lookups(db, &rest.lookups)?;
    processes::write(db, &facts.processes)?;
    write::attempts(db, &facts.attempts, process_numbers)?;
    write::notes(db, &facts.notes)
}

/// The report of a run that was not concluded: interim figures as of the last batch.
pub(super) fn report(db: &Connection) -> std::result::Result<Report, Wrong> {
    let head = read::head(db)?;
    let lost = Losses::read(db)?;
    let processes = processes::take(db, head.attribution, lost.processes())?;
    let ids = ProcessIds::new(&processes.list);
    let (mut flows, loopback) = read::flows(db, &ids)?;
    flows.extend(loopback);
    let folded = read::totals(db)?.remove("folded").unwrap_or_default();
    Ok(Report::of_unfinished_run(UnfinishedRun {
        facts: Facts {
            run: head.run,
            interface: head.interface,
            dns: head.dns,
            interface_counters: None,
            complete: false,
            lost: lost.counts(),
            processes,
            attempts: read::attempts(db, &ids)?,
            notes: read::notes(db)?,
            replay: None,
        },
        flows,
        folded_endpoints: read(db, "folded_endpoint", "rowid", folded_endpoint)?,
        folded: read::folded(db, folded)?,
        remainders: remainder::take(db)?,
        lookups: read::lookups(db)?,
        names_lost: lost.names(),
    }))
}

fn folded_endpoint(row: &mut Cursor<'_>) -> std::result::Result<(ObservationPoint, Endpoint), Wrong> {
    let scope = row.take()?;
    let key = row.take()?;
    let [flows, connections] = [row.take::<Count>()?, row.take::<Count>()?].map(u64::from);
    let (counters, handshake_rtt_ns, failed) = (row.take()?, None, crate::flow::Failed::default());
    Ok((scope, Endpoint { key, flows, connections, counters, handshake_rtt_ns, failed }))
}
