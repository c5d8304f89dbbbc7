//! Untrusted numbers in a recording: each is refused with its location, or every output of it is
//! correct.

mod sample;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use netwatch::export::{self, ExportTable};
use netwatch::format::history::{RecordedFacts, RecordedRun, RecordingStatus};
use netwatch::record::{self, Completeness, Recorded};
use netwatch::report::Report;
use rusqlite::Connection;
use sample::everything::{everything, replay, series};
use sample::outputs;

/// The largest number of things, and the latest time, that a recording may hold
/// (docs/recording.md).
const MOST: i64 = 1 << 53;
const LATEST_NS: i64 = 1 << 62;

/// The small ones make processes their own parents, and the like.
const EXTREMES: [i64; 8] = [0, 1, -1, 1 << 32, MOST, LATEST_NS, i64::MAX, i64::MIN];

/// Recordings with rows in every table: of a run that was concluded and one that was not, and of a
/// capture.
struct Bases {
    _folder: tempfile::TempDir,
    paths: Vec<PathBuf>,
    /// Where they are changed.
    changed: PathBuf,
}

impl Bases {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = |name: &str, report: &Report, change: &str| {
            record::write_file(&path(name), &Report { series: series(), ..report.clone() }).unwrap();
            Connection::open(path(name)).unwrap().execute_batch(change).unwrap();
            path(name)
        };
        let shared = "remote, protocol, port, direction, fragment, flows, connections, \
                      egress_skbs, egress_packets, egress_bytes, egress_wire_bytes, \
                      ingress_skbs, ingress_packets, ingress_bytes, ingress_wire_bytes, \
                      payload_unknown, payload_egress_bytes, payload_ingress_bytes, \
                      refused, unanswered, unanswered_tries, reset, unreachable";
        let fold = &format!("INSERT INTO folded_endpoint (scope, {shared}) SELECT 'link', {shared} FROM endpoint;");
        let running = format!("{fold} UPDATE recording SET state = 'running'");
        let paths = vec![
            made("complete", &everything(), fold),
            made("running", &everything(), &running),
            made("replay", &replay(), ""),
        ];
        Self { paths, changed: path("changed"), _folder: folder }
    }

    /// A copy of one of them that was changed; `None` if SQLite did not let it be.
    fn changed(&self, base: &Path, change: &str) -> Option<&Path> {
        fs::copy(base, &self.changed).unwrap();
        let db = Connection::open(&self.changed).unwrap();
        db.execute_batch(&format!("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; {change}")).ok()?;
        Some(&self.changed)
    }
}

/// Every column of numbers, with its table and how many rows that has.
fn columns(path: &Path) -> Vec<(String, String, i64)> {
    let db = Connection::open(path).unwrap();
    let sql = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND c.type = 'INTEGER'";
    let mut statement = db.prepare(sql).unwrap();
    let names = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let names: Vec<(String, String)> = names.collect::<Result<_, _>>().unwrap();
    let rows = |table: &str| db.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap();
    names.into_iter().map(|(table, column)| (rows(&table), table, column)).map(|(n, t, c)| (t, c, n)).collect()
}

/// Writes every output of one recording and of several like it.
fn write_all(path: &Path, recorded: &Recorded) {
    let Recorded { report, complete } = recorded;
    outputs::reports(report);
    outputs::rules(&[report, report, report]);
    outputs::differences(&[report], &[report]);
    outputs::checks(&[report]);
    outputs::exports(report);
    let runs = [report, report];
    for table in [ExportTable::Flows, ExportTable::Series] {
        export::write(&runs, table, export::ExportFormat::Parquet, &mut Vec::new()).unwrap();
    }
    let summary = record::summary(path).unwrap();
    let state = match complete {
        Completeness::Complete => RecordingStatus::Complete,
        Completeness::Incomplete { until_ns, .. } => RecordingStatus::Incomplete(*until_ns),
    };
    let held = RecordedFacts {
        command: summary.run.command,
        started_ns: summary.run.started_ns,
        duration_ns: summary.run.duration_ns,
        exit: summary.run.exit,
        egress_wire_bytes: summary.totals.egress.wire_bytes,
        ingress_wire_bytes: summary.totals.ingress.wire_bytes,
    };
    let file = path.display().to_string();
    outputs::history(RecordedRun { number: 1, id: "3f2a".into(), file, file_bytes: 1, state, facts: Some(held) });
}

/// Whether it was read. Errors have to name the place.
fn read_and_write(path: &Path, table: &str) -> bool {
    match record::read_file(path) {
        Ok(recorded) => {
            write_all(path, &recorded);
            true
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(&format!("the file is damaged: in table {table}, ")), "{error}");
            false
        }
    }
}

#[test]
fn no_number_of_a_run_is_a_panic() {
    try_all(0, |_| true);
}

#[test]
fn no_number_of_a_run_that_was_killed_is_a_panic() {
    try_all(1, |_| true);
}

#[test]
fn no_number_of_a_capture_is_a_panic() {
    // The other tables are the same.
    try_all(2, |table| table == "replay" || table.starts_with("balance"));
}

fn try_all(base: usize, is_tried: impl Fn(&str) -> bool) {
    let bases = Bases::new();
    let base = &bases.paths[base];
    let mut failed = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for (table, column, _) in columns(base).into_iter().filter(|(table, _, rows)| *rows > 0 && is_tried(table)) {
        for number in EXTREMES {
            let change = format!("UPDATE OR REPLACE {table} SET {column} = {number}");
            let Some(path) = bases.changed(base, &change) else { continue };
            match panic::catch_unwind(AssertUnwindSafe(|| read_and_write(path, &table))) {
                Ok(true) => read += 1,
                Ok(false) => refused += 1,
                Err(_) => failed.push(change),
            }
        }
    }
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
    assert!(read > 50 && refused > 50, "{read} read, {refused} refused");
}

/// All columns at their maximum at the same time: no sum overflows, and every output has the exact
/// sum.
#[test]
fn the_largest_numbers_that_are_read_can_be_added_up() {
    let bases = Bases::new();
    for base in &bases.paths {
        let mut changes = String::new();
        let is_a_key = |column: &str| ["number", "position", "start_ns"].contains(&column);
        for (table, column, rows) in
            columns(base).into_iter().filter(|(_, column, rows)| *rows > 0 && !is_a_key(column))
        {
            let largest = [LATEST_NS, MOST, MOST / rows, u32::MAX.into(), u16::MAX.into(), u8::MAX.into(), 1];
            let set =
                |number: i64| format!("{changes} UPDATE {table} SET {column} = {number} WHERE {column} IS NOT NULL;");
            let is_read =
                |change: &String| bases.changed(base, change).is_some_and(|path| record::read_file(path).is_ok());
            if let Some(change) = largest.map(set).into_iter().find(is_read) {
                changes = change;
            }
        }
        let path = bases.changed(base, &changes).expect("a part of it was");
        let recorded = record::read_file(path).unwrap();
        write_all(path, &recorded);
        outputs::rules(&vec![&recorded.report; record::MAX_RUNS]);
        outputs::checks(&vec![&recorded.report; record::MAX_RUNS]);
        let numbers = changes.matches("UPDATE").count();
        let largest = changes.matches(&MOST.to_string()).count();
        assert!(numbers > 100 && largest > 5, "{numbers}, {largest}: {changes}");
        check_sums(&recorded);
    }
}

/// Added up again, where nothing can overflow.
fn check_sums(recorded: &Recorded) {
    let report = &recorded.report;
    let wide = |numbers: &mut dyn Iterator<Item = u64>| numbers.map(u128::from).sum::<u128>();
    if recorded.complete == Completeness::Complete {
        return;
    }
    let of_flows = wide(&mut report.flows.iter().map(|known| known.flow.counters.both().wire_bytes));
    let of_endpoints = wide(&mut report.endpoints.iter().map(|known| known.endpoint.counters.both().wire_bytes));
    let nameable = report.naming.flows.wire_bytes;
    assert!(u128::from(nameable) <= of_flows && nameable > 1 << 52, "{nameable} of {of_flows}");
    let totals = u128::from(report.totals.both().wire_bytes);
    assert!(
        totals >= of_endpoints && of_endpoints > of_flows && of_flows > 1 << 53,
        "{totals}, {of_endpoints}, {of_flows}"
    );
}

/// Each of them could be, and together they would be more than 64 bits have.
#[test]
fn rows_that_cannot_be_added_up_are_refused() {
    let bases = Bases::new();
    let many = |rows: i64, bytes: i64| {
        format!(
            "CREATE TEMP TABLE one AS SELECT * FROM flow LIMIT 1; UPDATE one SET ingress_wire_bytes = {bytes}; DELETE FROM flow; \
             WITH RECURSIVE row(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < {rows}) \
             INSERT INTO flow SELECT n, {} FROM row, one;",
            columns_but_the_first(&bases.paths[0], "flow")
        )
    };
    for base in &bases.paths[..2] {
        let path = bases.changed(base, &many(4096, MOST)).expect("changed");
        let error = record::read_file(path).expect_err("over 64 bits").to_string();
        let expected = "the file is damaged: in table flow, the sum of ingress_wire_bytes exceeds 9007199254740992";
        assert!(error.contains(expected), "{error}");
        let path = bases.changed(base, &many(4096, MOST / 4096)).expect("changed");
        assert!(read_and_write(path, "flow"));
    }
}

fn columns_but_the_first(path: &Path, table: &str) -> String {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT name FROM pragma_table_info(?) WHERE cid > 0 ORDER BY cid").unwrap();
    let names = statement.query_map([table], |row| row.get::<_, String>(0)).unwrap();
    names.map(|name| format!("one.{}", name.unwrap())).collect::<Vec<_>>().join(", ")
}
