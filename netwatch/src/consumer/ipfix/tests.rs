//! Tests of the exporter with files and with collectors on the loopback.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid};

use super::*;
use crate::flow::{Flow, FlowKey, Increment, ObservationPoint, Payload, PayloadGrowth, Traffic};
use crate::process::Usages;
use crate::report::{Interface, Run};
use crate::session::{CaptureScope, GrowthTiming, Session, SessionConfig, Started};

const SELF: fn() -> (Uid, Gid) = || (Uid::effective(), Gid::effective());
/// Bounds every wait. Long enough for a machine with all processors busy.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

fn open(target: &str) -> Ipfix {
    let target = IpfixTarget::parse(target).expect("a target");
    Ipfix::new(IpfixDestination::open(&target, SELF()).expect("opened"), 0x1234_5678)
}

/// The end of the flow with this number: 2 packets to the remote, and 3 from it.
fn ended(serial: u64) -> Event {
    let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
    let counters = |packets: u64| Counters { skbs: packets, packets, bytes: packets * 100, wire_bytes: packets * 100 };
    let flow = Flow {
        key: FlowKey {
            point: ObservationPoint::Link,
            protocol: 6,
            fragment: false,
            local: end([198, 51, 100, 2], (serial % 60_000) as u16),
            remote: end([203, 0, 113, 10], 443),
        },
        epoch: 0,
        serial,
        counters: PerDirection { egress: counters(2), ingress: counters(3) },
        payload: Payload::default(),
        first_seen_ns: 1_700_000_000_000_000_000,
        last_seen_ns: 1_700_000_001_000_000_000,
        opened_by: Direction::Egress,
        connections: 1,
        tcp: None,
        icmp_error: None,
        ended: Some(EndReason::EndOfFlow),
    };
    let record = FlowRecord { flow, naming: None, usages: Usages::new() };
    Event::FlowEnded(Arc::new(record), EndReason::EndOfFlow)
}

/// A message: its sequence number, and the id and contents of each set.
type Decoded = (u32, Vec<(u16, Vec<u8>)>);

fn decode(mut bytes: &[u8]) -> Vec<Decoded> {
    let word = |bytes: &[u8], at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (message, rest) = bytes.split_at(word(bytes, 2));
        assert_eq!((word(message, 0), &message[12..16]), (10, &[0x12, 0x34, 0x56, 0x78][..]));
        let sequence = u32::from_be_bytes(message[8..12].try_into().expect("four bytes"));
        let (mut sets, mut left) = (Vec::new(), &message[16..]);
        while !left.is_empty() {
            let (set, after) = left.split_at(word(left, 2));
            sets.push((word(set, 0) as u16, set[4..].to_vec()));
            left = after;
        }
        messages.push((sequence, sets));
        bytes = rest;
    }
    messages
}

/// Bytes of a record of [`ended`].
fn record_bytes() -> usize {
    let Event::FlowEnded(record, reason) = ended(1) else { unreachable!("an end") };
    let finished = FinishedFlow {
        counters: record.flow.counters,
        retransmitted: PerDirection::default(),
        failure: None,
        process: None,
    };
    encode_flow(&biflow(&record, reason, &finished, FirstHeader::Ethernet)).bytes.len()
}

fn flows(messages: &[Decoded]) -> u64 {
    let sets = messages.iter().flat_map(|(_, sets)| sets).filter(|(set, _)| *set == 256);
    sets.map(|(_, bytes)| (bytes.len() / record_bytes()) as u64).sum()
}

/// What the source of each flow sent: packetDeltaCount, which follows 39 bytes, octetDeltaCount and
/// layer2OctetDeltaCount.
fn sent(messages: &[Decoded]) -> Vec<[u64; 3]> {
    let sets = messages.iter().flat_map(|(_, sets)| sets).filter(|(set, _)| *set == 256);
    let records = sets.flat_map(|(_, bytes)| bytes.chunks(record_bytes()));
    let number = |record: &[u8], at: usize| u64::from_be_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    records.map(|record| [39, 47, 55].map(|at| number(record, at))).collect()
}

/// Packets that the source of each flow sent.
fn packets(messages: &[Decoded]) -> Vec<u64> {
    sent(messages).into_iter().map(|[packets, ..]| packets).collect()
}

/// Templates come first, and each message counts the records before it.
fn assert_sequence(messages: &[Decoded]) {
    let sets = &messages[0].1;
    assert_eq!(sets.iter().map(|(set, _)| *set).collect::<Vec<_>>(), [2, 3, 260], "templates and the sampling");
    let mut expected = 0;
    for (sequence, sets) in messages {
        assert_eq!(*sequence, expected);
        expected += sets
            .iter()
            .map(|(set, bytes)| match set {
                256 => bytes.len() / record_bytes(),
                258.. => 1,
                _ => 0,
            })
            .sum::<usize>() as u32;
    }
}

#[test]
fn a_file_has_every_flow_once_and_late_packets_as_a_delta() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = format!("file:{}", dir.path().join("flows.ipfix").display());
    let mut ipfix = open(&target);
    ipfix.consume((1..=1000).map(ended).collect()).expect("written");
    // The same record again has nothing new; more packets are a record of their own.
    let Event::FlowEnded(record, _) = ended(7) else { unreachable!("an end") };
    let mut later = Arc::unwrap_or_clone(record);
    later.flow.counters.egress.packets += 1;
    let later = Event::FlowEnded(Arc::new(later), EndReason::EndOfFlow);
    ipfix.consume(vec![ended(7), later]).expect("written");
    ipfix.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
    let bytes = std::fs::read(dir.path().join("flows.ipfix")).expect("the file");
    let messages = decode(&bytes);
    assert_sequence(&messages);
    assert_eq!(flows(&messages), 1001);
    let again = IpfixDestination::open(&IpfixTarget::parse(&target).expect("a target"), SELF());
    assert!(again.expect_err("it exists").to_string().contains("EEXIST"));
}

/// Packets at the sockets of cgroups have no Ethernet header.
#[test]
fn octets_are_those_of_ip_packets() {
    let of_cgroups = Interface::of_cgroups("/system.slice");
    for (interface, expected) in [(Interface::default(), [2, 172, 200]), (of_cgroups, [2, 200, 0])] {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("flows.ipfix");
        let mut ipfix = open(&format!("file:{}", file.display()));
        let started = Event::Started(Arc::new(Started { run: Run::default(), interface }));
        ipfix.consume(vec![started, ended(1)]).expect("written");
        ipfix.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
        let messages = decode(&std::fs::read(file).expect("the file"));
        assert_eq!(sent(&messages), [expected]);
    }
}

/// Each interval of a session: late packets of a closed connection are exported with their own
/// record, and one that idled is not counted again.
#[test]
fn every_packet_of_a_session_is_exported_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ipfix = open(&format!("file:{}", dir.path().join("flows.ipfix").display()));
    let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
    let outlet = session.attach(ipfix.wants());
    let closed = Some(EndReason::EndOfFlow);
    let idle = Some(EndReason::IdleTimeout);
    let increments = [
        (1, 1, 1, closed),
        (1, 5, 0, None),
        (1, 6, 0, idle),
        (2, 1, 1, idle),
        (2, 5, 0, None),
        (2, 6, 0, None),
        (2, 7, 0, idle),
    ];
    for (port, at_ns, connections, ended) in increments {
        session.apply(increment(port, at_ns, connections, ended));
        ipfix.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
    }
    session.conclude(9, None, None);
    ipfix.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
    ipfix.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
    let messages = decode(&std::fs::read(dir.path().join("flows.ipfix")).expect("the file"));
    assert_eq!(packets(&messages), [1, 1, 1, 1, 3], "the closed connection, then the idle one");
}

/// A packet of a connection.
fn increment(port: u16, at_ns: u64, connections: u32, end: Option<EndReason>) -> Increment {
    let Event::FlowEnded(record, _) = ended(port.into()) else { unreachable!("an end") };
    let egress = Counters { skbs: 1, packets: 1, bytes: 60, wire_bytes: 60 };
    Increment {
        traffic: Traffic::Flow(record.flow.key),
        point: ObservationPoint::Link,
        counters: PerDirection { egress, ingress: Counters::default() },
        payload: PayloadGrowth::default(),
        first_seen_ns: at_ns,
        last_seen_ns: at_ns,
        opened_by: Direction::Egress,
        connections,
        initial_sequence: (connections > 0).then_some(7),
        epoch: 0,
        superseded: false,
        is_last: false,
        ended: end,
        tcp: None,
    }
}

#[test]
fn datagrams_fit_the_smallest_mtu_and_repeat_no_sequence_number() {
    let collector = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    collector.set_read_timeout(Some(WAIT_TIMEOUT)).expect("a timeout");
    let mut ipfix = open(&format!("udp:{}", collector.local_addr().expect("an address")));
    ipfix.consume((1..=100).map(ended).collect()).expect("sent");
    ipfix.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
    let (mut messages, mut datagram) = (Vec::new(), [0; 2000]);
    while flows(&messages) < 100 {
        let length = collector.recv(&mut datagram).expect("a datagram");
        assert!(length <= 1232, "{length}");
        messages.extend(decode(&datagram[..length]));
    }
    assert_sequence(&messages);
}

#[test]
fn a_closed_port_is_counted_and_is_no_error_before_the_end() {
    let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("an address");
    let mut ipfix = open(&format!("udp:{address}"));
    // The answer of the kernel to one datagram is the error of the next one.
    for number in 1..=50 {
        ipfix.consume(vec![ended(number)]).expect("not an error");
    }
    let error = ipfix.finish(&StreamEnd::Abandoned).expect_err("flows were dropped").to_string();
    assert!(error.contains(&format!("50 flow records for udp:{address} were dropped")), "{error}");
    assert!(error.contains("refused by the collector's host"), "{error}");
}

/// Nothing is sent after the last datagram, which is the only one here.
#[test]
fn the_refusal_of_the_last_datagram_is_seen() {
    let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("an address");
    let mut ipfix = open(&format!("udp:{address}"));
    ipfix.consume((1..=5).map(ended).collect()).expect("not an error");
    let error = ipfix.finish(&StreamEnd::Abandoned).expect_err("flows were dropped").to_string();
    assert!(error.contains(&format!("5 flow records for udp:{address} were dropped")), "{error}");
}

/// More than the queue and the buffers of both sockets hold.
#[test]
fn a_collector_that_never_reads_costs_records_and_no_time() {
    const FLOWS: u64 = 150_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut ipfix = open(&format!("tcp:{}", listener.local_addr().expect("an address")));
    let mut stuck = None;
    for batch in 0..FLOWS / 1000 {
        ipfix.consume((batch * 1000..(batch + 1) * 1000).map(ended).collect()).expect("not an error");
        stuck.get_or_insert_with(|| listener.accept().expect("connected"));
    }
    let began = Instant::now();
    let error = ipfix.finish(&StreamEnd::Abandoned).expect_err("flows were dropped").to_string();
    assert!(began.elapsed() < Duration::from_secs(30), "the end waits for progress only: {:?}", began.elapsed());
    assert!(error.contains("because the collector read too slowly"), "{error}");
    let dropped = error.split(' ').find_map(|word| word.parse::<u64>().ok()).expect("a number");
    assert!(dropped > 0 && dropped < FLOWS, "{error}");
    // Everything else was sent, and arrives when the collector reads. A message that was sent in
    // part ends the stream.
    let (mut stream, _) = stuck.expect("a connection");
    drop(ipfix);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read");
    let whole = whole_messages(&bytes);
    let messages = decode(&bytes[..whole]);
    assert_sequence(&messages);
    assert_eq!(flows(&messages) + dropped, FLOWS, "{error}");
}

/// Bytes of the messages that are complete.
fn whole_messages(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 4) {
        let end = at + usize::from(u16::from_be_bytes([header[2], header[3]]));
        if end > bytes.len() {
            return at;
        }
        at = end;
    }
    at
}

#[test]
fn a_collector_that_comes_back_receives_templates_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut ipfix = open(&format!("tcp:{}", listener.local_addr().expect("an address")));
    ipfix.consume(vec![ended(1)]).expect("sent");
    let (mut first, _) = listener.accept().expect("connected");
    // Everything of the first session: the collector reads it while the exporter sends it.
    first.set_nonblocking(true).expect("set");
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while flows(&decode(&bytes[..whole_messages(&bytes)])) < 1 {
        ipfix.consume(Vec::new()).expect("sent");
        if let Ok(length) = first.read(&mut part) {
            bytes.extend(&part[..length]);
        }
    }
    assert_sequence(&decode(&bytes));
    drop(first);
    listener.set_nonblocking(true).expect("set");
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let mut number = 1;
    let mut second = loop {
        assert!(Instant::now() < deadline, "no second connection");
        number += 1;
        ipfix.consume(vec![ended(number)]).expect("not an error");
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    second.set_nonblocking(false).expect("set");
    number += 1;
    ipfix.consume(vec![ended(number)]).expect("sent");
    let _ = ipfix.finish(&StreamEnd::Abandoned);
    drop(ipfix);
    let mut bytes = Vec::new();
    second.read_to_end(&mut bytes).expect("read");
    let messages = decode(&bytes);
    assert_sequence(&messages);
    assert!(flows(&messages) >= 1);
}

#[test]
fn targets_have_a_default_transport_and_port() {
    let parse = |text| IpfixTarget::parse(text).map(|target| target.to_string());
    for (text, expected) in [
        ("collector.example", "udp:collector.example:4739"),
        ("198.51.100.9:2055", "udp:198.51.100.9:2055"),
        ("tcp:198.51.100.9", "tcp:198.51.100.9:4739"),
        ("tcp:[2001:db8::1]:9", "tcp:[2001:db8::1]:9"),
        ("udp:2001:db8::1", "udp:[2001:db8::1]:4739"),
        ("[2001:db8::1]", "udp:[2001:db8::1]:4739"),
        ("file:a:b", "file:a:b"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
    for wrong in ["", "file:", "tcp:", "host:0", "host:x", "sctp:host:1", "a/b"] {
        assert!(parse(wrong).is_err(), "{wrong}: {:?}", parse(wrong));
    }
}
