//! A report with everything in it that a recording can hold.

use std::collections::BTreeMap;

use netwatch::flow::{Amount, Direction, IcmpError, Malformed, ObservationPoint, PerDirection, Protocol, Traffic};
use netwatch::name::{Hidden, Lookup, NameSource, ResponseTimes, SourcedName};
use netwatch::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, LocalSocket, Process, ProcessId, Processes,
};
use netwatch::report::{
    ApplicationProtocol, DisplayName, EndpointSeries, FlowNaming, FlowShare, Interval, PublishedPort, Report,
    ResourceUsage, Series, TlsFacts,
};
use netwatch::wire::dns::{Question, Rcode, RecordType};
use netwatch::wire::{Application, Name};

use super::{START_NS, counters, download_report, growth, housekeeping, key, replayed, report, table, v4, v6};

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn named(text: &str, source: NameSource, question: Option<&str>) -> SourcedName {
    SourcedName { name: name(text), source, question: question.map(name), first_seen_ns: START_NS }
}

fn application(application: &'static str, evidence: &'static str) -> Option<ApplicationProtocol> {
    Some(ApplicationProtocol { name: application.into(), evidence: evidence.into() })
}

/// Every source, reason, outcome and kind there is.
pub fn everything() -> Report {
    let mut report = download_report();
    let naming = FlowNaming {
        display_name: Some(DisplayName { name: name("app.example"), source: NameSource::Sni }),
        names: vec![
            named("app.example", NameSource::Sni, None),
            named("cdn.example", NameSource::Dns, Some("app.example")),
        ],
        application: application("tls", "client_hello"),
        hidden: vec![Hidden::Doh, Hidden::EchPossible],
        tls: Some(TlsFacts {
            offered_version: "TLS 1.3".into(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            post_quantum: true,
        }),
    };
    let user = |process, evidence| FlowUser { process: ProcessId(process), evidence, is_maker: process == 1 };
    report.flows[0].naming = Some(Box::new(naming));
    report.flows[0].users = vec![user(0, Evidence::Socket), user(1, Evidence::Tuple), user(2, Evidence::Netns)];
    report.flows[1].flow.icmp_error = Some(IcmpError { kind: 3, code: 13 });
    report.loopback.flows = report.flows[..2].to_vec();
    report.loopback.flows.iter_mut().for_each(|known| known.flow.key.point = ObservationPoint::Loopback);
    let flows = report.flows.iter_mut().chain(&mut report.loopback.flows);
    (0..).zip(flows).for_each(|(serial, known)| known.flow.serial = serial);
    report.loopback.totals.egress = counters(3, 300);
    report.endpoints[0].display_name = Some(DisplayName { name: name("app.example"), source: NameSource::Hosts });
    report.endpoints[0].names =
        vec![named("a.example", NameSource::Ptr, None), named("b.example", NameSource::Quic, None)];
    report.endpoints[0].application = application("https", ApplicationProtocol::PORT);
    report.endpoints[0].processes = vec![ProcessId(2), ProcessId(0)];
    let published = PublishedPort { protocol: Protocol::TCP, address: None, host_port: 8080, port: 80 };
    let local = PublishedPort { protocol: Protocol::UDP, address: Some([127, 0, 0, 1].into()), ..published };
    report.interface.published = vec![published, local];
    report.naming.lookups = lookups();
    report.naming.flows = FlowShare { flows: 4, wire_bytes: 4000 };
    report.naming.unnamed = FlowShare { flows: 1, wire_bytes: 10 };
    report.naming.hidden =
        vec![(Hidden::Ech, FlowShare { flows: 2, wire_bytes: 7 }), (Hidden::Esni, FlowShare::default())];
    report.naming.unused = vec![name("unused.example")];
    report.naming.contacted_without_lookup = vec![v4(7), v6(8)];
    report.naming.lost.records = 5;
    report.naming.lost.http2_broken = 6;
    report.lost.samples = 3;
    report.lost.new_flows = 1 << 52;
    report.lost.unselected = 4;
    report.run.duration_ns = 1 << 61;
    report.run.usage = Some(ResourceUsage { user_ns: 1 << 60, system_ns: 7, memory_peak: Some(44_040_192) });
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
        queried_by: Direction::Egress,
        queries: 3,
        responses: 2,
        outcomes: BTreeMap::from([(Rcode::NOERROR, 1), (Rcode(11), 1)]),
        repeats: BTreeMap::new(),
        truncated: 1,
        response_times: ResponseTimes { count: 2, min_ns: 1, max_ns: 3, sum_ns: 4 },
        first_seen_ns: START_NS + 5,
        addresses: vec![v4(10), v6(10)],
        aliases: vec![name("cdn.example")],
    };
    vec![
        lookup(Application::Dns, "app.example", RecordType::A),
        lookup(Application::Mdns, "printer.local", RecordType(65_280)),
        Lookup {
            queried_by: Direction::Ingress,
            outcomes: BTreeMap::new(),
            ..lookup(Application::Llmnr, "x", RecordType::PTR)
        },
    ]
}

fn processes() -> Processes {
    let process = |pid, parent| Process {
        number: pid - 42,
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
        local_sockets: vec![LocalSocket {
            path: "@bus".into(),
            connections: 2,
            failed: 1,
            missing: 1,
            processes: vec![ProcessId(1)],
        }],
        lost: netwatch::process::ProcessLosses { events: 1, sockets: 2, gone: 3, unreadable: 5, unknown: 6, beyond: 4 },
    }
}

fn attempts() -> Vec<Attempt> {
    let causes = [
        AttemptCause::Timeout,
        AttemptCause::Refused,
        AttemptCause::Reset,
        AttemptCause::Icmp(IcmpError { kind: 1, code: 4 }),
        AttemptCause::Errno(101),
        AttemptCause::NoPacket,
        AttemptCause::Dns("nxdomain".into()),
    ];
    let targets = [
        AttemptTarget::Address("[2001:db8::1]:443".parse().unwrap()),
        AttemptTarget::Name("nobody.example".into(), "AAAA".into()),
        AttemptTarget::LocalSocket("/run/x".into()),
    ];
    let attempt = |(at, cause): (usize, AttemptCause)| Attempt {
        first_ns: START_NS + at as u64,
        last_ns: START_NS + 10,
        count: 2,
        packets: 3,
        target: targets[at % targets.len()].clone(),
        protocol: (at % 2 == 0).then_some(Protocol::TCP),
        cause,
        process: (at % 3 == 0).then_some(ProcessId(1)),
    };
    causes.into_iter().enumerate().map(attempt).collect()
}

/// Three intervals with a pause.
pub fn series() -> Series {
    let step = |at: u64| Interval {
        start_ns: START_NS + at * 1_000_000_000,
        length_ns: 999_999_999,
        opened: at,
        active: 2,
        ..Interval::default()
    };
    Series { intervals: vec![step(0), step(1), step(7)], ..Series::default() }
}

/// The same with everything that an interval has.
pub fn full_series() -> Series {
    let mut series = series();
    for (at, interval) in (0..).zip(&mut series.intervals) {
        let mut times = netwatch::report::TimeHistogram::default();
        (0..20 * at).for_each(|part| times.add(1_000 + part * part * part * 1_000, at));
        *interval = Interval {
            connections: 3,
            closed: 2,
            open: at,
            failed: 1,
            tcp_packets: 100,
            retransmitted: 4,
            dns_failed: 5,
            lost: 6,
            cpu_ns: 7_000_000,
            memory: (at > 0).then_some(1 << 20),
            connect: times.clone(),
            round_trip: times.clone(),
            dns: times,
            ..interval.clone()
        };
    }
    let key = |remote, direction| netwatch::flow::EndpointKey {
        remote,
        protocol: Protocol::TCP,
        port: 443,
        direction,
        fragment: false,
    };
    let address = netwatch::flow::Remote::Address(v4(1));
    series.endpoints = vec![
        EndpointSeries {
            key: key(address, Direction::Egress),
            before: PerDirection { egress: counters(2, 120), ingress: counters(1, 60) },
            intervals: series.intervals[..2].to_vec(),
        },
        EndpointSeries {
            key: key(netwatch::flow::Remote::Others, Direction::Ingress),
            before: PerDirection::default(),
            intervals: series.intervals[2..].to_vec(),
        },
    ];
    series
}

/// A capture with something of every kind that belongs to no flow.
pub fn replay() -> Report {
    let mut increments = vec![growth(Traffic::Flow(key(17, 1, v4(1), 53)), (1, 80), (0, 0))];
    increments.extend([
        growth(Traffic::NonIp(0x88cc), (2, 120), (0, 0)),
        growth(Traffic::Malformed(Malformed::IpLength), (1, 60), (1, 60)),
        growth(Traffic::Overflow(6), (9, 900), (1, 60)),
    ]);
    increments.extend(housekeeping());
    let table = table(increments);
    report(replayed(&table, Amount { skbs: 2, bytes: 99 }), &table)
}
