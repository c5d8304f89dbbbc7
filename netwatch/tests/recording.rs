//! Recordings: every report is read as it was written, and other or damaged files are refused with
//! a reason.

mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use netwatch::flow::Protocol;
use netwatch::process::Attribution;
use netwatch::record::{Completeness, read_file, write_file};
use netwatch::report::{EndedBy, EndedEarly, ExitStatus, Report, ReportEndpoint, ReportFlow, ServiceActivity};
use sample::everything::{everything, full_series, replay, series};
use sample::*;

/// A report lists flows in the order of their first packet; the samples do not.
fn in_order(mut report: Report) -> Report {
    let by_start = |known: &ReportFlow| (known.flow.first_seen_ns, known.flow.id());
    report.flows.sort_by_key(by_start);
    report.loopback.flows.sort_by_key(by_start);
    report
}

/// Writes a report, reads it, and compares.
fn round_trip(report: &Report) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    write_file(&path, report).unwrap();
    let read = read_file(&path).unwrap();
    assert_eq!(read.report, in_order(report.clone()));
    assert_eq!(read.complete, Completeness::Complete);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "one file");
}

#[test]
fn a_download_is_read_as_it_was_written() {
    round_trip(&download_report());
}

#[test]
fn a_report_with_everything_is_read_as_it_was_written() {
    round_trip(&Report { series: full_series(), activity: activity(), ..everything() });
}

/// Exchanges and peaks of one service, and nothing of another.
fn activity() -> BTreeMap<(Protocol, u16), ServiceActivity> {
    [((Protocol::TCP, 443), rich::activity()), ((Protocol::UDP, 53), ServiceActivity::default())].into()
}

#[test]
fn a_recording_of_schema_6_has_no_response_times() {
    let report = Report { activity: activity(), ..everything() };
    let (_dir, path) = recorded(&report);
    drop_added_columns(&path, include_str!("../src/record/upgrade_6_to_7.sql"));
    assert_eq!(read_file(&path).unwrap().report, in_order(everything()));
}

#[test]
fn a_replay_is_read_as_it_was_written() {
    let mut replay = replay();
    round_trip(&replay);
    replay.replay.as_mut().unwrap().ended_early = Some(EndedEarly { offset: 77, cause: "cut".into() });
    round_trip(&replay);
}

#[test]
fn every_end_of_a_run_is_read_as_it_was_written() {
    let mut report = download_report();
    for (exit, ended_by) in [
        (None, None),
        (Some(ExitStatus::Code(0)), Some(EndedBy::Command)),
        (Some(ExitStatus::Code(-1)), Some(EndedBy::Duration)),
        (Some(ExitStatus::Signal(9)), Some(EndedBy::Signal(15))),
    ] {
        (report.run.exit, report.run.ended_by) = (exit, ended_by);
        round_trip(&report);
    }
    report.balance.interface = None;
    report.balance.difference = None;
    report.run.pid = None;
    report.complete = false;
    report.processes.attribution = Attribution::Off("no cgroup v2".into());
    round_trip(&report);
}

/// Before schema 6, one endpoint had all names of its address. The median of its handshake times is
/// that of `read`.
fn by_key(endpoints: Vec<ReportEndpoint>, read: &[ReportEndpoint]) -> Vec<ReportEndpoint> {
    let mut merged: Vec<ReportEndpoint> = Vec::new();
    for known in endpoints {
        match merged.iter_mut().find(|other| other.endpoint.key == known.endpoint.key) {
            None => merged.push(known),
            Some(other) => {
                // The sample has names and processes of its own for the first one.
                other.endpoint.add(&known.endpoint);
                let of_key = read.iter().find(|read| read.endpoint.key == known.endpoint.key);
                other.endpoint.handshake_rtt_ns = of_key.and_then(|read| read.endpoint.handshake_rtt_ns);
            }
        }
    }
    merged
}

/// The file holds [`everything`], written before schema 2. If the sample gets data that schema 1
/// cannot hold, remove that data from the expected report here: the file must not change.
#[test]
fn a_recording_of_schema_1_gives_the_same_report() {
    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/schema-1-complete.netwatch");
    let read = read_file(&asset).unwrap();
    let mut expected = in_order(everything());
    // Schema 1 has a flag instead of the services, and its notes were written by that version.
    expected.interface.host_loopback.clear();
    let mut expected = before_schema_5(expected);
    expected.notes.clone_from(&read.report.notes);
    expected.lost.unselected = 0;
    expected.run.usage = None;
    expected.series = series();
    expected.endpoints = by_key(expected.endpoints, &read.report.endpoints);
    // In schema 1, rows were numbered in the order of the report.
    let flows = expected.flows.iter_mut().chain(&mut expected.loopback.flows);
    for (read, expected) in read.report.flows.iter().chain(&read.report.loopback.flows).zip(flows) {
        expected.flow.serial = read.flow.serial;
    }
    assert_eq!(read.report, expected);
    assert_eq!(read.complete, Completeness::Complete);
}

/// Schemas 3 to 7 only add tables, and columns at the end of a table, so that without them a file
/// is of the schema before.
fn drop_added_columns(path: &Path, upgrade: &str) {
    let db = rusqlite::Connection::open(path).unwrap();
    let added = upgrade.lines().filter_map(|line| line.strip_prefix("ALTER TABLE ")?.split_once(" ADD COLUMN "));
    for (table, column) in added.map(|(table, column)| (table, column.split([' ', ';']).next().unwrap())) {
        db.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).unwrap();
    }
    for table in upgrade.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.strip_suffix(" (")) {
        db.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    let version: u32 = db.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    db.execute_batch(&format!("PRAGMA user_version = {}", version - 1)).unwrap();
}

/// What a recording of schema 5 holds of a report.
fn before_schema_6(mut report: Report) -> Report {
    report.processes.local_sockets.iter_mut().for_each(|socket| socket.missing = 0);
    report
}

/// What a recording of schema 4 holds of a report.
fn before_schema_5(report: Report) -> Report {
    let mut report = before_schema_6(report);
    report.interface.published.clear();
    forget_payload(&mut report);
    report
}

#[test]
fn a_recording_of_schema_5_has_the_words_of_today_for_its_losses() {
    let (_dir, path) = recorded(&everything());
    drop_added_columns(&path, include_str!("../src/record/upgrade_6_to_7.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_5_to_6.sql"));
    let db = rusqlite::Connection::open(&path).unwrap();
    for (new, old) in [("exited", "gone"), ("unknown_records", "unknown"), ("over_limit", "beyond")] {
        let rename = format!("UPDATE lost SET reason = 'processes.{old}' WHERE reason = 'processes.{new}'");
        assert_eq!(db.execute(&rename, ()).unwrap(), 1, "{new}");
    }
    drop(db);
    assert_eq!(read_file(&path).unwrap().report, before_schema_6(in_order(everything())));
}

#[test]
fn a_recording_of_schema_4_gives_the_same_report_without_published_ports_and_payload() {
    let (_dir, path) = recorded(&everything());
    drop_added_columns(&path, include_str!("../src/record/upgrade_6_to_7.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_5_to_6.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_4_to_5.sql"));
    assert_eq!(read_file(&path).unwrap().report, before_schema_5(in_order(everything())));
}

#[test]
fn a_recording_of_schema_3_has_the_traffic_of_its_series() {
    let report = Report { series: full_series(), ..everything() };
    let (_dir, path) = recorded(&report);
    drop_added_columns(&path, include_str!("../src/record/upgrade_6_to_7.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_5_to_6.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_4_to_5.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_3_to_4.sql"));
    let expected = before_schema_5(Report { series: series(), ..in_order(everything()) });
    assert_eq!(read_file(&path).unwrap().report, expected);
}

#[test]
fn a_recording_of_schema_2_gives_the_same_report_without_cpu_and_memory() {
    let (_dir, path) = recorded(&everything());
    drop_added_columns(&path, include_str!("../src/record/upgrade_6_to_7.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_5_to_6.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_4_to_5.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_3_to_4.sql"));
    drop_added_columns(&path, include_str!("../src/record/upgrade_2_to_3.sql"));
    let mut expected = before_schema_5(in_order(everything()));
    assert!(expected.run.usage.take().is_some());
    assert_eq!(read_file(&path).unwrap().report, expected);
}

/// Numbers have gaps: processes that did nothing are not listed.
#[test]
fn processes_are_referred_to_by_their_numbers() {
    let mut report = everything();
    for (process, number) in report.processes.list.iter_mut().zip([3, 7, 4_000_000_000]) {
        process.number = number;
    }
    round_trip(&report);
    let (_dir, path) = recorded(&report);
    let db = rusqlite::Connection::open(&path).unwrap();
    let query = "SELECT group_concat(u.process || ' ' || p.pid || ' ' || coalesce(p.parent, '-'), '; ')
                 FROM flow_user AS u JOIN process AS p ON p.number = u.process WHERE u.flow = 0";
    let users: String = db.query_row(query, (), |row| row.get(0)).unwrap();
    assert_eq!(users, "3 42 -; 7 43 3; 4000000000 44 7");
}

/// A recording in a new folder.
fn recorded(report: &Report) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    write_file(&path, report).unwrap();
    (dir, path)
}

#[track_caller]
fn assert_refused(path: &Path, why: &str) {
    let error = read_file(path).map(drop).expect_err("it must be refused").to_string();
    assert!(error.starts_with("cannot read recording ") && error.contains(why), "{why}: {error}");
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    assert_refused(&dir.path().join("absent"), "(ENOENT)");
    assert_refused(dir.path(), "not a file");
    assert_refused(&file("empty", b""), "the file is empty");
    assert_refused(&file("text", b"hello"), "it is not a netwatch recording");
    assert_refused(&file("short", b"SQLite format 3\0"), "an SQLite database, but not a netwatch recording");
    assert_refused(&file("other", &[b"SQLite format 3\0".as_slice(), &[0; 4080]].concat()), "an SQLite database");
}

#[test]
fn a_recording_of_a_newer_version_is_refused() {
    let (_dir, path) = recorded(&download_report());
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&8_u32.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    assert_refused(&path, "a newer netwatch wrote it (schema 8, this one reads up to 7); use that netwatch");
}

#[test]
fn a_truncated_or_changed_file_is_refused_or_read_without_a_panic() {
    let report = Report { series: full_series(), activity: activity(), ..everything() };
    let (_dir, path) = recorded(&report);
    let whole = fs::read(&path).unwrap();
    for length in [100, 101, 4095, 4096, 8192, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_refused(&path, "the file is damaged");
    }
    let mut damaged = 0;
    for at in (100..whole.len()).step_by(211) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x5a;
        fs::write(&path, bytes).unwrap();
        damaged += u32::from(read_file(&path).is_err());
    }
    assert!(damaged > 20, "{damaged}");
}

#[test]
fn invalid_values_are_reported_with_their_table_and_column() {
    let (_dir, path) = recorded(&download_report());
    let db = rusqlite::Connection::open(&path).unwrap();
    for (change, why) in [
        ("UPDATE flow SET direction = 'up' WHERE number = 0", "in table flow, direction cannot be 'up'"),
        ("UPDATE flow SET direction = 'out', remote_port = 65536", "in table flow, remote_port cannot be 65536"),
        ("UPDATE flow SET remote_port = 1, remote = 'x''\u{1b}'", "in table flow, remote cannot be 'x\\'\\u{1b}'"),
        ("ALTER TABLE run DROP COLUMN published", "the file is damaged: in table run, column 25 is missing"),
        ("DELETE FROM run", "run is empty"),
        ("DROP TABLE run; CREATE VIEW run AS SELECT 1", "the file is damaged: its tables are not those of a recording"),
        // An endless number of rows.
        (
            "DROP TABLE note; CREATE VIEW note AS WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row) SELECT n, 'x' FROM row",
            "the file is damaged: its tables are not those of a recording",
        ),
        ("DROP VIEW note", "the file is damaged: its tables are not those of a recording"),
    ] {
        db.execute_batch(change).unwrap();
        assert_refused(&path, why);
    }
}

/// Otherwise reading a small file could produce an endless amount of data.
#[test]
fn tables_that_compute_values_are_refused() {
    let computed = |how: &str| {
        format!(
            "CREATE TABLE note (position INTEGER PRIMARY KEY, text TEXT AS (hex(zeroblob(5000000))) {how});
             WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row LIMIT 20)
             INSERT INTO note (position) SELECT n FROM row"
        )
    };
    for (note, why) in [
        (computed("VIRTUAL"), "its tables are not those of a recording: 'note' has computed columns"),
        ("CREATE TABLE note (position INTEGER, text TEXT AS ('x') STORED)".to_owned(), "'note' has computed columns"),
        ("CREATE TABLE note (position INTEGER, text TEXT DEFAULT 'x')".to_owned(), "'note' has default values"),
        ("CREATE VIRTUAL TABLE note USING fts5(position, text)".to_owned(), "'note' is a virtual table"),
        (
            "CREATE TABLE note (position INTEGER, text TEXT); CREATE VIRTUAL TABLE \"\u{1b}[31m\" USING fts5(a)"
                .to_owned(),
            "'\\u{1b}[31m' is a virtual table",
        ),
    ] {
        let (_dir, path) = recorded(&download_report());
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!("DROP TABLE note; {note}")).unwrap();
        drop(db);
        assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
        assert_refused(&path, "the file is damaged: its tables are not those of a recording");
        assert_refused(&path, why);
        assert!(netwatch::record::summary(&path).is_err(), "nor is it listed: {why}");
    }
}

#[test]
fn a_recording_is_private_regardless_of_the_umask() {
    let (_dir, path) = recorded(&download_report());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_documentation_names_every_table_and_column() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("src/record/schema.sql")).unwrap();
    let documented = fs::read_to_string(root.join("../docs/recording.md")).unwrap();
    let mut columns = 0;
    let mut row = "";
    for line in schema.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        if let Some(table) = line.strip_prefix("CREATE TABLE ").and_then(|rest| rest.split(' ').next()) {
            let begins = format!("| `{table}` |");
            row = documented.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("no {table}"));
        } else if line.starts_with("    ") && word != "PRIMARY" {
            let is_counter =
                ["skbs", "packets", "bytes"].iter().any(|unit| word.ends_with(unit)) && row.contains("counters");
            let is_as_other = row.contains("then as `flow_name`") || row.contains("then as `step`");
            let is_named = row.contains(&format!("`{word}`")) || row.contains(&format!("a `{word}`"));
            assert!(is_named || is_counter || is_as_other, "{word} is not in: {row}");
            columns += 1;
        }
    }
    assert!(columns > 150, "{columns}");
}

/// Another program may have written them: their sums would overflow.
#[test]
fn impossible_counts_are_damage() {
    let report = Report { series: full_series(), ..everything() };
    for (table, column) in [
        ("flow", "egress_bytes"),
        ("flow", "connections"),
        ("total", "ingress_wire_bytes"),
        ("step", "opened"),
        ("lost", "count"),
        ("folded", "flows"),
    ] {
        for number in ["-1", "9007199254740993"] {
            let (_dir, path) = recorded(&report);
            let db = rusqlite::Connection::open(&path).unwrap();
            assert!(db.execute(&format!("UPDATE {table} SET {column} = {number}"), ()).unwrap() > 0, "{table}");
            drop(db);
            assert_refused(&path, &format!("the file is damaged: in table {table}, {column} cannot be {number}"));
        }
    }
}

#[test]
fn folded_flows_and_lost_names_are_gaps() {
    let table = download();
    let mut report = report(facts(&table, &["true"]), &table);
    let before = report.gaps();
    report.folded.flows = 2;
    report.folded.at_least = true;
    (report.naming.lost.pending, report.naming.lost.records) = (1, 2);
    let gaps: Vec<String> = report.gaps().into_iter().filter(|gap| !before.contains(gap)).collect();
    assert_eq!(
        gaps,
        [
            "at least 2 flows were folded, only their endpoints are known",
            "name parsing lost data 3 times, names may be missing"
        ]
    );
}
