//! Recordings: what is written is read back, whatever it is; and files that are not what they should be are said to be so.

mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use netwatch::flow::{Amount, Direction, IcmpError, Malformed, Protocol, Scope, Traffic};
use netwatch::name::{Hidden, Lookup, Named, ResponseTimes, Source};
use netwatch::process::{Attempt, Attribution, Cause, Evidence, Process, ProcessId, Processes, Target, UnixPeer, User};
use netwatch::record::{Completeness, read_file, write_file};
use netwatch::report::{EndedBy, EndedEarly, Exit, FlowNaming, Report, Series, Share, Shown, Spoken, Step, Tls};
use netwatch::wire::dns::{Question, Rcode, RecordType};
use netwatch::wire::{Application, Name};
use sample::*;

/// Writes and reads back.
fn round_trip(report: &Report, series: &Series) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    write_file(&path, report, series).unwrap();
    let read = read_file(&path).unwrap();
    assert_eq!(read.report, *report);
    assert_eq!((&read.series, read.complete), (series, Completeness::Complete));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "one file");
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn named(text: &str, source: Source, question: Option<&str>) -> Named {
    Named { name: name(text), source, question: question.map(name), first_seen_ns: START_NS }
}

fn spoken(application: &'static str, evidence: &'static str) -> Option<Spoken> {
    Some(Spoken { application: application.into(), evidence: evidence.into() })
}

/// Every source, reason, outcome and kind there is.
fn everything() -> Report {
    let mut report = download_report();
    let naming = FlowNaming {
        shown: Some(Shown { name: name("app.example"), source: Source::Sni }),
        names: vec![named("app.example", Source::Sni, None), named("cdn.example", Source::Dns, Some("app.example"))],
        spoken: spoken("tls", "client_hello"),
        hidden: vec![Hidden::Doh, Hidden::EchPossible],
        tls: Some(Tls {
            offered_version: "TLS 1.3".into(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            post_quantum: true,
        }),
    };
    let user = |process, evidence| User { process: ProcessId(process), evidence, is_maker: process == 1 };
    report.flows[0].naming = Some(Box::new(naming));
    report.flows[0].users = vec![user(0, Evidence::Socket), user(1, Evidence::Tuple), user(2, Evidence::Netns)];
    report.flows[1].flow.icmp_error = Some(IcmpError { kind: 3, code: 13 });
    report.loopback.flows = report.flows[..2].to_vec();
    report.loopback.flows.iter_mut().for_each(|known| known.flow.key.scope = Scope::Loopback);
    report.loopback.totals.egress = counters(3, 300);
    report.endpoints[0].shown = Some(Shown { name: name("app.example"), source: Source::Hosts });
    report.endpoints[0].names = vec![named("a.example", Source::Ptr, None), named("b.example", Source::Quic, None)];
    report.endpoints[0].spoken = spoken("https", Spoken::PORT);
    report.endpoints[0].processes = vec![ProcessId(2), ProcessId(0)];
    report.naming.lookups = lookups();
    report.naming.flows = Share { flows: 4, wire_bytes: 4000 };
    report.naming.unnamed = Share { flows: 1, wire_bytes: 10 };
    report.naming.hidden = vec![(Hidden::Ech, Share { flows: 2, wire_bytes: 7 }), (Hidden::Esni, Share::default())];
    report.naming.unused = vec![name("unused.example")];
    report.naming.never_looked_up = vec![v4(7), v6(8)];
    report.naming.lost.records = 5;
    report.naming.lost.http2_broken = 6;
    report.lost.samples = 3;
    report.lost.new_flows = 1 << 53;
    report.run.duration_ns = u64::MAX;
    report.folded.flows = 17;
    report.folded.at_least = true;
    report.folded.counters.ingress = counters(5, 500);
    report.processes = processes();
    report.attempts = attempts();
    report.notes = vec!["a note".into(), "Gänsefüßchen \u{1b}[2J '; DROP TABLE flow;".into()];
    report
}

fn lookups() -> Vec<Lookup> {
    let lookup = |application, text: &str, kind| Lookup {
        question: Question { name: name(text), kind },
        application,
        asked_by: Direction::Egress,
        asked: 3,
        answered: 2,
        outcomes: BTreeMap::from([(Rcode::NOERROR, 1), (Rcode(11), 1)]),
        truncated: 1,
        response: ResponseTimes { count: 2, min_ns: 1, max_ns: 3, sum_ns: 4 },
        first_seen_ns: START_NS + 5,
        addresses: vec![v4(10), v6(10)],
        aliases: vec![name("cdn.example")],
    };
    vec![
        lookup(Application::Dns, "app.example", RecordType::A),
        lookup(Application::Mdns, "printer.local", RecordType(65_280)),
        Lookup {
            asked_by: Direction::Ingress,
            outcomes: BTreeMap::new(),
            ..lookup(Application::Llmnr, "x", RecordType::PTR)
        },
    ]
}

fn processes() -> Processes {
    let process = |pid, parent| Process {
        pid,
        start_ns: START_NS,
        ppid: 1,
        parent,
        comm: "curl".into(),
        exe: Some("/usr/bin/curl".into()),
        cmdline: Some(vec!["curl".into(), "-u".into(), "\"secret\"\n".into()]),
        cmdline_cut: pid == 43,
        uid: Some(1000),
    };
    Processes {
        attribution: Attribution::On,
        list: vec![
            process(42, None),
            process(43, Some(ProcessId(0))),
            Process { exe: None, cmdline: None, uid: None, ..process(44, Some(ProcessId(1))) },
        ],
        unix: vec![UnixPeer {
            path: "@bus".into(),
            connections: 2,
            failed: 1,
            missing: 0,
            processes: vec![ProcessId(1)],
        }],
        lost: netwatch::process::Lost { events: 1, sockets: 2, gone: 3, unreadable: 5, unknown: 6, beyond: 4 },
    }
}

fn attempts() -> Vec<Attempt> {
    let causes = [
        Cause::Unanswered,
        Cause::Refused,
        Cause::Reset,
        Cause::Icmp(IcmpError { kind: 1, code: 4 }),
        Cause::Errno(101),
        Cause::NoPacket,
        Cause::Dns("nxdomain".into()),
    ];
    let targets = [
        Target::Address("[2001:db8::1]:443".parse().unwrap()),
        Target::Name("nobody.example".into(), "AAAA".into()),
        Target::Unix("/run/x".into()),
    ];
    let attempt = |(at, cause): (usize, Cause)| Attempt {
        first_ns: START_NS + at as u64,
        last_ns: START_NS + 10,
        count: 2,
        tries: 3,
        target: targets[at % targets.len()].clone(),
        protocol: (at % 2 == 0).then_some(Protocol::TCP),
        cause,
        process: (at % 3 == 0).then_some(ProcessId(1)),
    };
    causes.into_iter().enumerate().map(attempt).collect()
}

fn series() -> Series {
    let step = |at: u64| Step {
        start_ns: START_NS + at * 1_000_000_000,
        length_ns: 999_999_999,
        opened: at,
        active: 2,
        ..Step::default()
    };
    Series { steps: vec![step(0), step(1), step(7)] }
}

#[test]
fn a_download_is_read_as_it_was_written() {
    round_trip(&download_report(), &Series::default());
}

#[test]
fn everything_that_can_be_said_is_read_as_it_was_written() {
    round_trip(&everything(), &series());
}

#[test]
fn a_replay_is_read_as_it_was_written() {
    let mut increments = vec![growth(Traffic::Flow(key(17, 1, v4(1), 53)), (1, 80), (0, 0))];
    increments.extend([
        growth(Traffic::NonIp(0x88cc), (2, 120), (0, 0)),
        growth(Traffic::Malformed(Malformed::IpLength), (1, 60), (1, 60)),
        growth(Traffic::Overflow(6), (9, 900), (1, 60)),
    ]);
    increments.extend(housekeeping());
    let table = table(increments);
    let mut replay = report(replayed(&table, Amount { skbs: 2, bytes: 99 }), &table);
    round_trip(&replay, &series());
    replay.replay.as_mut().unwrap().ended_early = Some(EndedEarly { offset: 77, cause: "cut".into() });
    round_trip(&replay, &series());
}

#[test]
fn every_way_to_end_is_read_as_it_was_written() {
    let mut report = download_report();
    for (exit, ended_by) in [
        (None, EndedBy::Command),
        (Some(Exit::Code(-1)), EndedBy::Duration),
        (Some(Exit::Signal(9)), EndedBy::Signal(15)),
    ] {
        (report.run.exit, report.run.ended_by) = (exit, ended_by);
        round_trip(&report, &Series::default());
    }
    report.balance.interface = None;
    report.balance.difference = None;
    report.run.pid = None;
    report.complete = false;
    report.processes.attribution = Attribution::Off("no cgroup v2".into());
    round_trip(&report, &Series::default());
}

/// A recording in a folder of its own.
fn recorded(report: &Report) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.netwatch");
    write_file(&path, report, &series()).unwrap();
    (dir, path)
}

#[track_caller]
fn assert_refused(path: &Path, why: &str) {
    let error = read_file(path).expect_err("it must not be read").to_string();
    assert!(error.starts_with("cannot read recording ") && error.contains(why), "{why}: {error}");
}

#[test]
fn what_is_no_recording_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    assert_refused(&dir.path().join("absent"), "(ENOENT)");
    assert_refused(dir.path(), "not a file");
    assert_refused(&file("empty", b""), "the file is empty");
    assert_refused(&file("text", b"hello"), "not a recording of netwatch's");
    assert_refused(&file("short", b"SQLite format 3\0"), "an SQLite data base, but not a recording");
    assert_refused(&file("other", &[b"SQLite format 3\0".as_slice(), &[0; 4080]].concat()), "an SQLite data base");
}

#[test]
fn a_newer_recording_is_said_to_be_newer() {
    let (_dir, path) = recorded(&download_report());
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&2_u32.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    assert_refused(&path, "a newer netwatch wrote it (schema 2, this one reads up to 1): use that netwatch");
}

#[test]
fn a_file_that_was_cut_or_changed_is_damaged_or_as_it_was_and_never_a_panic() {
    let report = everything();
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
fn values_that_nobody_wrote_are_named_with_their_table() {
    let (_dir, path) = recorded(&download_report());
    let db = rusqlite::Connection::open(&path).unwrap();
    for (change, why) in [
        ("UPDATE flow SET direction = 'up' WHERE number = 0", "in table flow, direction cannot be 'up'"),
        ("UPDATE flow SET direction = 'out', remote_port = 65536", "in table flow, remote_port cannot be 65536"),
        ("UPDATE flow SET remote_port = 1, remote = 'x''\u{1b}'", "in table flow, remote cannot be 'x\\'\\u{1b}'"),
        ("DELETE FROM run", "run is empty"),
        ("DROP TABLE run; CREATE VIEW run AS SELECT 1", "the file is damaged"),
    ] {
        db.execute_batch(change).unwrap();
        assert_refused(&path, why);
    }
}

#[test]
fn a_recording_is_private_whatever_the_umask() {
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
            let is_as_other = row.contains("then as `flow_name`");
            let is_named = row.contains(&format!("`{word}`")) || row.contains(&format!("a `{word}`"));
            assert!(is_named || is_counter || is_as_other, "{word} is not in: {row}");
            columns += 1;
        }
    }
    assert!(columns > 150, "{columns}");
}

/// As somebody else may have written them: sums of them would overflow.
#[test]
fn numbers_that_nobody_counted_are_damage() {
    let report = everything();
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
