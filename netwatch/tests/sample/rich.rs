//! A made-up run of which everything is known: names, processes, attempts, a series. And the same
//! with text that contains code.

use std::net::IpAddr;

use netwatch::flow::{Direction, IcmpError, PerDirection, Protocol, QuotedError, Traffic};
use netwatch::name::{Hidden, NameSource, ServiceExchanges, SourcedName};
use netwatch::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, FlowUsers, LocalSocket, Process, ProcessId,
    Processes,
};
use netwatch::report::{
    ApplicationProtocol, DisplayName, EndpointSeries, FlowNaming, FlowShare, Interval, PeakRates, Report,
    ReportEndpoint, ReportFlow, Series, ServiceActivity, TimeHistogram,
};
use netwatch::wire::Name;

use super::{START_NS, counters, download, facts, failed, growth, key, on_loopback, tcp, v4, v6};

const SECOND: u64 = 1_000_000_000;

/// Text that tries to leave every format it may stand in.
pub const HOSTILE: &str = "=</script><img src=x onerror=alert(1)>|`a`\u{2028}&\"'";

/// A build with downloads, DNS queries and failed attempts.
pub fn build() -> Report {
    let mut table = download();
    let hosts = [(20_u8, 61_000_u64), (21, 48_000), (22, 9_000)];
    for port in 0..24_u16 {
        let (host, size) = hosts[usize::from(port % 3)];
        let begin = START_NS + u64::from(port) * 45_000_000;
        let size = size * u64::from(port + 1);
        let mut one = tcp(
            key(6, 41_000 + port, v4(host), 443),
            3_000_000 + u64::from(port) * 700_000,
            (40, 3_100),
            (size / 1400 + 1, size),
        );
        (one.first_seen_ns, one.last_seen_ns) = (begin, begin + 90_000_000 + u64::from(port % 5) * 60_000_000);
        table.apply(one);
    }
    let incoming = tcp(key(6, 8080, v6(0x20), 51_000), 400_000, (9, 5_000), (8, 700));
    table.apply(netwatch::flow::Increment { opened_by: Direction::Ingress, ..incoming });
    table.apply(failed(key(6, 42_000, v4(50), 5432), 1, true));
    let unreachable = key(17, 42_001, v4(51), 9);
    table.apply(growth(Traffic::Flow(unreachable), (2, 120), (0, 0)));
    table.note_icmp_error(QuotedError {
        flow: unreachable,
        error: IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 0,
    });
    table.apply(growth(Traffic::NonIp(0x88cc), (1, 60), (0, 0)));
    table.apply(on_loopback(tcp(key(6, 43_000, v4(1), 6379), 40_000, (12, 900), (11, 5_100))));
    let mut facts = facts(&table, &["cargo", "build", "--locked", "--features", "net io"]);
    facts.run.duration_ns = 1_400_000_000;
    facts.processes = processes();
    facts.attempts = attempts();
    facts.notes = vec!["2 processes were still there and were ended".to_owned()];
    let mut report = Report::new(facts, &table, &super::names::download_names(), &FlowUsers::default());
    report.activity.insert((Protocol::TCP, 8080), activity());
    know(&mut report);
    report.series = series();
    report
}

fn processes() -> Processes {
    let process = |number, pid, parent: Option<u32>, comm: &str, cmdline: &[&str]| Process {
        number,
        pid,
        start_ns: START_NS + u64::from(pid % 100) * 1_000_000,
        ppid: 4242,
        parent: parent.map(ProcessId),
        comm: comm.to_owned(),
        exe: Some(format!("/usr/bin/{comm}")),
        cmdline: Some(cmdline.iter().map(|&argument| argument.to_owned()).collect()),
        cmdline_cut: false,
        uid: Some(1000),
    };
    Processes {
        attribution: Attribution::On,
        list: vec![
            process(0, 4242, None, "cargo", &["cargo", "build", "--locked", "--features", "net io"]),
            process(1, 4243, Some(0), "git", &["git", "fetch", "--depth=1"]),
            process(
                2,
                4250,
                Some(1),
                "git-remote-http",
                &["git-remote-https", "origin", "https://git.example/net.git"],
            ),
            process(3, 4260, Some(0), "build-script-bu", &["target/debug/build/net/build-script-build"]),
        ],
        local_sockets: vec![LocalSocket {
            path: "/run/docker.sock".to_owned(),
            connections: 2,
            failed: 1,
            missing: 0,
            processes: vec![ProcessId(3)],
        }],
        ..Processes::default()
    }
}

fn attempts() -> Vec<Attempt> {
    let at = |ms: u64| START_NS + ms * 1_000_000;
    vec![Attempt {
        first_ns: at(300),
        last_ns: at(700),
        count: 3,
        packets: 3,
        target: AttemptTarget::Address((v6(0x99), 443).into()),
        protocol: Some(Protocol::TCP),
        cause: AttemptCause::Errno(101),
        process: Some(ProcessId(3)),
    }]
}

/// Puts names, protocols and processes to everything.
fn know(report: &mut Report) {
    let names = [(20, "crates.example"), (21, "static.crates.example"), (22, "git.example")];
    let mut flows = std::mem::take(&mut report.flows);
    for (at, known) in flows.iter_mut().enumerate() {
        known.users =
            vec![FlowUser { process: ProcessId((at % 4) as u32), evidence: Evidence::Socket, is_maker: false }];
        let Some((_, name)) = names.iter().find(|(host, _)| known.flow.key.remote.addr == v4(*host)) else {
            continue;
        };
        known.naming = Some(Box::new(naming(name)));
    }
    for known in &mut report.endpoints {
        let address = known.endpoint.key.remote;
        let shown = known.display_name.as_ref();
        let is = |known: &&ReportFlow| {
            let is_there = netwatch::flow::Remote::Address(known.flow.key.remote.addr) == address;
            is_there && (shown.is_none() || known.display_name().is_none_or(|other| Some(other) == shown))
        };
        let of: Vec<&ReportFlow> = flows.iter().filter(is).collect();
        name_endpoint(known, &of);
    }
    report.flows = flows;
    report.naming.unnamed = FlowShare { flows: 3, wire_bytes: 5_948 };
    report.naming.hidden = vec![(Hidden::NoServerName, FlowShare { flows: 1, wire_bytes: 6_354 })];
}

fn name_endpoint(endpoint: &mut ReportEndpoint, flows: &[&ReportFlow]) {
    endpoint.processes = flows.iter().flat_map(|known| &known.users).map(|user| user.process).collect();
    endpoint.processes.sort_unstable();
    endpoint.processes.dedup();
    if endpoint.display_name.is_some() {
        return;
    }
    if let Some(naming) = flows.iter().find_map(|known| known.naming.as_ref()) {
        endpoint.display_name.clone_from(&naming.display_name);
        endpoint.names.clone_from(&naming.names);
        endpoint.application.clone_from(&naming.application);
    }
}

fn naming(name: &str) -> FlowNaming {
    let name = Name::new(name.as_bytes()).unwrap();
    FlowNaming {
        display_name: Some(DisplayName { name: name.clone(), source: NameSource::Sni }),
        names: vec![SourcedName { name, source: NameSource::Sni, question: None, first_seen_ns: START_NS }],
        application: Some(ApplicationProtocol { name: "tls".into(), evidence: "client_hello".into() }),
        ..FlowNaming::default()
    }
}

/// A few times around this one, nanoseconds.
fn times(at: u64, near_ns: u64) -> TimeHistogram {
    let mut times = TimeHistogram::default();
    (0..at % 4).for_each(|part| times.add(near_ns + part * near_ns / 3 + at * 10_000, 1));
    times
}

/// Every 50 ms of 1.4 s, with a pause.
fn series() -> Series {
    let step = |at: u64| {
        let wave = if (12..15).contains(&at) { 0 } else { 20 + (at * 37) % 61 };
        Interval {
            start_ns: START_NS + at * SECOND / 20,
            length_ns: SECOND / 20,
            totals: PerDirection { egress: counters(wave / 4, wave * 90), ingress: counters(wave, wave * 1_400) },
            opened: u64::from(at.is_multiple_of(2)),
            active: wave / 10,
            connections: u64::from(at.is_multiple_of(2)),
            open: wave / 12,
            failed: u64::from(at == 9),
            tcp_packets: wave,
            retransmitted: u64::from(at == 10),
            lost: u64::from(at == 20),
            cpu_ns: wave * 500_000,
            memory: Some((20 + at) << 20),
            connect: times(at, 30_000_000),
            round_trip: times(at, 12_000_000),
            dns: times(at, 4_000_000),
            ..Interval::default()
        }
    };
    let intervals: Vec<Interval> = (0..28).filter(|at| *at != 13).map(step).collect();
    let key = netwatch::flow::EndpointKey {
        remote: netwatch::flow::Remote::Address(v4(1)),
        protocol: Protocol::TCP,
        port: 443,
        direction: Direction::Egress,
        fragment: false,
    };
    let of_endpoint = EndpointSeries { key, before: PerDirection::default(), intervals: intervals[..5].to_vec() };
    Series { intervals, endpoints: vec![of_endpoint] }
}

/// What a service did: responses, some of them not measured, and its highest rates.
pub fn activity() -> ServiceActivity {
    let mut exchanges =
        ServiceExchanges { unmeasured: 3, statuses: [0, 118, 12, 4, 2], request_bytes: 700, ..Default::default() };
    (0..120_u64).for_each(|at| exchanges.times.add(50_000_000 + at * at * 3_000, 1));
    ServiceActivity { exchanges, peak: Some(PeakRates { connections: 40, wire_bytes: 3_100_000 }) }
}

/// The same with text that tries to run code in the program that displays it.
pub fn hostile() -> Report {
    with_text(HOSTILE.as_bytes())
}

/// The same, with these bytes for every text that is not netwatch's own.
pub fn with_text(bytes: &[u8]) -> Report {
    // As the kernel's words are read.
    let text = String::from_utf8_lossy(bytes).into_owned();
    let name = || Name::new(bytes).unwrap();
    let application = || Some(ApplicationProtocol { name: text.clone().into(), evidence: text.clone().into() });
    let mut report = build();
    let shown = |place: &mut Option<DisplayName>| {
        *place = Some(DisplayName { name: name(), source: NameSource::Http });
    };
    for known in &mut report.endpoints {
        shown(&mut known.display_name);
        known.application = application();
    }
    for known in &mut report.flows {
        let mut naming = known.naming.take().unwrap_or_default();
        shown(&mut naming.display_name);
        naming.application = application();
        known.naming = Some(naming);
    }
    for process in &mut report.processes.list {
        process.comm = text.clone();
        process.exe = Some(text.clone());
        process.cmdline = Some(vec![text.clone()]);
    }
    report.processes.local_sockets[0].path = text.clone();
    report.run.id = text.clone();
    report.run.command = vec![text.clone()];
    report.run.user = text.clone();
    report.run.kernel = text.clone();
    report.notes = vec![text.clone()];
    let attempt = |target| Attempt { target, cause: AttemptCause::Dns(text.clone()), ..report.attempts[0].clone() };
    let targets = [AttemptTarget::LocalSocket(text.clone()), AttemptTarget::Name(text.clone(), text.clone())];
    report.attempts = targets.map(attempt).into();
    for lookup in &mut report.naming.lookups {
        lookup.question.name = name();
        lookup.aliases = vec![name()];
    }
    report.naming.unused = vec![name()];
    report
}

/// A crawler: so many flows, to as many endpoints, over a minute.
pub fn crawl(flows: u32) -> Report {
    load(flows, flows)
}

/// A soak: so many flows, to a few endpoints, over a minute.
pub fn soak(flows: u32) -> Report {
    load(flows, 24)
}

fn load(flows: u32, endpoints: u32) -> Report {
    let mut table = netwatch::flow::FlowTable::default();
    for at in 0..flows {
        let [_, a, b, c] = (at % endpoints).to_be_bytes();
        let remote = [203, 64 + a, b, c].into();
        let size = u64::from(at.wrapping_mul(2_654_435_761) >> 12) + 1_000;
        let port = 1024 + (at % 60_000) as u16;
        let increment = match at % 50 {
            0 => failed(key(6, port, remote, 443), 3, false),
            _ => tcp(
                key(6, port, remote, 443),
                1_000_000 + u64::from(at % 997) * 90_000,
                (12, 1_900),
                (size / 1_400 + 1, size),
            ),
        };
        let first_seen_ns = START_NS + u64::from(at) * 60 * SECOND / u64::from(flows);
        let last_seen_ns = first_seen_ns + 20_000_000 + size * 100;
        table.apply(netwatch::flow::Increment { first_seen_ns, last_seen_ns, ..increment });
    }
    let mut facts = facts(&table, &["crawler", "--depth", "3"]);
    facts.run.duration_ns = 61 * SECOND;
    facts.processes = processes();
    let mut report = super::report(facts, &table);
    // Three addresses have one name.
    let name = |address: IpAddr| {
        let IpAddr::V4(address) = address else { panic!("an IPv4 address") };
        format!("host-{}.example", (address.to_bits() - u32::from_be_bytes([203, 64, 0, 0])) / 3)
    };
    for (at, known) in report.flows.iter_mut().enumerate() {
        known.naming = Some(Box::new(naming(&name(known.flow.key.remote.addr))));
        known.users =
            vec![FlowUser { process: ProcessId((at % 4) as u32), evidence: Evidence::Socket, is_maker: false }];
    }
    for (at, known) in report.endpoints.iter_mut().enumerate() {
        let netwatch::flow::Remote::Address(address) = known.endpoint.key.remote else { panic!("an address") };
        known.display_name = naming(&name(address)).display_name;
        known.processes = vec![ProcessId((at % 4) as u32)];
    }
    report.naming.unnamed = FlowShare::default();
    let intervals = series().intervals;
    let intervals = (0..600)
        .map(|at| Interval {
            start_ns: START_NS + at * SECOND / 10,
            length_ns: SECOND / 10,
            ..intervals[at as usize % 27].clone()
        })
        .collect();
    report.series = Series { intervals, ..Series::default() };
    report
}
