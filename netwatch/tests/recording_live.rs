//! Recordings of runs that did not end: they are read as interim figures.

mod sample;

use std::path::{Path, PathBuf};
use std::time::Duration;

use netwatch::flow::{
    Counters, Direction, EndReason, FlowKey, FlowTable, Increment, ObservationPoint, PerDirection, Traffic,
};
use netwatch::name::{Hosts, NameLimits, NameSample, Names, Segment};
use netwatch::process::{Attempt, AttemptTarget, FlowUsers};
use netwatch::record::{Completeness, read_file};
use netwatch::report::{Facts, Interval, Report, ReportFlow, UnfinishedRun};
use netwatch::session::{GrowthTiming, Observed};
use proptest::prelude::*;
use sample::metered::Metered;
use sample::*;

fn no_names() -> Names {
    Names::new(NameLimits::default(), Hosts::default())
}

fn interim_facts(table: &FlowTable) -> Facts {
    let mut facts = Facts { complete: false, interface_counters: None, ..facts(table, &["curl"]) };
    (facts.run.exit, facts.run.ended_by) = (None, None);
    facts.processes = processes::processes();
    facts
}

fn target() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    (dir, path)
}

fn interval(start: u64, length: u64, counted: PerDirection<Counters>, flows: u64, active: u64) -> Interval {
    Interval {
        start_ns: START_NS + start * 1_000_000_000,
        length_ns: length * 1_000_000_000,
        totals: counted,
        opened: flows,
        active,
        ..Interval::default()
    }
}

#[test]
fn a_run_without_an_end_is_read_as_interim_figures() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 1000);
    names::observe_download(&mut |sample| metered.session.observe(Observed::Name(sample)));
    metered.exec(4242, "sh");
    metered.exec(4243, "curl");
    metered.apply(download_increments());
    let first = key(6, 40_000, v4(10), 443);
    metered.send(4243, first);
    metered.end_interval(Duration::from_secs(1));
    let dns = key(17, 50_001, [10, 87, 0, 1].into(), 53);
    metered.apply([growth(Traffic::Flow(dns), (7, 700), (0, 0))]);
    metered.apply([on_loopback(tcp(key(6, 1, v4(1), 80), 5, (1, 60), (1, 60)))]);
    metered.send(4242, dns);
    metered.end_interval(Duration::from_secs(2));
    let session = metered.close();

    let read = read_file(&path).unwrap();
    assert_eq!((read.report.run.exit, read.report.run.ended_by), (None, None));
    let until_ns = START_NS + 2_000_000_000;
    assert_eq!(read.complete, Completeness::Incomplete { until_ns, waiting_flows: 0 });
    assert_eq!(read.report.series, *session.series());
    let sent = PerDirection { egress: counters(7, 700), ingress: Counters::default() };
    assert_eq!(read.report.series.intervals[1..], [interval(1, 1, sent, 0, 1)]);
    let mut expected = as_incomplete(session.report(2_000_000_000, None), &read.report);
    // Those are written at the end.
    expected.series.endpoints.clear();
    expected.notes.push(
        "the recording is incomplete: it ends at 2026-01-01T00:00:02.000000000Z, what followed is unknown".into(),
    );
    assert_eq!(read.report.processes.list.len(), 2);
    assert_eq!(read.report, expected);
}

#[test]
fn flows_that_only_grew_may_wait_and_are_counted() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 1000);
    metered.apply(download_increments());
    metered.session.end_interval(1_000_000_000);
    metered.deliver(GrowthTiming::Later);
    metered.close();
    let Completeness::Incomplete { waiting_flows, .. } = read_file(&path).unwrap().complete else {
        panic!("the run has no end")
    };
    assert!(waiting_flows > 2, "{waiting_flows}");
}

/// A week of short connections: more than the session tracks. The recording has each of them.
#[test]
fn a_recording_holds_every_flow_that_the_session_folded() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 8);
    metered.exec(4243, "curl");
    for round in 0..10_u16 {
        for port in 0..10 {
            let key = key(6, 1000 + port, v4(10), 443);
            let at_ns = START_NS + u64::from(round) * 1000;
            let increment = Increment {
                first_seen_ns: at_ns,
                last_seen_ns: at_ns + 1,
                ended: Some(EndReason::EndOfFlow),
                ..tcp(key, 7, (5, 400), (5, 4000))
            };
            metered.send(4243, key);
            metered.apply([increment]);
        }
        if round % 3 == 0 {
            metered.end_interval(Duration::from_secs(u64::from(round) + 1));
        }
    }
    let report = metered.finish(Duration::from_secs(11), None);
    assert_eq!((report.flows.len(), report.folded.flows), (8, 92));
    assert_eq!(report.by_process()[0].total.flows, 100, "processes of folded flows are known");
    let read = read_file(&path).unwrap().report;
    assert_eq!((read.flows.len(), read.folded.flows), (100, 0));
    assert_eq!((read.totals, read.endpoints.clone()), (report.totals, report.endpoints.clone()));
    let epochs: Vec<u32> = read.flows.iter().map(|known| known.flow.epoch).collect();
    let expected: Vec<u32> = (0..10).flat_map(|epoch| [epoch; 10]).collect();
    assert_eq!(epochs, expected);
    assert!(read.flows.iter().all(|known| known.users.len() == 1 && known.flow.ended.is_some()));
    assert_eq!(read.by_process()[0].total, report.by_process()[0].total);
}

/// The part of a report that an incomplete recording holds. docs/recording.md: findings that need
/// all DNS lookups are not recorded before the end.
fn as_incomplete(mut expected: Report, read: &Report) -> Report {
    (expected.naming.unused, expected.naming.contacted_without_lookup) = Default::default();
    for (read, expected) in read.endpoints.iter().zip(&mut expected.endpoints) {
        expected.names.retain(|name| read.names.contains(name));
    }
    expected
}

/// The file holds [`download`] with its processes, written before schema 2.
#[test]
fn an_incomplete_recording_of_schema_1_gives_the_same_report() {
    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/schema-1-incomplete.netwatch");
    let read = read_file(&asset).unwrap();
    let (table, names) = (download(), names::download_names());
    let processes = processes::processes();
    let facts = Facts { processes, attempts: processes::attempts(), ..interim_facts(&table) };
    let mut expected = as_incomplete(Report::new(facts, &table, &names, &processes::users(&table)), &read.report);
    // Schema 1 has a flag instead of the services.
    expected.interface.host_loopback.clear();
    forget_payload(&mut expected);
    expected.processes.local_sockets.iter_mut().for_each(|socket| socket.missing = 0);
    expected.run.duration_ns = 2_000_000_000;
    expected.series.clone_from(&read.report.series);
    assert_eq!(expected.series.intervals.len(), 3);
    let note = "the recording is incomplete: it ends at 2026-01-01T00:00:02.000000000Z, what followed is unknown; \
                3 flows had changed and were not written";
    expected.notes.push(note.into());
    // A recording does not hold the flows of queries: two processes made some at that time.
    let lookup = |attempt: &&mut Attempt| matches!(attempt.target, AttemptTarget::Name(..));
    expected.attempts.iter_mut().filter(lookup).for_each(|attempt| attempt.process = None);
    // In schema 1, rows were numbered in the order of their first packet.
    for (read, expected) in read.report.flows.iter().zip(&mut expected.flows) {
        expected.flow.serial = read.flow.serial;
    }
    assert_eq!(read.report, expected);
}

#[test]
fn a_run_that_was_killed_after_its_first_batch_is_read() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 1000);
    metered.end_interval(Duration::from_secs(1));
    metered.close();
    let read = read_file(&path).unwrap();
    assert_eq!(read.report.run.command, ["curl"]);
    assert!(read.report.flows.is_empty() && read.report.series.intervals.is_empty());
}

/// It is not known whether the run went on, or whether its interface was removed first.
#[test]
fn an_incomplete_recording_claims_nothing_about_the_end_of_the_run() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 1000);
    metered.end_interval(Duration::from_secs(12));
    metered.close();
    let read = read_file(&path).unwrap();
    let text_of = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut text = Vec::new();
        write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let summary = netwatch::format::summary::SummaryOptions { width: 200, ..Default::default() };
    for text in [
        text_of(&|out| netwatch::format::summary::write(&read.report, &summary, out)),
        text_of(&|out| netwatch::format::markdown::write(&read.report, out)),
        text_of(&|out| netwatch::format::html::write(&netwatch::format::html::Page::new(&read.report), out)),
    ] {
        let text = text.replace('\u{a0}', " ").replace("&#39;", "'");
        assert!(text.contains("incomplete: data ends at 12.0 s"), "{text}");
        assert!(text.contains("the interface counters had not been read yet"), "{text}");
        // The title of the summary has no other duration.
        assert!(text.starts_with("curl: incomplete") || text.contains("after 12.0 s"), "{text}");
        for claim in [
            "still running",
            "the interface vanished",
            "Every packet was counted",
            "All packets were counted",
            "No observation was lost",
            "no observation lost",
            "went on",
        ] {
            assert!(!text.contains(claim), "{claim}: {text}");
        }
    }
}

#[test]
fn a_run_that_was_killed_before_its_first_batch_is_reported_as_such() {
    let (_dir, path) = target();
    Metered::start(&path, 1000).close();
    let error = read_file(&path).expect_err("nothing is there").to_string();
    assert!(error.contains("nothing was written: the run was killed in its first second"), "{error}");
}

#[test]
fn a_first_batch_beyond_the_size_limit_is_reported_as_such() {
    let (_dir, path) = target();
    Metered::start(&path, 1000).close();
    let empty = std::fs::metadata(&path).expect("written").len();
    let mut metered = Metered::start_limited(&path, 1000, empty);
    metered.apply((1..500).map(|port| tcp(key(6, port, v4(1), 80), 5, (1, 60), (1, 60))));
    let error = metered.fail(Duration::from_secs(1));
    assert!(error.contains("--record-size"), "{error}");
    let read = read_file(&path).expect_err("nothing is there").to_string();
    assert!(read.contains("nothing was written") && read.contains("--record-size"), "{read}");
}

#[test]
fn a_recording_has_every_reason_of_a_loss() {
    let (_dir, path) = target();
    let reasons = |path: &Path| -> Vec<String> {
        let db = rusqlite::Connection::open(path).expect("a recording");
        let mut statement = db.prepare("SELECT reason FROM lost ORDER BY reason").expect("a table");
        statement.query_map((), |row| row.get(0)).expect("rows").map(|reason| reason.expect("a text")).collect()
    };
    let mut metered = Metered::start(&path, 1000);
    metered.end_interval(Duration::from_secs(1));
    let mut expected: Vec<_> = metered.session.losses().by_reason().into_iter().map(|(reason, _)| reason).collect();
    expected.sort_unstable();
    assert!(expected.contains(&"folded.facts"));
    metered.close();
    assert_eq!(reasons(&path), expected, "of a killed run");
    let mut metered = Metered::start(&path, 1000);
    metered.end_interval(Duration::from_secs(1));
    metered.finish(Duration::from_secs(2), None);
    assert_eq!(reasons(&path), expected, "of a run that ended");
}

/// Names, users and intervals that were written before the end and differ at the end.
#[test]
fn the_end_of_a_run_replaces_what_was_written_before() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 1000);
    metered.exec(4242, "sh");
    metered.apply(download_increments());
    metered.end_interval(Duration::from_secs(1));
    names::observe_download(&mut |sample| metered.session.observe(Observed::Name(sample)));
    metered.send(4242, key(6, 40_000, v4(10), 443));
    let table = download();
    let report = metered.finish(Duration::from_secs(2), Some(interface_counters(&table, (0, 0))));
    let read = read_file(&path).unwrap();
    assert_eq!(read.complete, Completeness::Complete);
    assert_eq!(read.report, *report);
    assert!(report.flows.iter().any(|known| known.display_name().is_some() && !known.users.is_empty()));
}

fn increments() -> impl Strategy<Value = Vec<Increment>> {
    let one = (0..4_u8, 0..12_u16, 1..5_u8, 1..3_u64, any::<bool>());
    let increment = |(kind, port, host, packets, on_lo): (u8, u16, u8, u64, bool)| {
        let (sent, received) = ((packets, packets * 90), (1, 60));
        let increment = match kind {
            0 => tcp(key(6, 1000 + port, v4(host), 443), 7, sent, received),
            1 => failed(key(6, 2000 + port, v4(host), 81), packets, packets == 1),
            2 => growth(Traffic::Flow(key(17, 3000 + port, v6(host.into()), 53)), sent, received),
            _ => return growth(Traffic::NonIp(0x88cc), sent, received),
        };
        if on_lo { on_loopback(increment) } else { increment }
    };
    prop::collection::vec(one.prop_map(increment), 0..60)
}

proptest! {
    /// For any counts and any number of folded flows, the recorded data gives the same report.
    #[test]
    fn parts_make_the_report_that_the_table_makes(increments in increments(), max_flows in 0..40_usize) {
        let (mut table, names) = (FlowTable::new(max_flows), no_names());
        increments.into_iter().for_each(|increment| drop(table.apply(increment)));
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            prop_assert_eq!(table.totals_by_sums(point), table.totals(point));
        }
        let points = [ObservationPoint::Link, ObservationPoint::Loopback];
        let flows = points.into_iter().flat_map(|point| table.flows(point));
        let mut flows: Vec<ReportFlow> = flows.map(|flow| ReportFlow::new(flow, &names, &FlowUsers::default())).collect();
        flows.iter_mut().for_each(|known| known.flow.ended = known.flow.end_reason());
        flows.reverse();
        let parts = UnfinishedRun {
            series: netwatch::report::Series::default(),
            activity: Default::default(),
            facts: interim_facts(&table),
            flows,
            folded_endpoints: table.untracked_endpoints().collect(),
            folded: table.folded(),
            remainders: table.remainders(ObservationPoint::Link).clone(),
            lookups: names.lookups().to_vec(),
            names_lost: names.lost(),
        };
        let mut expected = Report::new(interim_facts(&table), &table, &names, &FlowUsers::default());
        expected.naming.contacted_without_lookup.clear();
        prop_assert_eq!(Report::of_unfinished_run(parts), expected);
    }
}

fn churn_key(number: u32) -> FlowKey {
    key(6, (number % 60_000) as u16 + 1024, v6((number / 60_000) as u16), 443)
}

/// A new flow for each number.
fn churn(number: u32) -> Increment {
    tcp(churn_key(number), 1_000_000, (5, 400), (5, 4_000))
}

#[test]
fn churn_is_written_whole_and_in_a_bounded_file() {
    const PER_BATCH: u32 = 10_000;
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 229_376);
    for round in 0..3 {
        metered.apply((round * PER_BATCH..(round + 1) * PER_BATCH).map(churn));
        metered.end_interval(Duration::from_secs(u64::from(round) + 1));
    }
    metered.close();
    assert_eq!(read_file(&path).unwrap().report.flows.len(), 3 * PER_BATCH as usize);
    // docs/recording.md: the size of a flow in the file.
    let bytes = (path.metadata().unwrap().len() - 122_880) / u64::from(3 * PER_BATCH);
    println!("{bytes} bytes a flow");
    assert!((150..250).contains(&bytes), "{bytes} bytes a flow");
}

/// The sums of the flows of a report, and of those that it folded.
fn counted(report: &Report) -> (u64, PerDirection<Counters>) {
    let mut sum = report.folded.counters;
    report.flows.iter().for_each(|known| sum += known.flow.counters);
    (report.flows.len() as u64 + report.folded.flows, sum)
}

/// The process of each flow: each round begins with one of the same process.
fn churn_pid(number: u32, per_round: u32) -> u32 {
    if number.is_multiple_of(per_round) { 4242 } else { 10_000 + number }
}

/// Every flow in the recording has its process, and processes of other flows have no row, except
/// for as many as are kept without a search.
fn assert_processes_of_flows(report: &Report, per_round: u32) {
    let list = &report.processes.list;
    assert!(list.len() <= report.flows.len() + 1_100, "{} of {}", list.len(), report.flows.len());
    for known in &report.flows {
        let number = u32::from(known.flow.key.local.port) - 1024;
        let pids: Vec<u32> = known.users.iter().map(|user| list[user.process.0 as usize].pid).collect();
        assert_eq!(pids, [churn_pid(number, per_round)], "flow {number}");
    }
    assert!(list.iter().any(|process| process.pid == 4242 && process.comm == "service"));
}

/// Four times as many flows as fit, each of a process of its own. Complete, or as a killed run
/// leaves it.
#[test]
fn a_nearly_full_recording_folds_the_flows_that_ended_first() {
    const LIMIT: u64 = 3 << 20;
    const PER_ROUND: u32 = 4_000;
    for is_complete in [true, false] {
        let (_dir, path) = target();
        let mut metered = Metered::start_limited(&path, 1 << 16, LIMIT);
        metered.exec(4242, "service");
        for round in 0..10 {
            for number in round * PER_ROUND..(round + 1) * PER_ROUND {
                let pid = churn_pid(number, PER_ROUND);
                if pid != 4242 {
                    metered.exec(pid, "job");
                }
                metered.send(pid, churn_key(number));
            }
            metered.apply((round * PER_ROUND..(round + 1) * PER_ROUND).map(churn));
            // A late segment of a flow that is folded later, or was folded in this round.
            metered.apply([Increment { connections: 0, ..churn(round * PER_ROUND / 2) }]);
            metered.end_interval(Duration::from_secs(u64::from(round) + 1));
        }
        let totals = match is_complete {
            true => metered.finish(Duration::from_secs(11), None).totals,
            false => {
                let session = metered.close();
                session.report(10_000_000_000, None).totals
            }
        };
        assert!(path.metadata().unwrap().len() <= LIMIT, "{}", path.metadata().unwrap().len());
        let read = read_file(&path).unwrap();
        assert_eq!(read.complete == Completeness::Complete, is_complete);
        let report = read.report;
        assert_eq!(counted(&report), (10 * u64::from(PER_ROUND), totals));
        assert_eq!(report.totals, totals);
        let (rows, folded) = (report.flows.len(), report.folded.flows);
        assert!(rows > 2_000 && folded > 15_000, "{rows} {folded}");
        assert_processes_of_flows(&report, PER_ROUND);
        let oldest = report.flows.iter().map(|known| known.flow.serial).min();
        assert_eq!(oldest, Some(folded), "the oldest are folded");
        assert!(report.gaps().iter().any(|gap| gap.contains("flows were folded")), "{:?}", report.gaps());
        let connections: u64 = report.endpoints.iter().map(|known| known.endpoint.connections).sum();
        assert_eq!(connections, 10 * u64::from(PER_ROUND));
    }
}

/// All rows of a table, a line each.
fn rows_of(path: &Path, table: &str) -> String {
    let db = rusqlite::Connection::open(path).expect("a recording");
    let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).expect("a table");
    let columns = statement.column_count();
    let mut rows = statement.query(()).expect("rows");
    let mut text = format!("{table}\n");
    while let Some(row) = rows.next().expect("a row") {
        let value = |column| match row.get_ref(column).expect("a column") {
            rusqlite::types::ValueRef::Null => "-".to_owned(),
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str().expect("no other type is stored").to_owned(),
        };
        text += &format!("{}\n", (0..columns).map(value).collect::<Vec<_>>().join(" "));
    }
    text
}

/// One connection, or another flow, for each number: ports are used again, some fail, some carry a
/// name, and some are still open when the interval ends.
fn connection(metered: &mut Metered, number: u16) {
    let port = 40_000 + number % 17;
    let remote = v4(10 + (number % 3) as u8);
    let at_ns = START_NS + u64::from(number) * 250_000_000;
    let ended = (!number.is_multiple_of(7)).then_some(EndReason::EndOfFlow);
    let flow = match number % 11 {
        3 => key(17, port, remote, 53),
        _ => key(6, port, remote, 80),
    };
    let increment = match number % 11 {
        3 => growth(Traffic::Flow(flow), (2, 120), (2, 300)),
        5 => failed(flow, 3, false),
        6 => on_loopback(tcp(flow, 40_000, (3, 200), (3, 200))),
        _ => tcp(flow, 30_000, (5, 400), (5, 4_000)),
    };
    let Traffic::Flow(flow) = increment.traffic else { unreachable!("every increment is of a flow") };
    metered.send(4242 + u32::from(number % 2), flow);
    if number % 11 < 2 {
        let payload = format!("GET /{number} HTTP/1.1\r\nHost: host{}.example\r\n\r\n", number % 5);
        metered.session.observe(Observed::Name(NameSample {
            time_ns: at_ns + 1,
            flow,
            direction: Direction::Egress,
            opened_by: Direction::Egress,
            payload: payload.as_bytes(),
            payload_len: payload.len() as u32,
            tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK, acknowledgment: None }),
        }));
    }
    metered.apply([Increment { first_seen_ns: at_ns, last_seen_ns: at_ns + 100_000_000, ended, ..increment }]);
}

/// The report and the rows of the flows, to the last digit, of which the ledger had room for a
/// quarter.
#[test]
fn short_connections_are_reported_and_recorded_to_the_last_digit() {
    let (_dir, path) = target();
    let mut metered = Metered::start(&path, 16);
    metered.exec(4242, "sh");
    metered.exec(4243, "curl");
    for number in 0..64 {
        connection(&mut metered, number);
        if number % 8 == 7 {
            metered.end_interval(Duration::from_secs(u64::from(number / 4)));
        }
    }
    let report = metered.finish(Duration::from_secs(20), None);
    assert_eq!(report.flows.len() as u64 + report.loopback.flows.len() as u64, 16);
    let mut json = Vec::new();
    netwatch::format::json::write(&report, &mut json).expect("written");
    let json = String::from_utf8(json).expect("JSON");
    snapbox::assert_data_eq!(json, snapbox::file!["snapshots/connections.json"].raw());
    let rows = ["flow", "flow_name", "flow_user", "endpoint"].map(|table| rows_of(&path, table)).concat();
    snapbox::assert_data_eq!(rows, snapbox::file!["snapshots/connections.txt"].raw());
}
