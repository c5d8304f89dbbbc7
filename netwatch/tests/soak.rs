//! An accelerated soak: connections of hours of simulated time go through a session in minutes. Its
//! memory does not grow, nothing is lost, and the balance closes. A file of its own, because it
//! measures the memory of the process.

use std::fs;
use std::net::Ipv4Addr;

use netwatch::flow::{
    Counters, Direction, EndReason, FlowKey, Increment, InterfaceCounters, LinkCounters, ObservationPoint,
    PayloadGrowth, PerDirection, Protocol, TcpFacts, Traffic, TransportAddress,
};
use netwatch::name::{NameSample, Segment};
use netwatch::report::{EndedBy, ExitStatus, Report};
use netwatch::session::{CaptureScope, EventKinds, GrowthTiming, Observed, OutletId, Session, SessionConfig};

const STARTED_NS: u64 = 1_700_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Connections that begin in a second of simulated time. Each ends in the next second.
const PER_SECOND: u64 = 1_000;
/// Local ports, which are used again and again.
const PORTS: u64 = 28_000;
const REMOTES: u64 = 200;
/// One connection in so many carries a name.
const NAMED: u64 = 16;

/// A session and everything that it was told.
struct Soak {
    session: Session<CaptureScope>,
    outlet: OutletId,
    ended: u64,
    interface: InterfaceCounters,
    second: u64,
}

impl Soak {
    fn start(max_flows: usize) -> Self {
        let config = SessionConfig { max_flows, ..SessionConfig::default() };
        let mut session = Session::new(CaptureScope::default(), config);
        let outlet = session.attach(EventKinds::FLOW_ENDED.with(EventKinds::INTERVAL).with(EventKinds::STATUS));
        session.start(STARTED_NS);
        Self { session, outlet, ended: 0, interface: InterfaceCounters::default(), second: 0 }
    }

    /// The next second: connections begin, and those of the second before end.
    fn second(&mut self) {
        let numbers = |second: u64| second * PER_SECOND..(second + 1) * PER_SECOND;
        for number in numbers(self.second) {
            self.apply(increment(number, self.second, None));
            if number.is_multiple_of(NAMED) {
                self.name(number);
            }
        }
        if let Some(before) = self.second.checked_sub(1) {
            numbers(before).for_each(|number| self.apply(increment(number, self.second, Some(EndReason::EndOfFlow))));
        }
        self.second += 1;
        self.session.end_interval(self.second * SECOND_NS);
        loop {
            let events = self.session.deliver(self.outlet, 10_000, GrowthTiming::Now);
            self.ended += events.iter().filter(|event| event.kind() == EventKinds::FLOW_ENDED).count() as u64;
            if events.is_empty() {
                return;
            }
        }
    }

    fn apply(&mut self, increment: Increment) {
        // The host's end receives what the target sends.
        add(&mut self.interface.rx, increment.counters.egress);
        add(&mut self.interface.tx, increment.counters.ingress);
        self.session.apply(increment);
    }

    fn name(&mut self, number: u64) {
        let payload = format!("GET / HTTP/1.1\r\nHost: host-{}.example\r\n\r\n", number % REMOTES);
        self.session.observe(Observed::Name(NameSample {
            time_ns: STARTED_NS + self.second * SECOND_NS,
            flow: key(number),
            direction: Direction::Egress,
            opened_by: Direction::Egress,
            payload: payload.as_bytes(),
            payload_len: payload.len() as u32,
            tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK, acknowledgment: None }),
        }));
    }

    fn finish(mut self) -> Report {
        let ending = Some((ExitStatus::Code(0), EndedBy::Command));
        self.session.conclude(self.second * SECOND_NS, ending, Some(self.interface))
    }
}

fn add(link: &mut LinkCounters, counters: Counters) {
    link.packets += counters.skbs;
    link.bytes += counters.bytes;
}

fn key(number: u64) -> FlowKey {
    let remote = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 1)) + (number % REMOTES) as u32);
    FlowKey {
        point: ObservationPoint::Link,
        protocol: Protocol::TCP.0,
        fragment: false,
        local: TransportAddress { addr: [203, 0, 113, 2].into(), port: 32_768 + (number % PORTS) as u16 },
        remote: TransportAddress { addr: remote.into(), port: 80 },
    }
}

/// The beginning of a connection, or its end.
fn increment(number: u64, second: u64, ended: Option<EndReason>) -> Increment {
    let counters = |skbs, bytes| Counters { skbs, packets: skbs, bytes, wire_bytes: bytes };
    let at_ns = STARTED_NS + second * SECOND_NS + number % PER_SECOND;
    let flags = if ended.is_some() { 0x1b } else { 0x1a };
    let tcp = TcpFacts {
        flags: PerDirection { egress: flags, ingress: flags },
        handshake_rtt_ns: Some(1_000_000 + number % 1_000),
        syns: PerDirection { egress: u64::from(ended.is_none()), ingress: 0 },
        syn_acks: PerDirection { egress: 0, ingress: u64::from(ended.is_none()) },
        ..TcpFacts::default()
    };
    Increment {
        traffic: Traffic::Flow(key(number)),
        point: ObservationPoint::Link,
        counters: PerDirection { egress: counters(4, 400), ingress: counters(3, 3_000) },
        payload: PayloadGrowth::default(),
        first_seen_ns: at_ns - if ended.is_some() { SECOND_NS } else { 0 },
        last_seen_ns: at_ns,
        opened_by: Direction::Egress,
        connections: u32::from(ended.is_none()),
        initial_sequence: Some(number as u32),
        epoch: 0,
        superseded: false,
        is_last: false,
        ended,
        tcp: Some(tcp),
    }
}

/// Resident memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a value");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Sends this many connections through a session. From a tenth of the way on, memory stays within
/// 5 %, beside the series, which grows to its bound for hours and may have `series_kib` more. Every
/// connection is counted, and the balance closes.
fn soak(connections: u64, max_flows: usize, series_kib: u64) {
    let seconds = connections / PER_SECOND;
    let mut soak = Soak::start(max_flows);
    let mut resident = Vec::new();
    for second in 1..=seconds {
        soak.second();
        if second.is_multiple_of(seconds / 10) {
            resident.push(resident_kib());
        }
    }
    println!("{connections} connections in {seconds} simulated seconds; resident memory in KiB: {resident:?}");
    // The last ones end.
    let before = soak.second - 1;
    (before * PER_SECOND..connections)
        .for_each(|number| soak.apply(increment(number, soak.second, Some(EndReason::EndOfFlow))));
    let ended = soak.ended;
    let report = soak.finish();
    let (first, most) = (resident[0], resident.iter().copied().max().expect("ten values"));
    assert!(most <= first + first / 20 + series_kib, "the memory grows from {first} KiB to {most} KiB: {resident:?}");
    let counted: u64 = report.endpoints.iter().map(|known| known.endpoint.connections).sum();
    assert_eq!(counted, connections);
    assert_eq!(ended, connections - PER_SECOND, "those of the last second were not delivered");
    assert!(report.balance.closed(), "{:?}", report.balance);
    let flows = report.flows.len() as u64 + report.folded.flows;
    assert!(flows == connections || report.folded.at_least, "{flows}");
    assert!(report.flows.len() <= max_flows, "{}", report.flows.len());
}

/// The table of the session is full after a small part of it.
#[test]
fn memory_does_not_grow_with_the_number_of_connections() {
    soak(200_000, 2_048, 1_024);
}

/// With the flow table of a run.
#[test]
#[ignore = "takes minutes: `cargo xtask soak` runs it"]
fn memory_does_not_grow_over_ten_million_connections() {
    soak(10_000_000, (1 << 18) / 8 * 7, 0);
}
