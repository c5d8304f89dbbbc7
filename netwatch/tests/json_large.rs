//! A report of 200,000 flows as JSON: bytes per flow, and memory while it is written. In a binary
//! of its own, because the peak of a process covers all of its tests.

mod sample;

use std::io::{self, Write};
use std::net::IpAddr;

use netwatch::flow::{FlowTable, Increment, ObservationPoint, PerDirection, RoundTripTimes, TcpFacts, Traffic};
use netwatch::format::json;
use netwatch::process::{Evidence, FlowUser, ProcessId};
use netwatch::report::{Report, ReportFlow};
use sample::{START_NS, facts, failed, growth, key, tcp, v4, v6};

const FLOWS: usize = 200_000;
/// The document of all flows has to stay below this.
const MAX_BYTES: usize = 90_000_000;
/// Memory of the process while it holds and writes the report, MiB.
const MAX_RESIDENT_MIB: u64 = 250;

/// A DNS query and its response.
fn lookup(port: u16) -> Increment {
    growth(Traffic::Flow(key(17, port, [10, 87, 0, 1].into(), 53)), (1, 83), (1, 131))
}

/// A short TCP connection: a request, a response, and FIN from both sides.
fn connection(port: u16) -> Increment {
    connection_to(v4(10), port)
}

/// The same with addresses as long as possible.
fn ipv6_connection(port: u16) -> Increment {
    connection_to(v6(10), port)
}

fn connection_to(remote: IpAddr, port: u16) -> Increment {
    let whole = tcp(key(6, port, remote, 443), 212_345, (6, 498), (4, 1_624));
    let facts = TcpFacts {
        retransmitted_packets: PerDirection::default(),
        retransmitted_bytes: PerDirection::default(),
        zero_windows: PerDirection::default(),
        round_trips: RoundTripTimes { count: 1, sum_ns: 198_765, min_ns: Some(198_765) },
        ..whole.tcp.expect("TCP")
    };
    Increment { tcp: Some(facts), ..whole }
}

/// A connection that was refused.
fn refusal(port: u16) -> Increment {
    failed(key(6, port, v4(99), 8443), 1, true)
}

/// Copies of the given flows in turn, each used by one process.
fn report(kinds: &[Increment], count: usize) -> Report {
    let mut table = FlowTable::default();
    kinds.iter().for_each(|increment| drop(table.apply(*increment)));
    let mut report = sample::named(facts(&table, &["crawler"]), &table);
    let flows: Vec<_> = table.flows(ObservationPoint::Link).collect();
    let copy = |at: usize| {
        let mut flow = flows[at % flows.len()].clone();
        flow.first_seen_ns = START_NS + at as u64 * 34_567;
        flow.last_seen_ns = flow.first_seen_ns + 1_234_567_890;
        flow.key.local.port = 32_768 + (at % 28_000) as u16;
        let user = FlowUser { process: ProcessId(0), evidence: Evidence::Socket, is_maker: true };
        ReportFlow { flow, naming: None, users: vec![user] }
    };
    report.flows = (0..count).map(copy).collect();
    report
}

/// Counts bytes.
struct Sink(usize);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn size(report: &Report) -> usize {
    let mut sink = Sink(0);
    json::write(report, &mut sink).expect("a sink accepts every write");
    sink.0
}

/// A line of /proc/self/status, MiB.
fn status_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

/// Bytes per flow of each kind, with some room for longer numbers.
#[test]
fn a_flow_stays_within_its_budget() {
    for (name, kind, max_bytes) in [
        ("lookup", lookup(1), 350),
        ("refusal", refusal(2), 415),
        ("connection", connection(3), 420),
        ("IPv6 connection", ipv6_connection(4), 450),
    ] {
        let bytes = size(&report(&[kind], 10_000)) / 10_000;
        assert!(bytes <= max_bytes, "{name}: {bytes} bytes");
    }
}

/// The largest: every flow is a whole TCP connection.
#[test]
fn a_report_of_200_000_connections_stays_within_its_budget() {
    for connection in [connection(1), ipv6_connection(2)] {
        let report = report(&[connection], FLOWS);
        let bytes = size(&report);
        assert!(bytes < MAX_BYTES, "{bytes} bytes");
    }
    let resident = status_mib("VmHWM");
    assert!(resident < MAX_RESIDENT_MIB, "{resident} MiB");
}
