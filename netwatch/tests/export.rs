//! What `netwatch export` writes, read by those it is for: DuckDB, pandas, and a CSV reader.

mod sample;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netwatch::export::{ExportFormat, ExportTable, write};
use netwatch::flow::{PerDirection, Traffic};
use netwatch::report::{Interval, Report, Series};
use sample::*;

fn series() -> Series {
    let step = |at: u64| Interval {
        start_ns: START_NS + at * 1_000_000_000,
        length_ns: 1_000_000_000,
        totals: PerDirection { egress: counters(at, 100 * at), ingress: counters(1, 60) },
        opened: at,
        active: at + 1,
        ..Interval::default()
    };
    Series { intervals: (0..5).map(step).collect(), ..Series::default() }
}

/// The download, with one flow whose counter needs all 64 bits and a name with everything that CSV
/// has to quote.
fn report() -> Report {
    let mut report = download_report();
    report.flows[0].flow.counters.egress.wire_bytes = u64::MAX;
    report.loopback.flows = vec![report.flows[1].clone()];
    report.series = series();
    report
}

fn exported(reports: &[&Report], table: ExportTable, format: ExportFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(reports, table, format, &mut bytes).unwrap();
    bytes
}

#[test]
fn csv_has_a_header_with_units_and_a_row_per_flow() {
    let report = report();
    let text = exported(&[&report], ExportTable::Flows, ExportFormat::Csv);
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let header = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), report.flows.len() + report.loopback.flows.len());
    let cell = |row: usize, name: &str| {
        let column = header.iter().position(|column| column == name).unwrap_or_else(|| panic!("no column {name}"));
        rows[row].get(column).unwrap().to_owned()
    };
    assert_eq!(cell(0, "egress_wire_bytes"), u64::MAX.to_string());
    assert_eq!(cell(0, "first_seen"), "2026-01-01T00:00:00.001000000Z");
    assert_eq!(cell(0, "protocol"), "tcp");
    assert_eq!(cell(0, "fragment"), "false");
    assert_eq!(
        cell(rows.len() - 1, "observation_point"),
        "link",
        "a loopback row has the observation point of its key"
    );
    let dns = report.flows.iter().position(|known| known.flow.key.protocol == 17).unwrap();
    assert_eq!(cell(dns, "handshake_rtt_ns"), "", "absent is empty");
}

/// A spreadsheet would run it; numbers and flags are not touched.
#[test]
fn formulas_are_text_in_csv() {
    let mut report = report();
    report.run.id = "=cmd|' /C calc'!A0".to_owned();
    let text = exported(&[&report], ExportTable::Flows, ExportFormat::Csv);
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let row = reader.records().next().unwrap().unwrap();
    assert_eq!(row.get(0), Some("'=cmd|' /C calc'!A0"));
    let parquet = exported(&[&report], ExportTable::Flows, ExportFormat::Parquet);
    let is_there = |text: &[u8]| parquet.windows(text.len()).any(|window| window == text);
    assert!(is_there(b"=cmd|") && !is_there(b"'=cmd|"), "no spreadsheet reads Parquet");
}

#[test]
fn csv_of_the_series_has_a_row_per_interval() {
    let text = String::from_utf8(exported(&[&report()], ExportTable::Series, ExportFormat::Csv)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("run_id,started,duration_ns,egress_skbs,"), "{}", lines[0]);
    assert!(
        lines[5].starts_with("3f2a,2026-01-01T00:00:04.000000000Z,1000000000,4,4,400,400,1,1,60,60,4,5"),
        "{}",
        lines[5]
    );
}

/// The interpreter that `cargo xtask setup` made.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let python = target.join("venv/bin/python3");
    if !python.exists() {
        println!("skipped: there is no Python with duckdb and pandas (`cargo xtask setup` makes it, with a network)");
        return None;
    }
    Some(python)
}

/// Runs a script in a folder with the files; it must succeed. What it printed.
fn read_by(python: &Path, files: &[(&str, Vec<u8>)], script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let done = Command::new(python).args(["-c", script]).current_dir(dir.path()).output().unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}\n{output}");
    String::from_utf8(done.stdout).unwrap()
}

fn flows_in_both(reports: &[&Report]) -> [(&'static str, Vec<u8>); 2] {
    [
        ("flows.parquet", exported(reports, ExportTable::Flows, ExportFormat::Parquet)),
        ("flows.csv", exported(reports, ExportTable::Flows, ExportFormat::Csv)),
    ]
}

#[test]
fn duckdb_reads_the_same_from_parquet_and_csv() {
    let Some(python) = python() else { return };
    let report = report();
    let script = r#"
import duckdb
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
for file in ("'flows.parquet'", "read_csv('flows.csv', types = {'egress_wire_bytes': 'UBIGINT'})"):
    row = db.sql(f"""
        SELECT count(*), max(egress_wire_bytes), sum(ingress_packets), count(name), count(handshake_rtt_ns),
               min(first_seen)::VARCHAR, count(DISTINCT run_id), bool_or(fragment), max(remote_port) FROM {file}
    """).fetchall()[0]
    print(row)
for name, kind in db.sql("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM 'flows.parquet')").fetchall():
    if name in ("first_seen", "egress_bytes", "fragment", "remote"):
        print(name, kind)
"#;
    let output = read_by(&python, &flows_in_both(&[&report]), script);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], lines[1]);
    let packets: u64 =
        report.flows.iter().chain(&report.loopback.flows).map(|known| known.flow.counters.ingress.packets).sum();
    assert!(lines[0].starts_with(&format!("({}, {}, {packets}, ", report.flows.len() + 1, u64::MAX)), "{output}");
    assert!(lines[0].contains("2026-01-01 00:00:00.001+00"), "{output}");
    for kind in ["remote VARCHAR", "egress_bytes UBIGINT", "fragment BOOLEAN", "first_seen TIMESTAMPTZ_NS"] {
        assert!(lines.contains(&kind), "{kind}: {output}");
    }
}

#[test]
fn pandas_reads_types_and_every_nanosecond() {
    let Some(python) = python() else { return };
    let mut report = report();
    report.flows[0].flow.first_seen_ns = START_NS + 123_456_789;
    let script = r#"
import pandas as pd
flows = pd.read_parquet("flows.parquet", engine = "fastparquet")
first = flows.first_seen[0]
print(len(flows), str(flows.first_seen.dtype), first.isoformat(), int(flows.egress_wire_bytes[0]), flows.protocol[0])
print(len(pd.read_csv("flows.csv")), list(pd.read_csv("flows.csv").columns) == list(flows.columns))
"#;
    let output = read_by(&python, &flows_in_both(&[&report]), script);
    let count = report.flows.len() + 1;
    // fastparquet gives times without a zone: they are UTC.
    let (first, largest) = ("2026-01-01T00:00:00.123456789", u64::MAX);
    let expected = format!("{count} datetime64[ns] {first} {largest} tcp\n{count} True\n");
    assert_eq!(output, expected);
}

#[test]
fn many_flows_of_several_runs_make_several_groups() {
    let Some(python) = python() else { return };
    let flow = |port: u32| {
        growth(Traffic::Flow(key(17, (port % 60_000) as u16, v4((port / 60_000) as u8 + 1), 53)), (1, 80), (1, 90))
    };
    let mut table = netwatch::flow::FlowTable::new(200_000);
    (0..70_000).for_each(|port| drop(table.apply(flow(port))));
    let mut runs = [sample::report(facts(&table, &["a"]), &table), download_report()];
    runs[1].run.id = "ffff".into();
    runs.iter_mut().for_each(|run| run.series = series());
    let script = r#"
import duckdb
print(duckdb.sql("SELECT run_id, count(*), sum(egress_bytes) FROM 'flows.parquet' GROUP BY run_id ORDER BY run_id").fetchall())
print(duckdb.sql("SELECT count(DISTINCT row_group_id) FROM parquet_metadata('flows.parquet')").fetchall()[0])
print(duckdb.sql("SELECT sum(opened_flows), sum(duration_ns) FROM 'series.parquet'").fetchall()[0])
"#;
    let runs: Vec<&Report> = runs.iter().collect();
    let files = [
        ("flows.parquet", exported(&runs, ExportTable::Flows, ExportFormat::Parquet)),
        ("series.parquet", exported(&runs, ExportTable::Series, ExportFormat::Parquet)),
    ];
    let output = read_by(&python, &files, script);
    assert!(output.starts_with("[('3f2a', 70000, 5600000), ('ffff', 6, "), "{output}");
    assert!(output.contains("(2,)\n(20, 10000000000)"), "{output}");
}
