//! Recordings of runs that came to no end: what is read back is what interim figures would have said.

mod sample;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use netwatch::flow::{FlowTable, Increment, ObservationPoint, Traffic};
use netwatch::name::{Hosts, NameLimits, Names};
use netwatch::process::{Evidence, FlowUser, FlowUsers, ProcessId};
use netwatch::record::{Batch, Completeness, Destination, Place, Recorder, Rest, Steps, read_file};
use netwatch::report::{Facts, Interval, Report, ReportFlow, UnfinishedRun};
use netwatch::target::user::Identity;
use proptest::prelude::*;
use sample::*;

fn destination(path: &Path) -> Destination {
    let place = Place::File(path.to_owned(), None);
    Destination { place, user: Identity::own().unwrap(), limit_bytes: 1 << 30 }.check().unwrap()
}

fn no_names() -> Names {
    Names::new(NameLimits::default(), Hosts::default())
}

fn interim_facts(table: &FlowTable) -> Facts {
    let mut facts = Facts { complete: false, interface_counters: None, ..facts(table, &["curl"]) };
    facts.run.exit = None;
    facts.processes = processes::processes();
    facts
}

/// Each flow by two processes.
fn users_of(table: &FlowTable) -> FlowUsers {
    let user = |process, evidence| FlowUser { process: ProcessId(process), evidence, is_maker: process == 1 };
    let users = vec![user(0, Evidence::Socket), user(1, Evidence::Tuple)];
    let flows = [ObservationPoint::Link, ObservationPoint::Loopback].into_iter().flat_map(|scope| table.flows(scope));
    flows.map(|flow| (flow.key, users.clone())).collect()
}

fn flows_of(table: &FlowTable, names: &Names) -> Vec<ReportFlow> {
    let all = [ObservationPoint::Link, ObservationPoint::Loopback].into_iter().flat_map(|scope| table.flows(scope));
    all.map(|flow| ReportFlow::new(flow, names, &FlowUsers::default())).collect()
}

fn rest_of(table: &FlowTable, names: &Names) -> Rest {
    Rest {
        facts: interim_facts(table),
        users: users_of(table),
        loopback: table.totals_by_sums(ObservationPoint::Loopback),
        totals: table.totals_by_sums(ObservationPoint::Link),
        remainders: table.remainders(ObservationPoint::Link).clone(),
        folded: table.folded(),
        folded_endpoints: table.untracked_endpoints().collect(),
        lookups: names.lookups().to_vec(),
        names_lost: names.lost(),
    }
}

/// Hands over a batch when there is room for it.
fn send(recorder: &Recorder, batch: Batch) {
    let start = Instant::now();
    while !recorder.is_idle() {
        assert!(!recorder.has_failed(), "{}", recorder.failure().unwrap());
        assert!(start.elapsed() < Duration::from_secs(20), "the recorder hangs");
        sleep(Duration::from_millis(1));
    }
    recorder.send(batch);
}

fn target() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    (dir, path)
}

#[test]
fn a_run_without_an_end_is_read_as_interim_figures() {
    let (_dir, path) = target();
    let names = names::heard();
    let mut table = download();
    let recorder = Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap();
    let until_ns = START_NS + 2_000_000_000;
    let step = |at: u64| Interval { start_ns: START_NS + at, length_ns: 10, opened: at, ..Interval::default() };
    let steps = Steps { from_ns: Some(0), steps: vec![step(0), step(10), step(20)] };
    send(&recorder, Batch { until_ns: START_NS, flows: flows_of(&table, &names), steps, ..Batch::default() });
    table.apply(growth(Traffic::Flow(key(17, 50_001, [10, 87, 0, 1].into(), 53)), (7, 700), (0, 0)));
    table.apply(on_loopback(tcp(key(6, 1, v4(1), 80), 5, (1, 60), (1, 60))));
    let steps = Steps { from_ns: Some(START_NS + 10), steps: vec![step(15)] };
    let rest = Some(Box::new(rest_of(&table, &names)));
    send(&recorder, Batch { until_ns, flows: flows_of(&table, &names), steps, rest, waiting: 3 });
    drop(recorder);

    let read = read_file(&path).unwrap();
    assert_eq!(read.complete, Completeness::Incomplete { until_ns, waiting_flows: 3 });
    assert_eq!(read.series.intervals, [step(0), step(15)]);
    let expected = interim_report(interim_facts(&table), &users_of(&table), &table, &names, &read.report);
    assert_eq!(read.report, expected);
}

/// The report of an incomplete recording of two seconds, in which three flows wait: what `read` has to be.
fn interim_report(facts: Facts, users: &FlowUsers, table: &FlowTable, names: &Names, read: &Report) -> Report {
    let mut expected = Report::new(facts, table, names, users);
    expected.run.duration_ns = 2_000_000_000;
    // docs/recording.md: what only the whole of DNS tells is not kept while the run goes on.
    (expected.naming.unused, expected.naming.contacted_without_lookup) = Default::default();
    for (read, expected) in read.endpoints.iter().zip(&mut expected.endpoints) {
        expected.names.retain(|name| read.names.contains(name));
    }
    let note = "the recording is incomplete: it ends at 2026-01-01T00:00:02.000000000Z, and the run went on; \
                3 flows had changed and were not written";
    expected.notes.push(note.into());
    expected
}

/// The file holds [`download`] with its processes, written before schema 2.
#[test]
fn an_incomplete_recording_of_schema_1_gives_the_same_report() {
    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assets/schema-1-incomplete.netwatch");
    let read = read_file(&asset).unwrap();
    let (table, names) = (download(), names::heard());
    let processes = processes::processes();
    let facts = Facts { processes, attempts: processes::attempts(), ..interim_facts(&table) };
    let expected = interim_report(facts, &processes::users(&table), &table, &names, &read.report);
    assert_eq!(read.report, expected);
}

#[test]
fn a_run_of_which_only_the_first_batch_came_is_there() {
    let (_dir, path) = target();
    let table = FlowTable::default();
    let recorder = Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap();
    let rest = Some(Box::new(rest_of(&table, &no_names())));
    send(&recorder, Batch { until_ns: START_NS, rest, ..Batch::default() });
    drop(recorder);
    let read = read_file(&path).unwrap();
    assert_eq!(read.report.run.command, ["curl"]);
    assert!(read.report.flows.is_empty() && read.series.intervals.is_empty());
}

/// Neither that it still runs nor that its interface was gone first: nobody knows.
#[test]
fn what_is_left_of_a_run_claims_nothing_about_its_end() {
    let (_dir, path) = target();
    let recorder = Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap();
    let rest = Some(Box::new(rest_of(&FlowTable::default(), &no_names())));
    send(&recorder, Batch { until_ns: START_NS + 12_000_000_000, rest, ..Batch::default() });
    drop(recorder);
    let read = read_file(&path).unwrap();
    let said = |write: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut text = Vec::new();
        write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let summary = netwatch::format::summary::Options { width: 200, ..Default::default() };
    for text in [
        said(&|out| netwatch::format::summary::write(&read.report, &summary, out)),
        said(&|out| netwatch::format::markdown::write(&read.report, out)),
        said(&|out| netwatch::format::html::write(&read.report, &read.series, out)),
    ] {
        let text = text.replace('\u{a0}', " ").replace("&#39;", "'");
        assert!(text.contains("no end known, the figures stop after 12.0 s"), "{text}");
        assert!(text.contains("the interface's counters had not been read by then"), "{text}");
        assert!(!text.contains("still running") && !text.contains("the interface was gone"), "{text}");
    }
}

#[test]
fn a_run_that_was_killed_before_its_first_batch_says_so() {
    let (_dir, path) = target();
    drop(Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap());
    let error = read_file(&path).expect_err("nothing is there").to_string();
    assert!(error.contains("nothing was written: its run was killed in its first second"), "{error}");
}

/// Flows that were replaced by fewer names or users than before, and steps that were folded meanwhile.
#[test]
fn the_end_of_a_run_replaces_what_was_written_before() {
    let (_dir, path) = target();
    let (table, names) = (download(), names::heard());
    let recorder = Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap();
    let step = |at: u64| Interval { start_ns: START_NS + at, length_ns: 10, opened: at, ..Interval::default() };
    let steps = Steps { from_ns: Some(0), steps: (0..9).map(|at| step(10 * at)).collect() };
    let rest = Some(Box::new(rest_of(&table, &names)));
    send(&recorder, Batch { until_ns: 1, flows: flows_of(&table, &names), steps, rest, waiting: 0 });
    let report = std::sync::Arc::new(report(facts(&table, &["true"]), &table));
    let series = netwatch::report::Series { intervals: vec![step(3)] };
    recorder.finish(report.clone(), series.clone()).wait().unwrap();
    let read = read_file(&path).unwrap();
    assert_eq!((read.complete, read.series), (Completeness::Complete, series));
    assert_eq!(read.report, *report);
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
    /// Whatever was counted, and however much of it was folded: what was kept of it makes the same report.
    #[test]
    fn parts_make_the_report_that_the_table_makes(increments in increments(), max_flows in 0..40_usize) {
        let (mut table, names) = (FlowTable::new(max_flows), no_names());
        increments.into_iter().for_each(|increment| drop(table.apply(increment)));
        for scope in [ObservationPoint::Link, ObservationPoint::Loopback] {
            prop_assert_eq!(table.totals_by_sums(scope), table.totals(scope));
        }
        let rest = rest_of(&table, &names);
        let mut flows = flows_of(&table, &names);
        flows.reverse();
        let parts = UnfinishedRun {
            facts: rest.facts,
            flows,
            folded_endpoints: rest.folded_endpoints,
            folded: rest.folded,
            remainders: rest.remainders,
            lookups: rest.lookups,
            names_lost: rest.names_lost,
        };
        let mut expected = Report::new(interim_facts(&table), &table, &names, &FlowUsers::default());
        expected.naming.contacted_without_lookup.clear();
        prop_assert_eq!(Report::of_unfinished_run(parts), expected);
    }
}

/// A new flow a number.
fn churn(number: u32) -> Increment {
    let key = key(6, (number % 60_000) as u16 + 1024, v6((number / 60_000) as u16), 443);
    tcp(key, 1_000_000, (5, 400), (5, 4_000))
}

#[test]
fn churn_is_written_as_fast_as_it_comes_or_waits_and_is_counted() {
    const PER_BATCH: u32 = 10_000;
    let (_dir, path) = target();
    let (mut table, names) = (FlowTable::new(229_376), no_names());
    let recorder = Recorder::start(destination(&path), "3f2a91bc".into(), START_NS).unwrap();
    let start = Instant::now();
    for round in 0..3 {
        let numbers = round * PER_BATCH..(round + 1) * PER_BATCH;
        numbers.clone().for_each(|number| drop(table.apply(churn(number))));
        let flow = |number| {
            let Traffic::Flow(key) = churn(number).traffic else { panic!("a flow") };
            ReportFlow::new(table.flow(&key).unwrap(), &names, &FlowUsers::default())
        };
        let rest = Some(Box::new(rest_of(&table, &names)));
        send(&recorder, Batch { until_ns: 1, flows: numbers.map(flow).collect(), rest, ..Batch::default() });
    }
    drop(recorder);
    let took = start.elapsed();
    println!("{} flows a second", f64::from(3 * PER_BATCH) / took.as_secs_f64());
    assert_eq!(read_file(&path).unwrap().report.flows.len(), 3 * PER_BATCH as usize);
    // docs/recording.md: what a flow takes in the file.
    let bytes = (path.metadata().unwrap().len() - 122_880) / u64::from(3 * PER_BATCH);
    println!("{bytes} bytes a flow");
    assert!((150..250).contains(&bytes), "{bytes} bytes a flow");
    // A built-in margin: this is the unoptimised build, on a machine that may be busy.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn what_was_folded_and_names_that_were_lost_are_gaps() {
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
