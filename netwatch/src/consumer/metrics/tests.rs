//! Tests of the metrics with a session without a kernel, and of the server on the loopback.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::families::OwnNumbers;
use super::*;
use crate::flow::{
    Counters, Direction, EndReason, FlowKey, Increment, ObservationPoint, PayloadGrowth, PerDirection, RoundTripTimes,
    TcpFacts, Traffic, TransportAddress,
};
use crate::format::exposition::ExpositionFormat;
use crate::name::{NameSample, Segment};
use crate::report::Report;
use crate::session::{CaptureScope, GrowthTiming, Observed, OutletId, Session, SessionConfig};

/// A session and its metrics.
struct Metered {
    session: Session<CaptureScope>,
    outlet: OutletId,
    model: SharedModel,
}

impl Metered {
    fn new(max_flows: usize, labels: &[MetricLabel]) -> Self {
        let config = SessionConfig { max_flows, ..SessionConfig::default() };
        let mut session = Session::new(CaptureScope::default(), config);
        let model = Arc::new(Mutex::new(MetricsModel::new(labels.to_vec())));
        let wants = Metrics::new(listener(), Vec::new()).wants();
        let outlet = session.attach(wants);
        session.start(1);
        Self { session, outlet, model }
    }

    /// Ends an interval and delivers everything.
    fn deliver(&mut self) {
        self.session.end_interval(1_000_000_000);
        self.deliver_pending();
    }

    fn deliver_pending(&mut self) {
        while !self.session.is_delivered(self.outlet) {
            let events = self.session.deliver(self.outlet, 100, GrowthTiming::Now);
            events.into_iter().for_each(|event| lock(&self.model).apply(event));
        }
    }

    fn finish(&mut self) -> Report {
        let report = self.session.conclude(2_000_000_000, None, None);
        self.session.finish(Arc::new(report.clone()));
        self.deliver_pending();
        report
    }

    fn samples(&self) -> BTreeMap<String, f64> {
        samples(&families::write(&lock(&self.model), &OwnNumbers::default(), ExpositionFormat::OpenMetrics))
    }
}

fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    let all: Vec<(String, f64)> = lines.map(sample).collect();
    let (number, unique) = (all.len(), all.into_iter().collect::<BTreeMap<_, _>>());
    assert_eq!(number, unique.len(), "no sample is there twice: {text}");
    unique
}

/// The sum of the samples of a metric that have this label.
fn sum(samples: &BTreeMap<String, f64>, metric: &str, label: &str) -> u64 {
    let is_part = |name: &str| name.split('{').next() == Some(metric) && name.contains(label);
    samples.iter().filter(|(name, _)| is_part(name)).map(|(_, value)| *value as u64).sum()
}

fn listener() -> MetricsListener {
    MetricsListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
}

fn increment(port: u16, at_ns: u64, ended: Option<EndReason>) -> Increment {
    let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
    let key = FlowKey {
        point: ObservationPoint::Link,
        protocol: 6,
        fragment: false,
        local: end([198, 51, 100, 2], port),
        remote: end([203, 0, 113, (port % 200) as u8], 443),
    };
    let counters = |packets: u64| Counters { skbs: packets, packets, bytes: packets * 100, wire_bytes: packets * 120 };
    let tcp = TcpFacts {
        handshake_rtt_ns: Some(3_000_000),
        syns: PerDirection { egress: 1, ingress: 0 },
        syn_acks: PerDirection { egress: 0, ingress: 1 },
        retransmitted_packets: PerDirection { egress: 2, ingress: 0 },
        round_trips: RoundTripTimes { count: 1, sum_ns: 20_000_000, min_ns: Some(20_000_000) },
        ..TcpFacts::default()
    };
    Increment {
        traffic: Traffic::Flow(key),
        point: ObservationPoint::Link,
        counters: PerDirection { egress: counters(2), ingress: counters(3) },
        payload: PayloadGrowth::default(),
        first_seen_ns: at_ns,
        last_seen_ns: at_ns,
        opened_by: Direction::Egress,
        connections: 1,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended,
        tcp: Some(tcp),
    }
}

/// What every end of a run has to fulfill: the totals are those of the report, and they are the sum
/// of the series, of the flows that are not tracked, and of the remainders.
fn assert_equals(samples: &BTreeMap<String, f64>, report: &Report) {
    for (way, label) in [(Direction::Egress, "direction=\"egress\""), (Direction::Ingress, "direction=\"ingress\"")] {
        let total = report.totals.of(way);
        for (unit, expected) in [("packets", total.packets), ("wire_bytes", total.wire_bytes)] {
            let part = |name: &str| sum(samples, &format!("netwatch_{name}{unit}_total"), label);
            assert_eq!(part(""), expected, "{unit}, {label}");
            let housekeeping: u64 = ["arp", "neighbour_discovery", "mld", "igmp"]
                .iter()
                .map(|kind| {
                    sum(samples, &format!("netwatch_remainder_{unit}_total"), &format!("kind=\"{kind}\",{label}"))
                })
                .sum();
            let parts = part("traffic_") + part("untracked_") + part("remainder_") - housekeeping;
            assert_eq!(parts, expected, "the parts of {unit}, {label}");
        }
    }
}

#[test]
fn the_numbers_at_the_end_are_those_of_the_report() {
    let mut metered = Metered::new(1000, &MetricLabel::DEFAULT);
    for second in 0..3 {
        (1..=50).for_each(|port| metered.session.apply(increment(port, second, None)));
        metered.session.apply(Increment { traffic: Traffic::NonIp(0x88cc), tcp: None, ..increment(9, second, None) });
        metered.deliver();
    }
    let report = metered.finish();
    let samples = metered.samples();
    assert_equals(&samples, &report);
    assert_eq!(samples["netwatch_flows_total"], 50.0);
    assert_eq!(samples["netwatch_connect_seconds_count"], 50.0, "each handshake is one");
    assert_eq!(samples["netwatch_connect_seconds_bucket{le=\"0.0025\"}"], 0.0);
    assert_eq!(samples["netwatch_connect_seconds_bucket{le=\"0.005\"}"], 50.0);
    assert_eq!(samples["netwatch_round_trip_seconds_count"], 150.0);
    assert_eq!(samples["netwatch_retransmitted_packets_total{direction=\"egress\"}"], 300.0);
    let series = "{process=\"unknown\",service=\"https?\",protocol=\"tcp\",direction=\"egress\"}";
    assert_eq!(samples[&format!("netwatch_traffic_packets_total{series}")], 300.0);
    assert!(!samples.keys().any(|name| name.contains("203.0.113")), "no address without --metrics-labels");
}

#[test]
fn services_have_response_times_and_statuses_by_port() {
    let mut metered = Metered::new(10, &MetricLabel::DEFAULT);
    let end = |last, port| TransportAddress { addr: [192, 0, 2, last].into(), port };
    let point = ObservationPoint::Link;
    let flow = FlowKey { point, protocol: 6, fragment: false, local: end(1, 8080), remote: end(2, 50_000) };
    for (time_ns, direction, payload, sequence, acknowledgment) in [
        (0, Direction::Ingress, &b"GET / HTTP/1.1\r\n\r\n"[..], 10, 900),
        (250_000_000, Direction::Egress, b"HTTP/1.1 503 Busy\r\n\r\n", 900, 28),
        (300_000_000, Direction::Ingress, b"GET /", 28, 921),
    ] {
        metered.session.observe(Observed::Name(NameSample {
            time_ns,
            flow,
            direction,
            opened_by: Direction::Ingress,
            payload,
            payload_len: payload.len() as u32,
            tcp: Some(Segment { sequence, flags: 0x18, acknowledgment: Some(acknowledgment) }),
        }));
    }
    metered.deliver();
    let samples = metered.samples();
    let value = |name: &str, labels: &str| samples[&format!("netwatch_service_{name}{{port=\"8080\"{labels}}}")];
    assert_eq!((value("response_seconds_count", ""), value("response_seconds_sum", "")), (1.0, 0.25));
    assert_eq!((value("responses_total", ",status=\"5xx\""), value("responses_total", ",status=\"2xx\"")), (1.0, 0.0));
    metered.finish();
    let unmeasured = "netwatch_service_unmeasured_requests_total{port=\"8080\"}";
    assert_eq!((samples[unmeasured], metered.samples()[unmeasured]), (0.0, 1.0), "it was not answered");
}

#[test]
fn records_beyond_the_flows_that_are_remembered_are_counted_as_missed() {
    let mut metered = Metered::new(100, &MetricLabel::DEFAULT);
    lock(&metered.model).max_flows = 2;
    (1..=5).for_each(|port| metered.session.apply(increment(port, 1, None)));
    metered.deliver();
    // Each of the three others was opened and grew.
    assert_eq!(metered.samples()["netwatch_missed_events_total"], 6.0);
    assert_eq!(sum(&metered.samples(), "netwatch_traffic_packets_total", "direction=\"egress\""), 4);
}

#[test]
fn failed_attempts_are_those_of_the_command() {
    let mut metered = Metered::new(100, &MetricLabel::DEFAULT);
    let reset = |opened_by: Direction| TcpFacts {
        syns: one(opened_by),
        resets: one(opened_by.opposite()),
        ..TcpFacts::default()
    };
    for (port, opened_by) in [(1, Direction::Egress), (2, Direction::Ingress)] {
        let attempt = increment(port, 1, Some(EndReason::EndOfFlow));
        metered.session.apply(Increment { opened_by, tcp: Some(reset(opened_by)), ..attempt });
    }
    metered.deliver();
    let samples = metered.samples();
    assert_eq!(sum(&samples, "netwatch_failed_attempts_total", ""), 1);
    assert_eq!(samples["netwatch_failed_attempts_total{cause=\"refused\"}"], 1.0);
    assert_eq!(samples["netwatch_open_connections"], 0.0);
}

/// One packet in this direction.
fn one(direction: Direction) -> PerDirection<u64> {
    let count = |way| u64::from(direction == way);
    PerDirection { egress: count(Direction::Egress), ingress: count(Direction::Ingress) }
}

/// Many more flows than the session tracks, some of which never have a record of their own, and
/// more remotes than there are series.
#[test]
fn no_counter_decreases_when_flows_are_folded() {
    let mut metered = Metered::new(300, &[MetricLabel::Address, MetricLabel::Port]);
    let mut before = BTreeMap::new();
    for round in 0..40_u16 {
        for port in 1..=30 {
            // First most end, and are evicted. Then all stay open, and the table becomes full.
            let ended = (port > 5 && round < 30).then_some(EndReason::EndOfFlow);
            metered.session.apply(increment(round * 30 + port, u64::from(round), ended));
        }
        metered.deliver();
        let samples = metered.samples();
        for (name, value) in samples.iter().filter(|(name, _)| name.contains("_total")) {
            let earlier = before.get(name).copied().unwrap_or_default();
            assert!(*value >= earlier, "{name} decreased from {earlier} to {value}");
        }
        // A series that was replaced begins at zero when it comes back, as after a restart.
        before = samples;
    }
    let report = metered.finish();
    let samples = metered.samples();
    let number = |name: &str| samples[name];
    assert!(
        number("netwatch_untracked_flows_total") > 10.0
            && number("netwatch_traffic_flows_total{address=\"other\",port=\"other\"}") > 100.0
    );
    assert_equals(&samples, &report);
}

/// A server and its metrics.
fn served() -> (Metrics, SocketAddr) {
    let listener = listener();
    let address = listener.address();
    let mut metrics = Metrics::new(listener, MetricLabel::DEFAULT.to_vec());
    metrics.start().expect("a thread");
    (metrics, address)
}

fn get(address: SocketAddr, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("received");
    response
}

#[test]
fn the_server_answers_in_the_format_that_was_requested() {
    let (_metrics, address) = served();
    let text = get(address, "");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("\nnetwatch_scrapes_total 1\n") && !text.contains("# EOF"), "{text}");
    let open = get(address, "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("\nnetwatch_scrapes_total 2\n"), "{open}");
}

#[test]
fn clients_that_send_nothing_delay_neither_scrapes_nor_the_consumer() {
    let (mut metrics, address) = served();
    // Fewer than there are places, and each of them connected before the scrape.
    let silent: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(address).expect("connected")).collect();
    metrics.consume(vec![Event::Note("x".into())]).expect("consumed");
    assert!(get(address, "").contains("netwatch_scrapes_total 1"));
    metrics.finish(&StreamEnd::Abandoned).expect("finished");
    drop(silent);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let (_metrics, address) = served();
    let mut silent: Vec<TcpStream> = (0..17).map(|_| TcpStream::connect(address).expect("connected")).collect();
    // Connections are accepted in order, so the last one is beyond the limit.
    let mut last = silent.pop().expect("a connection");
    last.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    assert_eq!(last.read(&mut [0]).expect("closed"), 0);
    silent.pop();
    // The place is free when the server has noticed the end of that connection.
    let answered = (0..6000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        Some(get_lossy(address)).filter(|text| text.contains("200 OK"))
    });
    let answered = answered.expect("an answer");
    let refused = answered.lines().find_map(|line| line.strip_prefix("netwatch_refused_connections_total "));
    assert!(refused.and_then(|count| count.parse::<u64>().ok()) >= Some(1), "{answered}");
}

/// As [`get`]; a part of the response, or nothing, if the server closes the connection.
fn get_lossy(address: SocketAddr) -> String {
    let mut response = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        let _ = stream.read_to_end(&mut response);
    }
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn the_port_is_free_when_the_metrics_have_ended() {
    let (metrics, address) = served();
    drop(metrics);
    let free = (0..6000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        MetricsListener::bind(address).is_ok()
    });
    assert!(free, "{address}");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let (_metrics, address) = served();
    let error = MetricsListener::bind(address).expect_err("it is taken").to_string();
    assert!(error.contains(&format!("serve metrics on {address}")) && error.contains("EADDRINUSE"), "{error}");
}
