use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::*;
use crate::flow::{
    Counters, Direction, EndReason, FlowKey, IcmpError, Increment, ObservationPoint, PayloadGrowth, PerDirection,
    Protocol, TcpFacts, Traffic, TransportAddress,
};
use crate::name::{Lookup, NameSource, ResponseTimes};
use crate::process::{AttemptCause, AttemptTarget, Evidence, Usage};
use crate::report::{DisplayName, FlowNaming};
use crate::session::{CaptureScope, GrowthTiming, Missed, Session, SessionConfig};
use crate::wire::dns::{Question, Rcode, RecordType};
use crate::wire::{Application, Name};

/// What was written.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn increment(ended: Option<EndReason>) -> Increment {
    let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
    let key = FlowKey {
        point: ObservationPoint::Link,
        protocol: 6,
        fragment: false,
        local: end([198, 51, 100, 2], 5000),
        remote: end([198, 51, 100, 1], 443),
    };
    let egress = Counters { skbs: 1, packets: 1, bytes: 60, wire_bytes: 60 };
    let counters = PerDirection { egress, ingress: Counters::default() };
    Increment {
        traffic: Traffic::Flow(key),
        point: ObservationPoint::Link,
        counters,
        payload: PayloadGrowth { bytes: PerDirection { egress: 6, ingress: 0 }, ..PayloadGrowth::default() },
        first_seen_ns: 1_000_000_000,
        last_seen_ns: 3_000_000_000,
        opened_by: Direction::Egress,
        connections: 1,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended,
        tcp: Some(TcpFacts::default()),
    }
}

/// The lines of a connection that is opened in one interval and ends in the next.
fn lines(is_json: bool) -> String {
    let out = Shared::default();
    let mut events = EventLines::new(out.clone(), is_json);
    let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
    let outlet = session.attach(events.wants());
    for ended in [None, Some(EndReason::EndOfFlow)] {
        session.apply(increment(ended));
        events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
    }
    session.note("noted".to_owned());
    events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
    let text = out.0.lock().expect("not poisoned").clone();
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn a_connection_has_a_line_when_it_opens_and_when_it_ends() {
    let text = lines(false);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("00:00:01.000 opened tcp 198.51.100.2:5000 -> 198.51.100.1:443"), "{text}");
    assert!(lines[1].contains("ended") && lines[1].ends_with(", closed"), "{text}");
}

/// The events of a connection of which more SYNs, and SYN-ACKs, are observed in each interval.
fn handshake(steps: &[(u64, u64, Option<EndReason>)]) -> Vec<String> {
    let out = Shared::default();
    let mut events = EventLines::new(out.clone(), true);
    let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
    let outlet = session.attach(events.wants());
    for (step, (syns, syn_acks, ended)) in steps.iter().enumerate() {
        let syns = PerDirection { egress: *syns, ingress: 0 };
        let syn_acks = PerDirection { egress: 0, ingress: *syn_acks };
        let tcp = Some(TcpFacts { syns, syn_acks, ..TcpFacts::default() });
        session.apply(Increment { tcp, connections: (step == 0).into(), ..increment(*ended) });
        events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
    }
    let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["event"].clone();
    text.lines().map(|line| event(line).as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_handshake_in_flight_has_not_failed() {
    let ended = Some(EndReason::EndOfFlow);
    assert_eq!(handshake(&[(1, 0, None), (0, 1, ended)]), ["opened", "ended"]);
    assert_eq!(handshake(&[(1, 0, None), (0, 0, ended)]), ["opened", "failed", "ended"]);
    assert_eq!(handshake(&[(1, 0, None), (1, 0, None), (1, 0, None)]), ["opened", "failed"]);
    assert_eq!(handshake(&[(1, 0, None), (1, 0, None), (0, 1, ended)]), ["opened", "failed", "answered", "ended"]);
}

#[test]
fn json_lines_have_the_counts_of_the_connection() {
    let text = lines(true);
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&events[0]["event"], &events[1]["event"]), (&"opened".into(), &"ended".into()), "{text}");
    assert_eq!(
        events[1]["egress"],
        serde_json::json!({ "packets": 2, "wire_bytes": 120, "payload_bytes": 12 }),
        "{text}"
    );
    assert_eq!(events[2], serde_json::json!({ "schema": 1, "event": "note", "text": "noted" }));
    assert_eq!((&events[1]["end_reason"], &events[1]["remote_port"]), (&"end_of_flow".into(), &443.into()));
}

/// A record of a connection as the session delivers it.
fn record() -> FlowRecord {
    let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
    let outlet = session.attach(EventKinds::FLOW_OPENED);
    session.apply(increment(None));
    match session.deliver(outlet, 100, GrowthTiming::Now).as_slice() {
        [Event::FlowOpened(record)] => record.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

/// The record with these TCP facts and the reason of its end.
fn with(facts: TcpFacts, ended: Option<EndReason>) -> FlowRecord {
    let mut record = record();
    (record.flow.tcp, record.flow.ended) = (Some(facts), ended);
    record
}

fn facts(syns: u64, resets: u64) -> TcpFacts {
    let syns = PerDirection { egress: syns, ingress: 0 };
    TcpFacts { syns, resets: PerDirection { egress: 0, ingress: resets }, ..TcpFacts::default() }
}

fn grew(record: FlowRecord) -> Event {
    Event::FlowGrew(Arc::new(record))
}

fn ended(record: FlowRecord) -> Event {
    Event::FlowEnded(Arc::new(record), EndReason::EndOfFlow)
}

fn used_by(number: u32, comm: &str) -> Event {
    let process = Process { number, pid: 100 + number, comm: comm.into(), ..Process::default() };
    Event::UsedBy(Arc::new(ProcessRecord { process, parent: None }))
}

/// The lines of these events.
fn written(is_json: bool, events: Vec<Event>, end: &StreamEnd) -> String {
    let out = Shared::default();
    let mut lines = EventLines::new(out.clone(), is_json);
    lines.consume(events).expect("written");
    lines.finish(end).expect("written");
    String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("UTF-8")
}

fn json_of(events: Vec<Event>) -> Vec<serde_json::Value> {
    let text = written(true, events, &StreamEnd::Abandoned);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn names_of(events: Vec<Event>) -> Vec<String> {
    json_of(events).iter().map(|event| event["event"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn late_packets_of_an_ended_connection_do_not_open_it_again() {
    let (open, closed) = (with(facts(0, 0), None), with(facts(0, 0), Some(EndReason::EndOfFlow)));
    let first = || vec![Event::FlowOpened(Arc::new(open.clone())), ended(closed.clone())];
    let and = |event| first().into_iter().chain([event]).collect::<Vec<_>>();
    assert_eq!(names_of(and(grew(closed.clone()))), ["opened", "ended"]);
    assert_eq!(names_of(and(grew(open.clone()))), ["opened", "ended", "opened"], "idle, and live again");
    let mut unreachable = with(facts(1, 0), Some(EndReason::EndOfFlow));
    unreachable.flow.icmp_error = Some(IcmpError { kind: 3, code: 1 });
    let events = json_of(and(grew(unreachable)));
    assert_eq!((events.len(), &events[2]["failed"]), (3, &serde_json::json!({ "unreachable": 1 })));
    assert!(names_of(vec![grew(closed.clone())]).is_empty(), "it was forgotten");
    let events = (0..3).flat_map(|_| [grew(closed.clone()), ended(closed.clone())]);
    let out = Shared::default();
    let mut lines = EventLines::new(out, true);
    lines.consume(first().into_iter().chain(events).collect()).expect("written");
    assert_eq!(lines.flows.len(), 1);
}

#[test]
fn an_attempt_fails_once_and_the_end_has_its_cause() {
    let (repeated, refused) = (with(facts(2, 0), None), with(facts(2, 1), Some(EndReason::EndOfFlow)));
    let grown = with(facts(2, 1), None);
    let events = || vec![Event::FlowOpened(Arc::new(repeated.clone())), grew(grown.clone()), ended(refused.clone())];
    assert_eq!(names_of(events()), ["opened", "failed", "ended"]);
    let lines = json_of(events());
    assert_eq!(lines[1]["failed"], serde_json::json!({ "timeout": 1 }));
    assert_eq!(lines[2]["failed"], serde_json::json!({ "refused": 1 }));
    let text = written(false, events(), &StreamEnd::Abandoned);
    assert!(text.ends_with(", refused, closed\n"), "{text}");
}

/// The records between two ends are merged when the reader is slow.
#[test]
fn an_end_that_comes_alone_opens_nothing() {
    let idle = with(facts(0, 0), Some(EndReason::IdleTimeout));
    let opened = || Event::FlowOpened(Arc::new(with(facts(0, 0), None)));
    assert_eq!(names_of(vec![opened(), ended(idle.clone()), ended(idle.clone())]), ["opened", "ended", "ended"]);
    assert_eq!(names_of(vec![opened(), grew(idle.clone()), ended(idle.clone())]), ["opened", "ended"]);
    assert_eq!(names_of(vec![ended(idle)]), ["opened", "ended"], "it was not known");
}

#[test]
fn all_processes_of_a_connection_are_listed() {
    let mut shared = record();
    let usage = |process| Usage { process, evidence: Evidence::Socket, is_maker: true };
    shared.usages.extend([usage(1), usage(2)]);
    let events = || vec![used_by(1, "ping"), used_by(2, "sh"), Event::FlowOpened(Arc::new(shared.clone()))];
    let text = written(false, events(), &StreamEnd::Abandoned);
    assert!(text.ends_with(" ping[101], sh[102]\n"), "{text}");
    let lines = json_of(events());
    let (first, second) =
        (serde_json::json!({ "pid": 101, "comm": "ping" }), serde_json::json!({ "pid": 102, "comm": "sh" }));
    assert_eq!((&lines[0]["process"], &lines[0]["processes"]), (&first, &serde_json::json!([first, second])));
}

#[test]
fn events_that_were_not_delivered_are_counted() {
    let missed = Missed { events: 3, ..Missed::default() };
    let text = written(false, Vec::new(), &StreamEnd::Concluded(Box::new(missed)));
    assert_eq!(text, "… 3 observations lost: events.missed\n");
    assert_eq!(written(false, Vec::new(), &StreamEnd::Concluded(Box::default())), "");
}

/// Calls of process 1 that failed because there is no route.
fn calls(count: u64) -> Event {
    let attempt = Attempt {
        first_ns: 1_000_000_000,
        last_ns: 2_000_000_000,
        count,
        packets: 0,
        target: AttemptTarget::Address("198.51.100.1:443".parse().expect("an address")),
        protocol: Some(Protocol::TCP),
        cause: AttemptCause::Errno(101),
        process: Some(ProcessId(1)),
    };
    let local_socket = Attempt { target: AttemptTarget::LocalSocket("/run/x".into()), ..attempt.clone() };
    Event::Attempts([attempt, local_socket].into())
}

fn lookup(code: Rcode, count: u64) -> Event {
    let question = Question { name: Name::of_text("old.example"), kind: RecordType::A };
    let lookup = Lookup {
        question,
        application: Application::Dns,
        queried_by: Direction::Egress,
        queries: count + 1,
        responses: count,
        outcomes: [(code, count)].into(),
        repeats: Default::default(),
        truncated: 0,
        response_times: ResponseTimes::default(),
        first_seen_ns: 1_000_000_000,
        addresses: Vec::new(),
        aliases: Vec::new(),
    };
    Event::DnsExchange(0, Arc::new(lookup))
}

#[test]
fn calls_that_failed_without_a_packet_are_written_once() {
    let events = || vec![used_by(1, "curl"), calls(1), calls(1), calls(3)];
    let text = written(false, events(), &StreamEnd::Abandoned);
    let line = "00:00:02.000 failed tcp -> 198.51.100.1:443 curl[101]: no route";
    assert_eq!(text, format!("{line}\n{line} (2×)\n"));
    let lines = json_of(events());
    assert_eq!((&lines[1]["failed"], &lines[1]["errno"]), (&serde_json::json!({ "no_route": 2 }), &101.into()));
}

#[test]
fn a_call_that_failed_without_a_packet_has_the_name_that_was_looked_up() {
    let Event::DnsExchange(number, found) = lookup(Rcode::NOERROR, 1) else { panic!("a lookup") };
    let addresses = vec!["198.51.100.1".parse().expect("an address")];
    let found = Event::DnsExchange(number, Arc::new(Lookup { addresses, ..found.as_ref().clone() }));
    let events = || vec![used_by(1, "curl"), found.clone(), calls(1)];
    let text = written(false, events(), &StreamEnd::Abandoned);
    assert!(text.ends_with(" failed tcp -> 198.51.100.1:443 old.example (dns) curl[101]: no route\n"), "{text}");
    let name = serde_json::json!({ "name": "old.example", "source": "dns" });
    assert_eq!(json_of(events())[0]["name"], name);
    let mut named = record();
    named.naming = Some(Arc::new(FlowNaming { display_name: sni("app.example"), ..FlowNaming::default() }));
    let events = vec![Event::FlowOpened(Arc::new(named)), found, calls(1)];
    let name = serde_json::json!({ "name": "app.example", "source": "sni" });
    assert_eq!(json_of(events)[1]["name"], name, "the name of its endpoint");
}

fn sni(name: &str) -> Option<DisplayName> {
    Some(DisplayName { name: Name::of_text(name), source: NameSource::Sni })
}

/// `named` follows only if the name was not known when the connection was opened.
#[test]
fn a_name_that_is_known_at_the_opening_is_not_repeated() {
    let mut named = record();
    named.naming = Some(Arc::new(FlowNaming { display_name: sni("app.example"), ..FlowNaming::default() }));
    assert_eq!(names_of(vec![Event::FlowOpened(Arc::new(named.clone())), grew(named.clone())]), ["opened"]);
    assert_eq!(names_of(vec![Event::FlowOpened(Arc::new(record())), grew(named.clone())]), ["opened", "named"]);
    let mut other = named.clone();
    other.naming = Some(Arc::new(FlowNaming { display_name: sni("cdn.example"), ..FlowNaming::default() }));
    let events = json_of(vec![Event::FlowOpened(Arc::new(named)), grew(other.clone()), grew(other)]);
    assert_eq!(
        (events.len(), &events[1]["event"], &events[1]["name"]["name"]),
        (2, &"named".into(), &"cdn.example".into())
    );
}

#[test]
fn a_call_that_returned_the_icmp_error_of_a_connection_is_not_another_failure() {
    let mut unreachable = with(facts(1, 0), Some(EndReason::EndOfFlow));
    unreachable.flow.icmp_error = Some(IcmpError { kind: 3, code: 1 });
    unreachable.usages.push(Usage { process: 1, evidence: Evidence::Socket, is_maker: true });
    let events = vec![Event::FlowOpened(Arc::new(unreachable.clone())), ended(unreachable), calls(1)];
    assert_eq!(names_of(events), ["opened", "failed", "ended"]);
}

#[test]
fn lookups_that_failed_are_written() {
    let events = vec![lookup(Rcode::NOERROR, 1), lookup(Rcode::NXDOMAIN, 1), lookup(Rcode::NXDOMAIN, 2)];
    let text = written(false, events, &StreamEnd::Abandoned);
    let line = "00:00:01.000 failed DNS old.example A: NXDOMAIN\n";
    assert_eq!(text, [line, line].concat());
}

/// A query of this process, at these seconds.
fn query(serial: u64, process: u32, (first_s, last_s): (u64, u64)) -> Event {
    let mut query = record();
    let flow = &mut query.flow;
    (flow.serial, flow.key.protocol, flow.key.remote.port, flow.tcp) = (serial, 17, 53, None);
    (flow.first_seen_ns, flow.last_seen_ns) = (first_s * 1_000_000_000, last_s * 1_000_000_000);
    query.usages.push(Usage { process, evidence: Evidence::Socket, is_maker: true });
    Event::FlowOpened(Arc::new(query))
}

/// The processes of failed lookups.
fn queriers(events: Vec<Event>) -> Vec<serde_json::Value> {
    let users = vec![used_by(1, "curl"), used_by(2, "sh")];
    let lines = json_of(users.into_iter().chain(events).collect());
    lines.iter().filter(|line| line["event"] == "failed").map(|line| line["process"]["comm"].clone()).collect()
}

#[test]
fn a_lookup_that_failed_has_the_only_process_that_queried_then() {
    // One query at second 1, and one more for each response.
    let failed = |count| match lookup(Rcode::NXDOMAIN, count) {
        Event::DnsExchange(number, lookup) => {
            Event::DnsExchange(number, Arc::new(Lookup { queries: count, ..lookup.as_ref().clone() }))
        }
        other => other,
    };
    let (first, other) = (query(1, 1, (1, 1)), query(2, 2, (3, 3)));
    assert_eq!(queriers(vec![first.clone(), other.clone(), failed(1)]), ["curl"], "the other one queried later");
    assert_eq!(queriers(vec![first.clone(), query(2, 2, (0, 4)), failed(1)]), [serde_json::Value::Null]);
    let either = vec![first.clone(), other.clone(), failed(2)];
    assert_eq!(queriers(either), [serde_json::Value::Null], "the second query may be the other one's");
    assert_eq!(queriers(vec![first.clone(), failed(1), other, failed(2)]), ["curl".into(), serde_json::Value::Null]);
    let own = vec![query(2, 2, (0, 0)), first.clone(), failed(1), query(3, 1, (4, 4)), failed(2)];
    assert_eq!(queriers(own), ["curl", "curl"]);
    let either = vec![first, failed(1), query(3, 1, (4, 4)), query(2, 2, (9, 9)), failed(2)];
    assert_eq!(queriers(either)[1], serde_json::Value::Null);
}

/// The keys of the table of docs/events.md.
fn documented_keys() -> BTreeSet<String> {
    let text = include_str!("../../../topics/events");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    rows.flat_map(|cell| cell.split(", ").map(|key| key.trim_matches('`').to_owned())).collect()
}

#[test]
fn the_table_of_the_document_has_every_key() {
    let mut full = with(TcpFacts { handshake_rtt_ns: Some(1), ..facts(2, 1) }, Some(EndReason::EndOfFlow));
    let usage = |process| Usage { process, evidence: Evidence::Socket, is_maker: true };
    full.usages.extend([usage(1), usage(2)]);
    full.naming = Some(Arc::new(FlowNaming { display_name: sni("app.example"), ..FlowNaming::default() }));
    let events = vec![
        used_by(1, "curl"),
        used_by(2, "sh"),
        Event::FlowOpened(Arc::new(full.clone())),
        ended(full),
        calls(1),
        lookup(Rcode::NXDOMAIN, 1),
        Event::Lost("meter.table_full", 1),
        Event::Note("noted".into()),
    ];
    let keys: BTreeSet<String> = json_of(events)
        .iter()
        .flat_map(|line| line.as_object().expect("an object").keys().cloned().collect::<Vec<_>>())
        .collect();
    assert_eq!(keys, documented_keys());
}

#[test]
fn an_error_names_the_file() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opened");
    let mut lines = EventLines::new(full, true).to(Path::new("log/events.json"));
    let error = lines.consume(vec![Event::Note("a note".into())]).expect_err("the device is full").to_string();
    assert!(error.starts_with("cannot write events to log/events.json: ") && error.contains("ENOSPC"), "{error}");
}
