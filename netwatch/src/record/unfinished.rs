//! The report of a recording that was not completed: interim figures as of its last transaction.

use rusqlite::Connection;

use super::cell::{Count, Cursor, Wrong};
use super::processes::{self, ProcessIds};
use super::read::{self, LossCounts};
use super::remainder;
use super::table::read;
use crate::flow::{Endpoint, ObservationPoint};
use crate::report::{Facts, Report, UnfinishedRun};

/// The report of a run that was not concluded: interim figures as of the last batch.
pub(super) fn report(db: &Connection) -> Result<Report, Wrong> {
    let head = read::head(db)?;
    let lost = LossCounts::read(db)?;
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
        series: read::series(db)?,
        activity: read::activity(db)?,
        flows,
        folded_endpoints: read(db, "folded_endpoint", "rowid", folded_endpoint)?,
        folded: read::folded(db, folded)?,
        remainders: remainder::take(db)?,
        lookups: read::lookups(db)?,
        names_lost: lost.names(),
    }))
}

fn folded_endpoint(row: &mut Cursor<'_>) -> Result<(ObservationPoint, Endpoint), Wrong> {
    let point = row.take()?;
    let key = row.take()?;
    let [flows, connections] = [row.take::<Count>()?, row.take::<Count>()?].map(u64::from);
    let (counters, payload, failed) = (row.take()?, row.take()?, row.take()?);
    Ok((point, Endpoint { key, flows, connections, counters, payload, handshake_rtt_ns: None, failed }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::flow::{Direction, EndpointKey, FailedAttempts, Payload, PerDirection, Protocol};
    use crate::record::{file, rows, schema};

    #[test]
    fn the_failed_attempts_of_folded_flows_are_recorded() {
        let mut db = Connection::open_in_memory().expect("a database");
        schema::create(&db).expect("tables");
        let key = EndpointKey {
            remote: crate::flow::Remote::Others,
            protocol: Protocol::TCP,
            port: 443,
            direction: Direction::Egress,
            fragment: false,
        };
        let failed = FailedAttempts { refused: 1, unanswered: 2, unanswered_tries: 3, reset: 4, unreachable: 5 };
        let endpoint = Endpoint {
            key,
            flows: 9,
            connections: 8,
            counters: PerDirection::default(),
            payload: Payload::default(),
            handshake_rtt_ns: None,
            failed,
        };
        let written = (ObservationPoint::Link, endpoint);
        rows::replace_folded_endpoints(&db, [&written].into_iter()).expect("written");
        let bytes = db.serialize("main").expect("a file").to_vec();
        let db = file::open_bytes(&bytes, Path::new("a test")).expect("opened");
        let found = read(&db, "folded_endpoint", "rowid", folded_endpoint).expect("read");
        assert_eq!(found, [written]);
    }
}
