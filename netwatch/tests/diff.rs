//! `netwatch diff`: what counts as a difference, and how it is written.

mod sample;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netwatch::diff::{ChangeKind, Comparison, DiffOptions, SubjectKind, compare};
use netwatch::flow::{Direction, FlowKey, Increment, Protocol, Traffic};
use netwatch::format::diff::{DiffFormat, write};
use netwatch::format::json;
use netwatch::import;
use netwatch::name::NameSource;
use netwatch::process::{Attempt, AttemptCause, AttemptTarget, Attribution, Process, ProcessId};
use netwatch::report::{DisplayName, Facts, FlowNaming, Report};
use proptest::prelude::*;
use sample::scene::{NamedAddress, add_names, address, came, connections, everything, lookup, name};
use sample::{START_NS, counters, facts, failed, growth, key, report, table, tcp};
use snapbox::assert_data_eq;

fn diff(old: &Report, new: &Report) -> Comparison {
    compare(&[old], &[new], &DiffOptions::default())
}

/// `+tcp/443 out app.example` and the like.
fn subjects(difference: &Comparison) -> Vec<String> {
    let mark = |how| match how {
        ChangeKind::Appeared => '+',
        ChangeKind::Vanished => '-',
        ChangeKind::Changed => '~',
    };
    difference.changes.iter().map(|change| format!("{}{}", mark(change.kind), change.subject)).collect()
}

fn of_kind(difference: &Comparison, kind: SubjectKind) -> Vec<String> {
    let changes = difference.changes.iter().filter(|change| change.subject.kind() == kind).cloned().collect();
    subjects(&Comparison { changes, ..difference.clone() })
}

fn only(kind: SubjectKind) -> DiffOptions {
    DiffOptions { kinds: vec![kind], ..DiffOptions::default() }
}

/// A run of one increment.
fn one(increment: Increment) -> Report {
    let table = table([increment]);
    report(facts(&table, &["app"]), &table)
}

fn bytes(sent: u64) -> Report {
    one(tcp(key(6, 40_000, address("203.0.113.10"), 443), 1_000_000, (9, sent), (1, 60)))
}

#[test]
fn a_run_does_not_differ_from_itself() {
    for report in [everything(), connections(&[]), sample::download_report()] {
        let difference = diff(&report, &report);
        assert!(difference.is_same(), "{:?}", subjects(&difference));
    }
}

#[test]
fn endpoints_ports_and_names_appear_and_vanish() {
    let old = connections(&[("203.0.113.10", 443, Some("app.example")), ("203.0.113.11", 80, Some("old.example"))]);
    let new = connections(&[("203.0.113.10", 443, Some("app.example")), ("203.0.113.12", 8443, Some("new.example"))]);
    let expected = [
        "+tcp/8443 out new.example",
        "-tcp/80 out old.example",
        "+tcp/8443 out",
        "-tcp/80 out",
        "+new.example",
        "-old.example",
    ];
    assert_eq!(subjects(&diff(&old, &new)), expected);
}

#[test]
fn addresses_behind_a_name_are_not_a_difference() {
    let old = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    for other in ["198.51.100.7", "2001:db8::7"] {
        let new = connections(&[(other, 443, Some("app.example"))]);
        assert!(diff(&old, &new).is_same(), "{other}");
    }
    let unnamed = connections(&[("198.51.100.7", 443, None)]);
    assert_eq!(
        of_kind(&diff(&old, &unnamed), SubjectKind::Endpoints),
        ["+tcp/443 out 198.51.100.7", "-tcp/443 out app.example"]
    );
}

#[test]
fn a_name_that_only_one_side_found_is_not_a_difference() {
    let old = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    let new = connections(&[("203.0.113.10", 443, None)]);
    assert!(of_kind(&diff(&old, &new), SubjectKind::Endpoints).is_empty());
    assert!(of_kind(&diff(&new, &old), SubjectKind::Endpoints).is_empty());
}

#[test]
fn ephemeral_ports_are_not_a_difference() {
    let old = connections(&[("203.0.113.10", 40_000, Some("ftp.example"))]);
    let new = connections(&[("203.0.113.10", 55_123, Some("ftp.example"))]);
    assert!(diff(&old, &new).is_same());
    // Ports of clients, and of the target as a client.
    let client = |port: u16| {
        let key = FlowKey { ..key(6, 8080, address("198.51.100.200"), port) };
        one(Increment { opened_by: Direction::Ingress, ..growth(Traffic::Flow(key), (3, 300), (4, 400)) })
    };
    assert!(diff(&client(50_000), &client(61_000)).is_same());
    let local = |port| one(growth(Traffic::Flow(key(17, port, address("203.0.113.10"), 123)), (1, 90), (1, 90)));
    assert!(diff(&local(50_000), &local(61_000)).is_same());
}

#[test]
fn clients_of_a_server_are_not_a_difference_but_its_ports_are() {
    let old = one(came("198.51.100.200", 6, 8080));
    assert!(diff(&old, &one(came("198.51.100.201", 6, 8080))).is_same());
    let moved = diff(&old, &one(came("198.51.100.200", 6, 9090)));
    assert_eq!(of_kind(&moved, SubjectKind::Ports), ["+tcp/9090 in", "-tcp/8080 in"]);
}

#[test]
fn the_addresses_of_the_run_are_not_a_difference() {
    let with_gateway = |gateway: [u8; 4]| {
        let table = table([growth(Traffic::Flow(key(17, 50_000, gateway.into(), 53)), (1, 83), (1, 131))]);
        let mut facts: Facts = facts(&table, &["app"]);
        facts.interface.gateway = vec![gateway.into()];
        report(facts, &table)
    };
    let difference = diff(&with_gateway([10, 224, 0, 1]), &with_gateway([172, 16, 5, 1]));
    assert!(difference.is_same(), "{:?}", subjects(&difference));
}

#[test]
fn reports_sizes_above_the_threshold() {
    let changed = |old, new| subjects(&diff(&bytes(old), &bytes(new)));
    assert_eq!(changed(20_000, 60_000), ["~tcp/443 out 203.0.113.10"]);
    assert_eq!(changed(60_000, 20_000), ["~tcp/443 out 203.0.113.10"]);
    assert!(changed(20_000, 39_000).is_empty(), "less than the factor");
    assert!(changed(100, 9_000).is_empty(), "a large ratio of small numbers");
    let strict = DiffOptions { factor: 1.0, min_bytes: 1, ..DiffOptions::default() };
    assert_eq!(compare(&[&bytes(100)], &[&bytes(101)], &strict).changes.len(), 1);
    assert!(compare(&[&bytes(100)], &[&bytes(100)], &strict).is_same());
}

#[test]
fn several_runs_of_a_side_are_one_range() {
    let (a, b) = (bytes(1_000), bytes(90_000));
    let together = |old: &[&Report], new: &[&Report]| compare(old, new, &DiffOptions::default());
    assert!(together(&[&a, &b], &[&bytes(50_000)]).is_same(), "between the two old runs");
    assert!(!together(&[&a, &b], &[&bytes(500_000)]).is_same());
    let other = connections(&[("203.0.113.99", 443, None)]);
    assert!(together(&[&a, &other], &[&a]).changes.iter().all(|change| change.kind == ChangeKind::Vanished));
    assert!(together(&[&a, &other], &[&a, &other]).is_same());
    assert!(together(&[&a, &other], &[&other, &a]).is_same());
}

fn with_processes(programs: &[(Option<&str>, &str)]) -> Report {
    let mut report = bytes(100);
    report.processes.attribution = Attribution::On;
    let process = |(exe, comm): &(Option<&str>, &str)| Process {
        comm: (*comm).to_owned(),
        exe: exe.map(str::to_owned),
        ..Process::default()
    };
    report.processes.list = programs.iter().map(process).collect();
    report
}

#[test]
fn processes_are_compared_by_program() {
    let old = with_processes(&[(Some("/usr/bin/sh"), "sh"), (Some("/usr/bin/curl"), "curl")]);
    let new = with_processes(&[(Some("/usr/bin/sh"), "sh"), (Some("/tmp/curl"), "curl"), (None, "gone")]);
    assert_eq!(subjects(&diff(&old, &new)), ["+/tmp/curl", "+gone", "-/usr/bin/curl"]);
    let unread = with_processes(&[(Some("/usr/bin/sh"), "sh"), (None, "curl")]);
    assert!(diff(&old, &unread).is_same(), "a path that could not be read is known from the other side");
    let long = with_processes(&[(Some("/usr/lib/a-very-long-program-name"), "a-very-long-pro")]);
    assert!(diff(&long, &with_processes(&[(None, "a-very-long-pro")])).is_same());
}

#[test]
fn processes_are_not_compared_with_a_run_without_them() {
    let known = with_processes(&[(Some("/usr/bin/sh"), "sh")]);
    let difference = diff(&bytes(100), &known);
    assert!(difference.is_same());
    assert_eq!(difference.notes, ["processes are not compared: not all of these runs recorded them"]);
    assert!(!difference.compared.iter().any(|(kind, _)| *kind == SubjectKind::Processes));
}

#[test]
fn failures_are_compared_by_name_port_and_cause() {
    let refused = |to: &'static str, called: &'static str| {
        let mut report = one(failed(key(6, 1, address(to), 81), 1, true));
        add_names(&mut report, &[NamedAddress { address: to, name: called, source: NameSource::Dns }]);
        report
    };
    let old = refused("203.0.113.10", "app.example");
    let mut by_curl = old.clone();
    by_curl.processes.list = vec![Process { comm: "curl".into(), ..Process::default() }];
    by_curl.attempts.iter_mut().for_each(|attempt| attempt.process = Some(ProcessId(0)));
    assert_eq!(of_kind(&diff(&by_curl, &old), SubjectKind::Failures), [""; 0], "the program is no part of it");
    let appeared = diff(&bytes(100), &by_curl);
    for format in [DiffFormat::Text, DiffFormat::Markdown] {
        let written = text(&appeared, format);
        assert!(written.contains("tcp app.example:81: refused (curl)"), "{written}");
    }
    assert!(text(&appeared, DiffFormat::Json).contains(r#""programs":["curl"]"#));
    assert!(diff(&old, &refused("203.0.113.11", "app.example")).is_same());
    let unanswered = one(failed(key(6, 1, address("203.0.113.10"), 81), 1, false));
    let expected = ["+tcp app.example:81: timeout", "-tcp app.example:81: refused"];
    assert_eq!(of_kind(&diff(&old, &unanswered), SubjectKind::Failures), expected);
    let mut nowhere = bytes(100);
    let attempt = |target, cause| Attempt {
        first_ns: START_NS,
        last_ns: START_NS,
        count: 1,
        packets: 1,
        target,
        protocol: None,
        cause,
        process: None,
    };
    nowhere.attempts = vec![
        attempt(AttemptTarget::Name("missing.example".into(), "A".into()), AttemptCause::Dns("nxdomain".into())),
        attempt(AttemptTarget::LocalSocket("/run/docker.sock".into()), AttemptCause::Errno(13)),
        attempt(AttemptTarget::Address("[2001:db8::1]:443".parse().unwrap()), AttemptCause::Errno(101)),
    ];
    let expected = ["+[2001:db8::1]:443: no route", "+missing.example: NXDOMAIN"];
    let mut failures = of_kind(&diff(&bytes(100), &nowhere), SubjectKind::Failures);
    failures.sort();
    assert_eq!(failures, expected);
}

#[test]
fn failures_of_names_that_share_an_address_are_apart() {
    let attempt = |local| failed(key(6, local, address("203.0.113.10"), 81), 1, true);
    let table = table([attempt(1), attempt(2), attempt(3)]);
    let mut run = report(facts(&table, &["app"]), &table);
    for (at, host) in ["app.example", "new.example", "new.example"].into_iter().enumerate() {
        let known = &mut run.flows[at];
        known.flow.first_seen_ns += at as u64;
        let display_name = Some(DisplayName { name: name(host), source: NameSource::Dns });
        known.naming = Some(Box::new(FlowNaming { display_name, ..FlowNaming::default() }));
    }
    let mut bytes = Vec::new();
    json::write(&run, &mut bytes).expect("a Vec accepts every write");
    for run in [run, import::report(&bytes).expect("a report")] {
        let counts: Vec<_> = run.failures().iter().map(|failure| (failure.name, failure.count)).collect();
        assert_eq!(counts, [(Some("app.example"), 1), (Some("new.example"), 2)]);
        let appeared = of_kind(&diff(&self::bytes(100), &run), SubjectKind::Failures);
        assert_eq!(appeared, ["+tcp app.example:81: refused", "+tcp new.example:81: refused"]);
    }
}

#[test]
fn addresses_behind_a_name_are_not_a_difference_without_a_packet() {
    let nowhere = |to: &'static str| {
        let mut report = bytes(100);
        report.naming.lookups.push(lookup(name("app.example"), vec![address(to)]));
        report.attempts = vec![Attempt {
            first_ns: START_NS,
            last_ns: START_NS,
            count: 1,
            packets: 1,
            target: AttemptTarget::Address((address(to), 443).into()),
            protocol: Some(Protocol::TCP),
            cause: AttemptCause::NoPacket,
            process: None,
        }];
        report
    };
    let difference = diff(&nowhere("2001:db8::7"), &nowhere("2001:db8::8"));
    assert!(difference.is_same(), "{:?}", subjects(&difference));
    let appeared = diff(&bytes(100), &nowhere("2001:db8::7"));
    assert_eq!(of_kind(&appeared, SubjectKind::Failures), ["+tcp app.example:443: failed at once"]);
}

#[test]
fn reverse_lookups_are_not_names() {
    let mut report = bytes(100);
    report.naming.lookups.push(lookup(name("10.113.0.203.in-addr.arpa"), vec![]));
    assert!(diff(&bytes(100), &report).is_same());
    report.naming.lookups.push(lookup(name("tracker.example"), vec![]));
    assert_eq!(subjects(&diff(&bytes(100), &report)), ["+tracker.example"]);
}

#[test]
fn kinds_of_subjects_and_changes_can_be_selected() {
    let old = connections(&[("203.0.113.10", 443, Some("app.example"))]);
    let new = connections(&[("203.0.113.11", 80, Some("new.example"))]);
    let difference = compare(&[&old], &[&new], &only(SubjectKind::Ports));
    assert_eq!(subjects(&difference), ["+tcp/80 out", "-tcp/443 out"]);
    let gate = DiffOptions { changes: vec![ChangeKind::Appeared], ..only(SubjectKind::Endpoints) };
    assert_eq!(subjects(&compare(&[&old], &[&new], &gate)), ["+tcp/80 out new.example"]);
    assert!(compare(&[&old, &new], &[&old], &gate).is_same());
}

#[test]
fn reports_blind_spots_of_each_run() {
    let mut cut = bytes(100);
    cut.complete = false;
    cut.lost.samples = 7;
    let text = text(&diff(&cut, &bytes(100)), DiffFormat::Text);
    assert!(text.contains("note: old 3f2a: the run had not ended"), "{text}");
    assert!(text.contains("note: old 3f2a: 7 samples were lost"), "{text}");
}

fn text(difference: &Comparison, format: DiffFormat) -> String {
    let mut text = Vec::new();
    write(difference, format, &mut text).expect("memory takes all");
    String::from_utf8(text).expect("text")
}

/// A difference of every kind.
fn comparison_of_every_kind() -> Comparison {
    let mut old = with_processes(&[(Some("/usr/bin/app"), "app")]);
    add_names(&mut old, &[NamedAddress { address: "203.0.113.10", name: "app.example", source: NameSource::Dns }]);
    let mut increments = vec![
        tcp(key(6, 40_000, address("203.0.113.10"), 443), 1_000_000, (900, 1_234_567), (1, 60)),
        tcp(key(6, 40_001, address("203.0.113.66"), 50_051), 1_000_000, (4, 400), (3, 300)),
        failed(key(6, 40_002, address("203.0.113.10"), 81), 1, true),
    ];
    increments.push(growth(Traffic::Flow(key(132, 1, address("203.0.113.12"), 9899)), (1, 90), (1, 90)));
    let table = table(increments);
    let mut new = report(facts(&table, &["app", "--fast"]), &table);
    new.run.id = "91bc".into();
    new.processes.attribution = Attribution::On;
    new.processes.list = vec![Process { comm: "x|y\n".into(), ..Process::default() }];
    add_names(
        &mut new,
        &[
            NamedAddress { address: "203.0.113.10", name: "app.example", source: NameSource::Dns },
            NamedAddress { address: "203.0.113.66", name: "`|tracker\u{1b}[31m", source: NameSource::Sni },
        ],
    );
    new.lost.samples = 2;
    diff(&old, &new)
}

#[test]
fn matches_the_snapshots() {
    assert_data_eq!(text(&comparison_of_every_kind(), DiffFormat::Text), snapbox::file!["snapshots/diff.txt"].raw());
    assert_data_eq!(text(&comparison_of_every_kind(), DiffFormat::Markdown), snapbox::file!["snapshots/diff.md"].raw());
    assert_data_eq!(text(&comparison_of_every_kind(), DiffFormat::Json), snapbox::file!["snapshots/diff.json"].raw());
    let same = diff(&bytes(100), &bytes(100));
    assert_data_eq!(text(&same, DiffFormat::Text), snapbox::file!["snapshots/diff-same.txt"].raw());
}

#[test]
fn the_manual_documents_every_key_of_the_json() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diff.md")).expect("the manual");
    let document: serde_json::Value =
        serde_json::from_str(&text(&comparison_of_every_kind(), DiffFormat::Json)).expect("JSON");
    let mut keys = Vec::new();
    collect(&document, &mut keys);
    for key in keys {
        assert!(manual.contains(&format!("`{key}`")), "docs/diff.md does not name {key}");
    }
}

fn collect(value: &serde_json::Value, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| {
            keys.push(key.clone());
            collect(value, keys);
        }),
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

fn any_increment() -> impl Strategy<Value = Increment> {
    let remote = prop::sample::select(vec!["203.0.113.10", "203.0.113.11", "2001:db8::1", "10.87.0.1", "224.0.0.251"]);
    let protocol = prop::sample::select(vec![1u8, 6, 17, 47, 132]);
    let port = prop::sample::select(vec![53u16, 80, 443, 40_000, 60_000]);
    (remote, protocol, port, 1024u16..65_535, any::<bool>(), 0u64..100_000).prop_map(
        |(to, protocol, port, local, is_in, size)| {
            let to: IpAddr = address(to);
            let has_ports = Protocol(protocol).has_ports();
            let (local, port) = if has_ports { (local, port) } else { (0, 0) };
            let key = if is_in { key(protocol, port, to, local) } else { key(protocol, local, to, port) };
            let opened_by = if is_in { Direction::Ingress } else { Direction::Egress };
            let mut increment = Increment { opened_by, ..growth(Traffic::Flow(key), (1, size), (1, 90)) };
            increment.counters.ingress = counters(2, size / 2);
            increment
        },
    )
}

fn any_report() -> impl Strategy<Value = Report> {
    prop::collection::vec(any_increment(), 0..12).prop_map(|increments| {
        let table = table(increments);
        report(facts(&table, &["app"]), &table)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn swapped_sides_give_the_opposite_changes(a in any_report(), b in any_report()) {
        let count = |difference: &Comparison| {
            let mut counts = BTreeMap::new();
            difference.changes.iter().for_each(|change| *counts.entry(change.kind).or_insert(0) += 1);
            let of = |kind| counts.get(&kind).copied().unwrap_or(0);
            (of(ChangeKind::Appeared), of(ChangeKind::Vanished), of(ChangeKind::Changed))
        };
        prop_assert!(diff(&a, &a).is_same());
        let ((appeared, vanished, changed), reversed) = (count(&diff(&a, &b)), count(&diff(&b, &a)));
        prop_assert_eq!((vanished, appeared, changed), reversed);
        prop_assert!(compare(&[&a, &b], &[&b, &a], &DiffOptions::default()).is_same());
    }
}
