//! Made-up reports for snapshots: each is put together from increments, as a real one is.

#![allow(dead_code, reason = "each test uses a part")]

pub mod everything;
pub mod metered;
pub mod names;
pub mod outputs;
pub mod processes;
pub mod rich;
pub mod scene;

use std::net::{IpAddr, Ipv6Addr};

use netwatch::flow::{
    Amount, Counters, Direction, FlowKey, FlowTable, Housekeeping, Increment, InterfaceCounters, LinkCounters,
    ObservationLosses, ObservationPoint, Payload, PayloadGap, PayloadGrowth, PerDirection, RoundTripTimes, TcpFacts,
    Traffic, TransportAddress,
};
use netwatch::name::{Hosts, NameLimits, Names};
use netwatch::process::{FlowUsers, Processes};
use netwatch::report::{DnsForwarder, EndedBy, ExitStatus, Facts, Interface, Replay, Report, Run};

pub const START_NS: u64 = 1_767_225_600_000_000_000;
const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// Address `host` of the made-up internet.
pub fn v4(host: u8) -> IpAddr {
    [198, 51, 100, host].into()
}

/// The longest kind of address.
pub fn v6(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x85a3, 0x1234, 0x5678, 0x8a2e, 0x1370, host).into()
}

/// A flow between the target's `port` and a remote.
pub fn key(protocol: u8, port: u16, remote: IpAddr, remote_port: u16) -> FlowKey {
    let addr = if remote.is_ipv4() { [10, 87, 0, 2].into() } else { "2001:db8:87::2".parse().unwrap() };
    FlowKey {
        point: ObservationPoint::Link,
        protocol,
        fragment: false,
        local: TransportAddress { addr, port },
        remote: TransportAddress { addr: remote, port: remote_port },
    }
}

/// `packets` of `bytes` in all, one skb each.
pub fn counters(packets: u64, bytes: u64) -> Counters {
    Counters { skbs: packets, packets, bytes, wire_bytes: bytes }
}

/// Of TCP and UDP, what remains of the bytes without 40 for each packet.
fn payload(traffic: Traffic, sent: (u64, u64), received: (u64, u64)) -> PayloadGrowth {
    let has_payload = matches!(traffic, Traffic::Flow(key) if [6, 17].contains(&key.protocol));
    let of = |(packets, bytes): (u64, u64)| bytes.saturating_sub(40 * packets).cast_signed();
    let bytes = PerDirection { egress: of(sent), ingress: of(received) };
    match has_payload {
        true => PayloadGrowth { bytes, ..PayloadGrowth::default() },
        false => PayloadGrowth { gap: Some(PayloadGap::Protocol), ..PayloadGrowth::default() },
    }
}

/// Before schema 5, no payload was recorded.
pub fn forget_payload(report: &mut Report) {
    let unknown = Payload::unknown(PayloadGap::NotRecorded);
    let flows = report.flows.iter_mut().chain(&mut report.loopback.flows);
    flows.for_each(|known| known.flow.payload = unknown);
    report.endpoints.iter_mut().for_each(|known| known.endpoint.payload = unknown);
}

/// Growth of a flow the target opened.
pub fn growth(traffic: Traffic, sent: (u64, u64), received: (u64, u64)) -> Increment {
    Increment {
        traffic,
        point: ObservationPoint::Link,
        counters: PerDirection { egress: counters(sent.0, sent.1), ingress: counters(received.0, received.1) },
        payload: payload(traffic, sent, received),
        first_seen_ns: START_NS + 1_000_000,
        last_seen_ns: START_NS + 9_000_000,
        opened_by: Direction::Egress,
        connections: 0,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended: None,
        tcp: None,
    }
}

/// A TCP connection that worked.
pub fn tcp(key: FlowKey, rtt_ns: u64, sent: (u64, u64), received: (u64, u64)) -> Increment {
    let all = SYN | ACK | 0x09;
    let facts = TcpFacts {
        flags: PerDirection { egress: all, ingress: all },
        handshake_rtt_ns: Some(rtt_ns),
        syns: PerDirection { egress: 1, ingress: 0 },
        syn_acks: PerDirection { egress: 0, ingress: 1 },
        resets: PerDirection::default(),
        retransmitted_packets: PerDirection { egress: 1, ingress: 0 },
        retransmitted_bytes: PerDirection { egress: 1448, ingress: 0 },
        zero_windows: PerDirection { egress: 0, ingress: 2 },
        round_trips: RoundTripTimes { count: 2, sum_ns: 2 * rtt_ns + 1000, min_ns: Some(rtt_ns) },
    };
    Increment { connections: 1, tcp: Some(facts), ..growth(Traffic::Flow(key), sent, received) }
}

/// SYNs that were answered by a RST, or by nothing.
pub fn failed(key: FlowKey, syns: u64, refused: bool) -> Increment {
    let resets = PerDirection { egress: 0, ingress: u64::from(refused) };
    let flags = PerDirection { egress: SYN, ingress: if refused { ACK | 4 } else { 0 } };
    let facts = TcpFacts { flags, syns: PerDirection { egress: syns, ingress: 0 }, resets, ..TcpFacts::default() };
    let answered = u64::from(refused);
    let sent = (syns, syns * 74);
    Increment { connections: 1, tcp: Some(facts), ..growth(Traffic::Flow(key), sent, (answered, answered * 54)) }
}

/// The same seen on `lo`, between two ports of one localhost address.
pub fn on_loopback(increment: Increment) -> Increment {
    let Traffic::Flow(key) = increment.traffic else { return increment };
    let localhost: IpAddr = [127, 0, 0, 1].into();
    let local = TransportAddress { addr: localhost, ..key.local };
    let remote = TransportAddress { addr: localhost, ..key.remote };
    let key = FlowKey { point: ObservationPoint::Loopback, local, remote, ..key };
    Increment { traffic: Traffic::Flow(key), point: ObservationPoint::Loopback, ..increment }
}

/// ARP and neighbor discovery as on any link.
pub fn housekeeping() -> [Increment; 2] {
    [
        growth(Traffic::Housekeeping(Housekeeping::Arp), (1, 42), (1, 42)),
        growth(Traffic::Housekeeping(Housekeeping::NeighborDiscovery), (2, 172), (2, 172)),
    ]
}

/// A table of these increments.
pub fn table(increments: impl IntoIterator<Item = Increment>) -> FlowTable {
    let mut table = FlowTable::default();
    increments.into_iter().for_each(|increment| drop(table.apply(increment)));
    table
}

/// Interface counters that agree with the table, but for what was missed.
pub fn interface_counters(table: &FlowTable, missed: (u64, u64)) -> InterfaceCounters {
    let PerDirection { egress, ingress } = table.counted(ObservationPoint::Link);
    InterfaceCounters {
        rx: LinkCounters { packets: egress.skbs + missed.0, bytes: egress.bytes + missed.1, dropped: 0 },
        tx: LinkCounters { packets: ingress.skbs, bytes: ingress.bytes, dropped: 0 },
    }
}

/// Facts of a run that went well.
pub fn facts(table: &FlowTable, command: &[&str]) -> Facts {
    Facts {
        run: Run {
            id: "3f2a".to_owned(),
            command: command.iter().map(|&argument| argument.to_owned()).collect(),
            user: "alice".to_owned(),
            pid: Some(4242),
            started_ns: START_NS,
            duration_ns: 1_240_000_000,
            exit: Some(ExitStatus::Code(0)),
            ended_by: Some(EndedBy::Command),
            kernel: "6.18.5".to_owned(),
            netwatch: "0.1.0".to_owned(),
            usage: None,
        },
        interface: Interface {
            name: "nw3f2a".to_owned(),
            mtu: 1500,
            local: vec![[10, 87, 0, 2].into(), "2001:db8:87::2".parse().unwrap()],
            gateway: vec![[10, 87, 0, 1].into(), "2001:db8:87::1".parse().unwrap()],
            broadcast: None,
            host_loopback: vec!["tcp 127.0.0.1:8080".parse().expect("a service")],
            published: vec![],
        },
        dns: DnsForwarder { resolvers: vec!["127.0.0.53:53".parse().unwrap()] },
        interface_counters: Some(interface_counters(table, (0, 0))),
        complete: true,
        lost: ObservationLosses::default(),
        processes: Processes::default(),
        attempts: vec![],
        notes: vec![],
        replay: None,
    }
}

/// A capture of the same, a few frames of which are cut; `left_out` of them no kernel could count.
pub fn replayed(table: &FlowTable, left_out: Amount) -> Facts {
    let mut frames = table.counted(ObservationPoint::Link).both().into();
    frames += left_out;
    let replay = Replay {
        file: "trace.pcapng".to_owned(),
        format: "pcapng",
        link_types: vec!["ethernet".to_owned(), "raw_ip".to_owned()],
        by_kernel: left_out.skbs > 0,
        local: vec![],
        started_ns: START_NS,
        duration_ns: 93_000_000_000,
        frames,
        cut_frames: 3,
        left_out,
        missing: 0,
        ended_early: None,
    };
    Facts {
        run: Run::default(),
        interface: Interface::default(),
        dns: DnsForwarder::default(),
        interface_counters: None,
        replay: Some(replay),
        ..facts(table, &[])
    }
}

/// A look-up, two downloads and a failed attempt: the picture of the README.
pub fn download() -> FlowTable {
    table(download_increments())
}

/// What [`download`] is made of.
pub fn download_increments() -> Vec<Increment> {
    let gso = Counters { skbs: 96, packets: 869, bytes: 1_226_118, wire_bytes: 1_277_136 };
    let mut big = tcp(key(6, 40_000, v4(10), 443), 12_345_678, (212, 16_874), (0, 0));
    big.counters.ingress = gso;
    let mut increments = vec![
        big,
        tcp(key(6, 40_001, v4(10), 443), 11_100_000, (14, 2_310), (12, 8_120)),
        tcp(key(6, 40_002, v6(0x7334), 443), 842_000, (9, 1_204), (8, 5_150)),
        failed(key(6, 40_003, v4(99), 8443), 4, false),
    ];
    let gateway = [10, 87, 0, 1].into();
    increments
        .extend([50_001, 50_002].map(|port| growth(Traffic::Flow(key(17, port, gateway, 53)), (1, 83), (1, 131))));
    increments.extend(housekeeping());
    increments
}

/// A report without names and processes.
pub fn report(facts: Facts, table: &FlowTable) -> Report {
    Report::new(facts, table, &Names::new(NameLimits::default(), Hosts::default()), &FlowUsers::default())
}

/// The report of [`download`].
pub fn download_report() -> Report {
    let table = download();
    named(facts(&table, &["curl", "-sS", "https://app.example/", "https://v6.example/"]), &table)
}

/// A report with the names and processes of [`download`].
pub fn named(facts: Facts, table: &FlowTable) -> Report {
    let facts = Facts { processes: processes::processes(), ..facts };
    Report::new(facts, table, &names::download_names(), &processes::users(table))
}
