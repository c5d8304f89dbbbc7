//! What the user sees of netwatch, held by snapshots: one file for each picture.

mod sample;

use netwatch::flow::{
    Amount, Counters, Direction, FlowTable, IcmpError, Increment, Malformed, ObservationLosses, PerDirection, Protocol,
    QuotedError, Traffic,
};
use netwatch::format::summary::{self, GroupBy, SummaryOptions};
use netwatch::report::{EndedBy, EndedEarly, ExitStatus, Facts, Report};
use sample::{
    download, download_report, facts, failed, growth, housekeeping, key, on_loopback, replayed, table, tcp, v4, v6,
};
use snapbox::{assert_data_eq, file};

fn print(report: &Report, options: SummaryOptions) -> String {
    let mut text = Vec::new();
    summary::write(report, &options, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn at(report: &Report, width: usize) -> String {
    print(report, SummaryOptions { width, verbose: true, ..SummaryOptions::default() })
}

/// The short summary, as `run` prints it.
fn short(report: &Report, width: usize) -> String {
    print(report, SummaryOptions { width, next: true, ..SummaryOptions::default() })
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

fn failures() -> FlowTable {
    let mut table = table([
        failed(key(6, 1, v4(7), 81), 1, true),
        failed(key(6, 2, v4(7), 81), 1, true),
        failed(key(6, 3, v4(8), 82), 4, false),
        failed(key(6, 4, v6(9), 83), 3, false),
        growth(Traffic::Flow(key(17, 5, v4(9), 9)), (3, 180), (0, 0)),
        Increment { opened_by: Direction::Ingress, ..growth(Traffic::Flow(key(1, 0, v4(9), 0)), (0, 0), (3, 240)) },
        on_loopback(failed(key(6, 6, v4(1), 5432), 1, true)),
    ]);
    table.note_icmp_error(QuotedError {
        flow: key(17, 5, v4(9), 9),
        error: IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 0,
    });
    table.note_icmp_error(QuotedError {
        flow: key(6, 4, v6(9), 83),
        error: IcmpError { kind: 1, code: 4 },
        by_target: false,
        time_ns: 0,
    });
    table
}

#[test]
fn the_answer_comes_first() {
    for (width, file) in [(80, file!["snapshots/short-80.txt"]), (50, file!["snapshots/short-50.txt"])] {
        assert_data_eq!(short(&download_report(), width), file.raw());
    }
    let table = failures();
    let report = sample::report(facts(&table, &["./probe.sh"]), &table);
    assert_data_eq!(short(&report, 80), file!["snapshots/short-failures.txt"].raw());
}

#[test]
fn diagnostics_appear_only_when_something_is_wrong() {
    let table = download();
    let good = short(&sample::report(facts(&table, &["curl"]), &table), 100);
    assert!(good.contains("verified   every packet counted, nothing lost\n"), "{good}");
    for word in ["skbs", "housekeeping", "balance", "lost  ", " 0 packets"] {
        assert!(!good.contains(word), "{word}: {good}");
    }
    let interface_counters = Some(sample::interface_counters(&table, (3, 198)));
    let open = short(&sample::report(Facts { interface_counters, ..facts(&table, &["curl"]) }, &table), 100);
    assert!(open.contains("DIFFERENCE") && !open.contains("verified"), "{open}");
    let lost = ObservationLosses { samples: 3, ..ObservationLosses::default() };
    let lossy = short(&sample::report(Facts { lost, ..facts(&table, &["curl"]) }, &table), 100);
    assert!(lossy.contains("every packet counted\nlost       3 samples\n"), "{lossy}");
}

#[test]
fn the_rows_of_hosts_add_up_to_the_totals() {
    let report = download_report();
    let text = short(&report, 120);
    let connections: u64 = text
        .lines()
        .skip_while(|line| !line.starts_with("HOST"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().find_map(|word| word.parse::<u64>().ok()).expect("a number"))
        .sum();
    assert!(text.contains(&format!(", {connections} connections, ")), "{text}");
}

#[test]
fn names_that_were_lost_are_reported_only_if_names_are_missing() {
    let mut report = download_report();
    report.naming.lost.pending = 1_531;
    report.naming.unnamed = Default::default();
    assert!(report.gaps().iter().all(|gap| !gap.contains("1531")), "{:?}", report.gaps());
    assert!(!short(&report, 100).contains("1,531") && !at(&report, 100).contains("1,531"));
    report.naming.unnamed.flows = 1;
    assert!(report.gaps().iter().any(|gap| gap.contains("1531")), "{:?}", report.gaps());
    assert!(short(&report, 100).contains("1,531"));
}

#[test]
fn the_socket_of_nscd_is_listed_on_request_only() {
    let mut report = download_report();
    let socket = |path: &str, connections, failed| netwatch::process::LocalSocket {
        path: path.into(),
        connections,
        failed,
        missing: 0,
        processes: vec![netwatch::process::ProcessId(0)],
    };
    report.processes.local_sockets =
        vec![socket("/run/docker.sock", 2, 1), socket("/run/gone.sock", 1, 1), socket("/var/run/nscd/socket", 2, 0)];
    let text = short(&report, 120);
    assert!(text.contains("/run/docker.sock") && !text.contains("nscd") && !text.contains("gone.sock"), "{text}");
    assert!(at(&report, 120).contains("nscd"));
}

#[test]
fn download_at_120() {
    assert_data_eq!(at(&download_report(), 120), file!["snapshots/download-120.txt"].raw());
}

#[test]
fn download_at_80() {
    assert_data_eq!(at(&download_report(), 80), file!["snapshots/download-80.txt"].raw());
}

#[test]
fn download_at_60() {
    assert_data_eq!(at(&download_report(), 60), file!["snapshots/download-60.txt"].raw());
}

#[test]
fn download_at_40() {
    assert_data_eq!(at(&download_report(), 40), file!["snapshots/download-40.txt"].raw());
}

#[test]
fn download_in_color() {
    let options = SummaryOptions { color: true, verbose: true, ..SummaryOptions::default() };
    assert_data_eq!(print(&download_report(), options), file!["snapshots/download-color.txt"].raw());
}

#[test]
fn download_by_process() {
    for (width, file) in [(80, file!["snapshots/by-process-80.txt"]), (50, file!["snapshots/by-process-50.txt"])] {
        let options = SummaryOptions { width, by: GroupBy::Process, verbose: true, ..SummaryOptions::default() };
        assert_data_eq!(print(&download_report(), options), file.raw());
    }
}

/// Every kind of attempt, each with its process.
#[test]
fn attempts() {
    let table = download();
    let attempts = sample::processes::attempts();
    let report = sample::named(Facts { attempts, ..facts(&table, &["sh"]) }, &table);
    assert_data_eq!(at(&report, 80), file!["snapshots/attempts.txt"].raw());
}

#[test]
fn empty_run() {
    let table = FlowTable::default();
    assert_data_eq!(at(&sample::report(facts(&table, &["true"]), &table), 80), file!["snapshots/empty.txt"].raw());
}

#[test]
fn many_endpoints_are_cut_with_a_count() {
    let flow = |n: u8| growth(Traffic::Flow(key(17, 1000, v4(n), 123)), (u64::from(n), u64::from(n) * 90), (1, 90));
    let table = table((1..=60).map(flow));
    let report = sample::report(facts(&table, &["ntpdate"]), &table);
    let options = SummaryOptions { max_endpoints: 5, verbose: true, ..SummaryOptions::default() };
    assert_data_eq!(print(&report, options), file!["snapshots/many.txt"].raw());
    let all = print(&report, SummaryOptions { max_endpoints: 59, verbose: true, ..SummaryOptions::default() });
    assert!(!all.contains("more"), "one line is never hidden behind a line of its own");
}

#[test]
fn incoming() {
    let incoming = |port: u16, client: u8| {
        let outgoing = tcp(key(6, 8080, v4(client), port), 300_000, (6, 4_500), (7, 812));
        Increment { opened_by: Direction::Ingress, ..outgoing }
    };
    let sctp = growth(Traffic::Flow(key(132, 9000, v4(3), 9001)), (1, 60), (0, 0));
    let gre = growth(Traffic::Flow(key(47, 0, v4(4), 0)), (1, 60), (0, 0));
    let mut fragment_key = key(17, 0, v4(4), 0);
    fragment_key.fragment = true;
    let fragment = growth(Traffic::Flow(fragment_key), (1, 60), (0, 0));
    let table = table([incoming(51_000, 20), incoming(51_001, 20), incoming(51_002, 21), sctp, gre, fragment]);
    let facts = facts(&table, &["python3", "-m", "http.server", "8080"]);
    let run = netwatch::report::Run {
        duration_ns: 93_000_000_000,
        exit: Some(ExitStatus::Signal(15)),
        ended_by: Some(EndedBy::Signal(15)),
        ..facts.run
    };
    assert_data_eq!(at(&sample::report(Facts { run, ..facts }, &table), 80), file!["snapshots/incoming.txt"].raw());
}

#[test]
fn failures_at_80() {
    let table = failures();
    let report = sample::report(facts(&table, &["./probe.sh"]), &table);
    assert_data_eq!(at(&report, 80), file!["snapshots/failures-80.txt"].raw());
}

#[test]
fn failures_at_60() {
    let table = failures();
    let report = sample::report(facts(&table, &["./probe.sh"]), &table);
    assert_data_eq!(at(&report, 60), file!["snapshots/failures-60.txt"].raw());
}

#[test]
fn loss_and_remainders() {
    let table = table(housekeeping().into_iter().chain([
        tcp(key(6, 1, v4(1), 443), 1_000, (10, 1_000), (10, 90_000)),
        growth(Traffic::Overflow(17), (70, 7_000), (0, 0)),
        growth(Traffic::NonIp(0x88cc), (1, 60), (0, 0)),
        growth(Traffic::Malformed(Malformed::IpLength), (0, 0), (2, 120)),
    ]));
    let lost =
        ObservationLosses { samples: 3, unreadable: 2, table_full: 70, insert_failed: 0, new_flows: 1, unselected: 4 };
    let notes = vec!["no default route on the host: only addresses on its own networks can be reached".to_owned()];
    let report = sample::report(Facts { lost, notes, ..facts(&table, &["flood"]) }, &table);
    assert_data_eq!(at(&report, 80), file!["snapshots/loss.txt"].raw());
}

#[test]
fn interface_gone() {
    let table = download();
    let report = sample::report(Facts { interface_counters: None, ..facts(&table, &["curl"]) }, &table);
    assert_data_eq!(at(&report, 100), file!["snapshots/interface-gone.txt"].raw());
}

#[test]
fn a_difference_is_loud() {
    let table = download();
    let interface_counters = Some(sample::interface_counters(&table, (3, 198)));
    let report = sample::report(Facts { interface_counters, ..facts(&table, &["curl"]) }, &table);
    assert!(!report.balance.closed());
    assert_data_eq!(at(&report, 100), file!["snapshots/difference.txt"].raw());
}

#[test]
fn packets_dropped_by_the_interface() {
    let table = table([tcp(key(6, 1, v4(1), 443), 1_000, (10, 1_000), (10, 9_000))]);
    let mut counters = sample::interface_counters(&table, (0, 0));
    counters.tx = netwatch::flow::LinkCounters { packets: 8, bytes: 6_972, dropped: 2 };
    let report = sample::report(Facts { interface_counters: Some(counters), ..facts(&table, &["curl"]) }, &table);
    assert!(report.balance.closed());
    assert_data_eq!(at(&report, 80), file!["snapshots/dropped.txt"].raw());
}

#[test]
fn interim_figures_say_that_they_are_live() {
    let table = download();
    let facts = facts(&table, &["curl"]);
    let run = netwatch::report::Run { exit: None, ended_by: None, ..facts.run };
    let report = sample::report(Facts { run, complete: false, ..facts }, &table);
    assert_data_eq!(at(&report, 80), file!["snapshots/interim.txt"].raw());
}

#[test]
fn a_replayed_capture() {
    let table = download();
    let report = sample::report(replayed(&table, Amount::default()), &table);
    assert_data_eq!(at(&report, 100), file!["snapshots/replay.txt"].raw());
}

#[test]
fn a_capture_that_ends_early_by_the_kernel() {
    let table = download();
    let mut facts = replayed(&table, Amount { skbs: 3, bytes: 4_321 });
    facts.notes.push("3 frames left out, cut by the capture: a kernel cannot be handed them".to_owned());
    let cause = "the file ends 12 bytes into a record of 1530".to_owned();
    facts.replay.as_mut().unwrap().ended_early = Some(EndedEarly { offset: 123_456, cause });
    let report = sample::report(facts, &table);
    assert!(report.balance.closed());
    assert_data_eq!(at(&report, 80), file!["snapshots/replay-early.txt"].raw());
}

#[test]
fn a_file_that_does_not_balance_is_loud() {
    let table = download();
    let mut facts = replayed(&table, Amount::default());
    facts.replay.as_mut().unwrap().frames += Amount { skbs: 1, bytes: 60 };
    assert_data_eq!(at(&sample::report(facts, &table), 100), file!["snapshots/replay-difference.txt"].raw());
}

#[test]
fn hostile_text_is_escaped() {
    let table = FlowTable::default();
    let mut facts = facts(&table, &["printf", "\x1b]0;owned\x07", "a\u{202e}b"]);
    facts.notes.push("bad \x1b[2J name".to_owned());
    let report = sample::report(facts, &table);
    let text = at(&report, 80) + &short(&report, 80);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(!text.contains('\u{202e}'), "{text:?}");
}

#[test]
fn every_width_is_respected() {
    let huge = Counters { skbs: u64::MAX / 8, packets: u64::MAX / 8, bytes: u64::MAX / 8, wire_bytes: u64::MAX / 8 };
    let mut big = tcp(key(6, 65_535, v6(1), 65_535), 59_000_000_000, (1, 1), (1, 1));
    big.counters = PerDirection { egress: huge, ingress: huge };
    let large = table([big]);
    for table in [download(), failures(), large] {
        let report = sample::report(
            facts(&table, &["/a/very/long/path/to/a/program/that/does/not/fit", "--option=value"]),
            &table,
        );
        for width in 40..=200 {
            for text in [at(&report, width), short(&report, width)] {
                assert!(widest(&text) <= width, "{} > {width}:\n{text}", widest(&text));
            }
        }
    }
}

/// A server is summarized by its services: with a row per client, these would hide everything else.
#[test]
fn many_clients_of_a_service_are_one_row() {
    let client = |host: u8, port: u16| {
        let opened_by = Direction::Ingress;
        Increment { opened_by, ..tcp(key(6, port, v4(host), 50_000), 1_000_000, (10, 1_000), (5, 500)) }
    };
    let clients = (1..=40).map(|host| client(host, 8080)).chain((1..=3).map(|host| client(host, 9090)));
    let table = table(clients);
    let report = sample::report(facts(&table, &["server"]), &table);
    let text = short(&report, 100);
    let row = |begin: &str| text.lines().find(|line| line.trim_start().starts_with(begin)).map(str::to_owned);
    let crowd = row("40\u{a0}clients").or_else(|| row("40 clients")).unwrap_or_else(|| panic!("{text}"));
    for part in ["tcp/8080 in", " 40 ", "40.0 kB", "20.0 kB", "1.00 ms"] {
        assert!(crowd.contains(part), "{part}: {crowd}");
    }
    assert_eq!(text.matches("tcp/9090 in").count(), 3, "a few clients are listed: {text}");
    let [service, small] = <[_; 2]>::try_from(report.services()).expect("two services");
    assert_eq!((service.port, service.clients, service.connections, service.top_clients.len()), (8080, 40, 40, 10));
    assert_eq!((small.clients, small.handshake_rtt_ns, small.counters.egress.packets), (3, Some(1_000_000), 30));
}

#[test]
fn a_service_has_its_rates_response_times_and_errors() {
    use netwatch::report::{PeakRates, PublishedPort, ServiceActivity};
    let opened_by = Direction::Ingress;
    let client = Increment { opened_by, ..tcp(key(6, 80, v4(1), 50_000), 1_000_000, (10, 1_000), (5, 500)) };
    let table = table([client]);
    let mut report = sample::report(facts(&table, &["server"]), &table);
    report.interface.published =
        vec![PublishedPort { protocol: Protocol::TCP, address: None, host_port: 8080, port: 80 }];
    report.run.duration_ns = 2_000_000_000;
    let service = |report: &Report| one_line(&at(report, 80));
    assert!(service(&report).contains("tcp/80, published as 8080: 1 client, 0.50 connections/s, 750 B/s"));
    let mut activity =
        ServiceActivity { peak: Some(PeakRates { connections: 1, wire_bytes: 1_200 }), ..Default::default() };
    activity.exchanges.unmeasured = 3;
    activity.exchanges.statuses = [0, 2, 0, 0, 1];
    [50_000_000, 51_000_000, 80_000_000].into_iter().for_each(|time_ns| activity.exchanges.times.add(time_ns, 1));
    report.activity.insert((Protocol::TCP, 80), activity);
    let text = service(&report);
    for words in [
        "0.50 connections/s (peak 1), 750 B/s (peak 1.20 kB/s)",
        " ms, 3 measured), 3 requests without a time",
        "2xx 2, 5xx 1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// All words in one line, however they were wrapped.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_failed_lookup_of_two_types_is_one_row_and_there_was_traffic() {
    use netwatch::process::{Attempt, AttemptCause, AttemptTarget};
    let table = FlowTable::default();
    let mut report = sample::report(facts(&table, &["client.py"]), &table);
    assert!(at(&report, 80).contains("no traffic"), "there was none");
    let lookup = |kind: &str| Attempt {
        first_ns: 1,
        last_ns: 1,
        count: 2,
        packets: 2,
        target: AttemptTarget::Name("nope.example".to_owned(), kind.to_owned()),
        protocol: None,
        cause: AttemptCause::Dns("nxdomain".to_owned()),
        process: None,
    };
    report.attempts = vec![lookup("A"), lookup("AAAA")];
    let text = at(&report, 80);
    assert!(text.contains("nope.example (DNS A, AAAA): NXDOMAIN, 2 times"), "{text}");
    assert!(!text.contains("no traffic"), "{text}");
}
