//! Tests with receivers on the loopback, which decode what they get by the official messages.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::*;
use crate::flow::{Direction, Flow, FlowKey, ObservationPoint, TcpFacts, TransportAddress};
use crate::process::Usages;

/// Bounds every wait. Long enough for a machine with all processors busy.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of the flow with this number: 2 packets to the remote, and 3 from it.
pub(super) fn ended(serial: u64) -> Event {
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
        payload: crate::flow::Payload::default(),
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

/// A receiver that answers each request with the next of these responses, and the last one from
/// then on.
fn receiver(responses: Vec<Vec<u8>>) -> (Otlp, Receiver<Vec<u8>>) {
    slow_receiver(responses, Duration::ZERO)
}

/// The same, with this time before each answer.
fn slow_receiver(responses: Vec<Vec<u8>>, delay: Duration) -> (Otlp, Receiver<Vec<u8>>) {
    serve(TcpListener::bind("127.0.0.1:0").expect("bound"), responses, delay)
}

/// The same at this address.
fn receiver_at(address: SocketAddr, responses: Vec<Vec<u8>>) -> (Otlp, Receiver<Vec<u8>>) {
    serve(TcpListener::bind(address).expect("bound"), responses, Duration::ZERO)
}

fn serve(listener: TcpListener, responses: Vec<Vec<u8>>, delay: Duration) -> (Otlp, Receiver<Vec<u8>>) {
    let address = listener.local_addr().expect("an address");
    let (bodies, received) = channel();
    thread::spawn(move || {
        let mut responses = responses.into_iter().peekable();
        let mut last = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            while let Some(body) = request(&mut stream) {
                last = responses.next().unwrap_or(last);
                // Fails when the test has ended.
                let _ = bodies.send(body);
                thread::sleep(delay);
                // Fails if that took too long.
                let _ = stream.write_all(&last);
            }
        }
    });
    (to(address), received)
}

fn to(address: SocketAddr) -> Otlp {
    let target = OtlpTarget::parse(&format!("http://{address}")).expect("a URL");
    let owner = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
    Otlp::new(OtlpReceiver::find(&target, &OtlpOptions::default(), owner).expect("found"))
}

/// The body of the next request on a connection; `None` at its end.
fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

pub(super) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn records(body: &[u8]) -> Vec<LogRecord> {
    let request = ExportLogsServiceRequest::decode(body).expect("a request");
    let resource_logs = request.resource_logs.into_iter();
    resource_logs.flat_map(|logs| logs.scope_logs).flat_map(|logs| logs.log_records).collect()
}

fn value<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Value> {
    let attribute = record.attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.as_ref()?.value.as_ref()
}

/// The ids in the next requests, until there are so many.
fn ids(received: &Receiver<Vec<u8>>, number: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    while ids.len() < number {
        for record in records(&received.recv_timeout(WAIT_TIMEOUT).expect("a request")) {
            let Some(Value::IntValue(id)) = value(&record, "netwatch.flow.id") else { panic!("a number: {record:?}") };
            ids.push(*id);
        }
    }
    ids
}

#[test]
fn a_record_has_ends_counts_and_times() {
    let (mut otlp, received) = receiver(vec![response("200 OK", "", b"")]);
    otlp.consume(vec![ended(7)]).expect("posted");
    let record = &records(&received.recv_timeout(WAIT_TIMEOUT).expect("a request"))[0];
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    assert_eq!(value(record, "network.transport").cloned(), text("tcp"));
    assert_eq!(value(record, "client.address").cloned(), text("198.51.100.2"));
    assert_eq!(value(record, "server.address").cloned(), text("203.0.113.10"));
    assert_eq!(value(record, "server.port"), Some(&Value::IntValue(443)));
    assert_eq!(value(record, "netwatch.ingress.packets"), Some(&Value::IntValue(3)));
    assert_eq!(value(record, "netwatch.egress.wire_bytes"), Some(&Value::IntValue(200)));
    assert_eq!((record.event_name.as_str(), record.time_unix_nano), ("netwatch.connection", 1_700_000_001_000_000_000));
    otlp.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
}

#[test]
fn a_receiver_that_requests_a_pause_gets_everything_once_and_in_order() {
    let busy = response("503 Service Unavailable", "retry-after: 0\r\n", b"");
    let (mut otlp, received) = receiver(vec![busy, response("200 OK", "", b"")]);
    otlp.consume((1..=2500).map(ended).collect()).expect("posted");
    otlp.consume(vec![ended(2501)]).expect("posted");
    otlp.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
    let refused = ids(&received, 1000);
    assert_eq!(refused, (1..=1000).collect::<Vec<_>>());
    assert_eq!(ids(&received, 2501), (1..=2501).collect::<Vec<_>>());
}

#[test]
fn refused_and_rejected_records_are_counted() {
    let partial_success =
        Some(ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "too many attributes".to_owned() });
    let partial = ExportLogsServiceResponse { partial_success }.encode_to_vec();
    let (mut otlp, _received) = receiver(vec![response("200 OK", "", &partial), response("400 Bad Request", "", b"")]);
    otlp.consume((1..=5).map(ended).collect()).expect("posted");
    otlp.consume((6..=7).map(ended).collect()).expect("posted");
    let error = otlp.finish(&StreamEnd::Abandoned).expect_err("dropped").to_string();
    assert!(
        error.contains("4 connections for http://127.0.0.1:") && error.contains("4 refused by the receiver"),
        "{error}"
    );
}

/// A connection that ended and then had late packets: each retransmission counts once.
#[test]
fn late_packets_repeat_neither_retransmissions_nor_the_failure() {
    let (mut otlp, received) = receiver(vec![response("200 OK", "", b"")]);
    let end = |packets: u64, retransmitted| {
        let Event::FlowEnded(record, reason) = ended(7) else { unreachable!("an end") };
        let mut record = Arc::unwrap_or_clone(record);
        record.flow.counters.egress.packets = packets;
        let egress = |count| PerDirection { egress: count, ingress: 0 };
        let resets = PerDirection { egress: 0, ingress: 1 };
        let tcp =
            TcpFacts { syns: egress(1), resets, retransmitted_packets: egress(retransmitted), ..TcpFacts::default() };
        record.flow.tcp = Some(tcp);
        Event::FlowEnded(Arc::new(record), reason)
    };
    otlp.consume(vec![end(4, 3), end(6, 5)]).expect("posted");
    otlp.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
    let records = records(&received.recv_timeout(WAIT_TIMEOUT).expect("a request"));
    let of = |key| records.iter().map(|record| value(record, key).cloned()).collect::<Vec<_>>();
    let numbers = |numbers: [i64; 2]| numbers.map(|number| Some(Value::IntValue(number)));
    assert_eq!(of("netwatch.egress.packets"), numbers([4, 2]));
    assert_eq!(of("netwatch.egress.retransmitted_packets"), numbers([3, 2]));
    assert_eq!(of("error.type"), [Some(Value::StringValue("refused".to_owned())), None]);
}

/// A receiver that needs most of a second for each request gets a few of them at the end, not all.
#[test]
fn a_slow_receiver_gets_a_bounded_number_of_requests_at_the_end() {
    let (mut otlp, received) = slow_receiver(vec![response("200 OK", "", b"")], Duration::from_millis(700));
    otlp.consume((1..=10_000).map(ended).collect()).expect("posted");
    let error = otlp.finish(&StreamEnd::Abandoned).expect_err("dropped").to_string();
    assert!(error.contains(NOT_REACHED), "{error}");
    // One for the events, and those that begin within two seconds.
    let requests = received.try_iter().count();
    assert!((1..=1 + 3).contains(&requests), "{requests} requests: {error}");
}

/// A receiver that never accepts a connection, and a port without a listener.
#[test]
fn a_stuck_or_dead_receiver_costs_a_bounded_time_and_memory() {
    let stuck = TcpListener::bind("127.0.0.1:0").expect("bound");
    let dead = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (stuck_at, dead_at) = (stuck.local_addr().expect("an address"), dead.local_addr().expect("an address"));
    drop(dead);
    for address in [stuck_at, dead_at] {
        let mut otlp = to(address);
        let more = 10;
        let events = (1..=(MAX_WAITING + more) as u64).map(ended).collect();
        otlp.consume(events).expect("never fails");
        assert_eq!(otlp.waiting.len(), MAX_WAITING);
        let error = otlp.finish(&StreamEnd::Abandoned).expect_err("dropped").to_string();
        let reasons = format!("{more} {QUEUE_FULL}, {MAX_WAITING} {NOT_REACHED}");
        assert!(error.contains(&reasons), "{error}");
    }
    drop(stuck);
}

/// A receiver that is dead during a run, and there in the next one.
#[test]
fn a_spool_keeps_connections_until_a_later_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let dead = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = dead.local_addr().expect("an address");
    drop(dead);
    let spooling = |max_bytes| {
        let spool = Some(SpoolOptions { folder: folder.path().to_owned(), max_bytes });
        let options = OtlpOptions { spool, ..OtlpOptions::default() };
        let owner = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
        let target = OtlpTarget::parse(&format!("http://{address}")).expect("a URL");
        Otlp::new(OtlpReceiver::find(&target, &options, owner).expect("found"))
    };
    let mut first = spooling(1 << 30);
    first.consume((1..=(MAX_WAITING + 10) as u64).map(ended).collect()).expect("never fails");
    assert_eq!(first.waiting.len(), MAX_WAITING + 10 - MAX_REQUEST);
    first.finish(&StreamEnd::Abandoned).expect("everything is on disk");
    drop(first);
    let (_, received) = receiver_at(address, vec![response("200 OK", "", b"")]);
    let mut second = spooling(1 << 30);
    let last = (MAX_WAITING + 11) as u64;
    second.consume(vec![ended(last)]).expect("posted");
    while second.receiver.spool.as_ref().is_some_and(|spool| spool.oldest().is_some()) {
        second.consume(Vec::new()).expect("posted");
    }
    second.finish(&StreamEnd::Abandoned).expect("everything was sent");
    assert_eq!(ids(&received, last as usize), (1..=last as i64).collect::<Vec<_>>());
    drop(second);
}

#[test]
fn what_does_not_fit_into_the_spool_is_counted() {
    // The second is smaller than a request with a thousand records, which is split.
    for max_bytes in [2 << 20, 300_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let dead = TcpListener::bind("127.0.0.1:0").expect("bound");
        let target = OtlpTarget::parse(&format!("http://{}", dead.local_addr().expect("an address"))).expect("a URL");
        drop(dead);
        let spool = Some(SpoolOptions { folder: folder.path().to_owned(), max_bytes });
        let options = OtlpOptions { spool, ..OtlpOptions::default() };
        let owner = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
        let mut otlp = Otlp::new(OtlpReceiver::find(&target, &options, owner).expect("found"));
        otlp.consume((1..=10_000).map(ended).collect()).expect("never fails");
        let error = otlp.finish(&StreamEnd::Abandoned).expect_err("dropped").to_string();
        let is_reported = error.contains(SPOOL_FULL) && !error.contains(SPOOL_FAILED);
        assert!(is_reported && !error.contains(NOT_REACHED), "{error}");
        assert!(otlp.receiver.spool.is_some_and(|spool| !spool.is_empty()), "{max_bytes}");
    }
}
