//! What the tests supply: a scope, a meter that delivers what a test queued, consumers, and the
//! loop that connects them with a session.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use netwatch::consumer::{Consumer, FINISH_TIMEOUT, Feed, StreamEnd};
use netwatch::error::{Error, Result};
use netwatch::flow::{
    Counters, Direction, EndReason, FlowId, FlowKey, FoldedCounts, IcmpError, Increment, InterfaceCounters,
    LinkCounters, ObservationPoint, PayloadGrowth, PerDirection, Protocol, QuotedError, TcpFacts, Traffic,
    TransportAddress,
};
use netwatch::meter::{DrainProgress, Meter};
use netwatch::name::{NameSample, Segment};
use netwatch::report::{EndedBy, ExitStatus, Report, Run};
use netwatch::session::{
    Event, EventKinds, FlowRecord, GrowthTiming, MeterLosses, Moment, Observed, OutletId, Scope, ScopeFacts, Session,
    SessionConfig,
};

/// The start of each session, nanoseconds since the Unix epoch.
pub(super) const STARTED_NS: u64 = 1_700_000_000_000_000_000;
pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// Bounds every wait for a thread. Long enough for a machine with all processors busy.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
pub(super) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// The address by which the target reaches the server.
pub(super) const TRANSLATED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));

/// A target that reaches its server through a translated address, which is what the meter sees.
pub(super) struct Translated;

impl Scope for Translated {
    fn facts(&self, moment: &Moment) -> ScopeFacts {
        let run = Run {
            command: vec!["appliance".to_owned()],
            started_ns: moment.started_ns,
            duration_ns: moment.duration_ns,
            exit: moment.ending.map(|(exit, _)| exit),
            ..Run::default()
        };
        ScopeFacts { run, ..ScopeFacts::default() }
    }

    fn orient(&self, increment: Increment) -> Increment {
        let traffic = match increment.traffic {
            Traffic::Flow(key) => Traffic::Flow(self.orient_key(key)),
            remainder => remainder,
        };
        Increment { traffic, ..increment }
    }

    fn orient_key(&self, key: FlowKey) -> FlowKey {
        let addr = if key.remote.addr == TRANSLATED { SERVER } else { key.remote.addr };
        FlowKey { remote: TransportAddress { addr, ..key.remote }, ..key }
    }
}

/// Something that the meter notices besides counts.
pub(super) enum Notice {
    /// The head of an HTTP request with this host in a flow from this port.
    HttpRequest(u16, &'static str),
    /// The server port of a flow from this port is unreachable.
    PortUnreachable(u16),
}

/// Delivers what a test has queued.
#[derive(Default)]
pub(super) struct ScriptedMeter {
    pub(super) notices: VecDeque<Notice>,
    /// The parts of the next drain.
    pub(super) parts: VecDeque<Vec<Increment>>,
    pub(super) losses: MeterLosses,
    /// What an interface at the same place would have counted.
    pub(super) interface: InterfaceCounters,
}

impl ScriptedMeter {
    pub(super) fn queue(&mut self, increments: impl IntoIterator<Item = Increment>) {
        let increments: Vec<Increment> = increments.into_iter().collect();
        for increment in &increments {
            // The host's end receives what the target sends.
            add(&mut self.interface.rx, increment.counters.egress);
            add(&mut self.interface.tx, increment.counters.ingress);
        }
        self.parts.push_back(increments);
    }
}

pub(super) fn add(link: &mut LinkCounters, counters: Counters) {
    link.packets += counters.skbs;
    link.bytes += counters.bytes;
}

impl Meter for ScriptedMeter {
    fn poll(&mut self, sink: &mut dyn FnMut(Observed<'_>)) -> Result<()> {
        for notice in self.notices.drain(..) {
            match notice {
                Notice::PortUnreachable(port) => {
                    let error = IcmpError { kind: 3, code: 3 };
                    sink(Observed::IcmpError(QuotedError {
                        flow: metered_key(port),
                        error,
                        by_target: false,
                        time_ns: STARTED_NS,
                    }));
                }
                Notice::HttpRequest(port, host) => {
                    let payload = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
                    sink(Observed::Name(NameSample {
                        time_ns: STARTED_NS,
                        flow: metered_key(port),
                        direction: Direction::Egress,
                        opened_by: Direction::Egress,
                        payload: payload.as_bytes(),
                        payload_len: payload.len() as u32,
                        tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK, acknowledgment: None }),
                    }));
                }
            }
        }
        Ok(())
    }

    fn next_poll(&self) -> Duration {
        Duration::ZERO
    }

    fn drain_part(&mut self, _: &mut DrainProgress, sink: &mut dyn FnMut(Increment)) -> Result<bool> {
        self.parts.pop_front().into_iter().flatten().for_each(sink);
        Ok(!self.parts.is_empty())
    }

    fn losses(&self) -> Result<MeterLosses> {
        Ok(self.losses)
    }

    fn balance(&mut self) -> Result<Option<InterfaceCounters>> {
        Ok(Some(self.interface))
    }
}

/// A flow as the meter sees it.
pub(super) fn metered_key(port: u16) -> FlowKey {
    let (local, remote) = (TransportAddress { addr: TARGET, port }, TransportAddress { addr: TRANSLATED, port: 80 });
    FlowKey { point: ObservationPoint::Link, protocol: Protocol::TCP.0, fragment: false, local, remote }
}

/// The same flow in the scope of the session.
pub(super) fn session_key(port: u16) -> FlowKey {
    FlowKey { remote: TransportAddress { addr: SERVER, port: 80 }, ..metered_key(port) }
}

/// Growth of a flow: `packets` of 100 bytes from the target, and half as many of 1000 bytes to it.
pub(super) fn growth(port: u16, packets: u64, second: u64) -> Increment {
    let counters = |packets, bytes| Counters { skbs: packets, packets, bytes, wire_bytes: bytes };
    Increment {
        traffic: Traffic::Flow(metered_key(port)),
        point: ObservationPoint::Link,
        counters: PerDirection {
            egress: counters(packets, packets * 100),
            ingress: counters(packets / 2, packets / 2 * 1000),
        },
        payload: PayloadGrowth::default(),
        first_seen_ns: STARTED_NS + second * SECOND_NS,
        last_seen_ns: STARTED_NS + second * SECOND_NS + 1,
        opened_by: Direction::Egress,
        connections: 1,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended: None,
        tcp: Some(TcpFacts::default()),
    }
}

/// The last growth of a flow.
pub(super) fn end(port: u16, packets: u64, second: u64, reason: EndReason) -> Increment {
    Increment { ended: Some(reason), ..growth(port, packets, second) }
}

/// The meter, the session and its consumers, as the metering thread of a run joins them.
pub(super) struct Metering {
    pub(super) session: Session<Translated>,
    pub(super) meter: ScriptedMeter,
    pub(super) feeds: Vec<(OutletId, Feed)>,
    /// A consumer has room again, or has failed.
    pub(super) has_room: Receiver<()>,
    pub(super) room: Sender<()>,
    pub(super) seconds: u64,
}

impl Metering {
    pub(super) fn new(max_flows: usize) -> Self {
        let config = SessionConfig { max_flows, ..SessionConfig::default() };
        let session = Session::new(Translated, config);
        let (room, has_room) = mpsc::channel();
        Self { session, meter: ScriptedMeter::default(), feeds: Vec::new(), has_room, room, seconds: 0 }
    }

    pub(super) fn attach(&mut self, consumer: impl Consumer) -> OutletId {
        let room = self.room.clone();
        let feed = Feed::start(consumer, move || _ = room.send(())).expect("start a thread");
        let outlet = self.session.attach(feed.wants());
        self.feeds.push((outlet, feed));
        outlet
    }

    /// Polls and drains the meter.
    pub(super) fn drain(&mut self, mut progress: DrainProgress) {
        let Self { session, meter, .. } = self;
        loop {
            meter.poll(&mut |observed| session.observe(observed)).expect("the script cannot fail");
            let drained = meter.drain_part(&mut progress, &mut |increment| session.apply(increment));
            if !drained.expect("the script cannot fail") {
                break;
            }
        }
        session.set_losses(meter.losses().expect("the script cannot fail"));
    }

    /// One interval of a second. Consumers without room receive their events later.
    pub(super) fn interval(&mut self) {
        self.drain(DrainProgress::default());
        self.seconds += 1;
        self.session.end_interval(self.seconds * SECOND_NS);
        self.deliver();
    }

    pub(super) fn deliver(&mut self) {
        for (outlet, feed) in &self.feeds {
            while feed.has_room() && !self.session.is_delivered(*outlet) {
                feed.send(self.session.deliver(*outlet, 1000, GrowthTiming::Now));
            }
        }
    }

    /// Delivers everything, and waits for consumers without room that have not failed.
    pub(super) fn deliver_all(&mut self) {
        loop {
            self.deliver();
            let is_waiting = |(outlet, feed): &(_, Feed)| !feed.has_failed() && !self.session.is_delivered(*outlet);
            if !self.feeds.iter().any(is_waiting) {
                return;
            }
            self.has_room.recv_timeout(WAIT_TIMEOUT).expect("a consumer gets room again");
        }
    }

    /// Concludes the session, delivers everything that waits for consumers that did not fail, and
    /// waits for their end.
    pub(super) fn finish(mut self) -> (Report, Vec<Result<()>>) {
        self.drain(DrainProgress::last());
        let ending = Some((ExitStatus::Code(0), EndedBy::Command));
        let counters = self.meter.balance().expect("a script never fails");
        let report = self.session.conclude((self.seconds + 1) * SECOND_NS, ending, counters);
        self.session.finish(Arc::new(report.clone()));
        self.deliver_all();
        let Self { mut session, feeds, .. } = self;
        let close = |(outlet, feed): (_, Feed)| {
            let end = StreamEnd::Concluded(Box::new(session.take_missed(outlet)));
            feed.close(end).wait(Instant::now() + FINISH_TIMEOUT)
        };
        (report, feeds.into_iter().map(close).collect())
    }
}

/// Sends everything that it receives back to the test.
pub(super) struct Recorder {
    pub(super) wants: EventKinds,
    pub(super) events: Sender<Event>,
    pub(super) missed: Sender<MissedCounts>,
    /// Awaited before each batch, where the test holds the consumer back.
    pub(super) release: Option<Receiver<()>>,
}

/// What a consumer missed because it was slow.
pub(super) struct MissedCounts {
    /// Events other than records of flows.
    pub(super) events: u64,
    /// Flows whose final record was missed.
    pub(super) flows: FoldedCounts,
}

/// What a [`Recorder`] received.
pub(super) struct Recorded {
    pub(super) events: Receiver<Event>,
    missed: Receiver<MissedCounts>,
}

impl Recorder {
    pub(super) fn new(wants: EventKinds) -> (Self, Recorded) {
        let (sender, events) = mpsc::channel();
        let (missed_sender, missed) = mpsc::channel();
        (Self { wants, events: sender, missed: missed_sender, release: None }, Recorded { events, missed })
    }
}

impl Consumer for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn wants(&self) -> EventKinds {
        self.wants
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        // Fails once the test has dropped its end: from then on nothing is held back.
        let _ = self.release.as_ref().map(Receiver::recv);
        events.into_iter().for_each(|event| _ = self.events.send(event));
        Ok(())
    }

    fn finish(&mut self, end: &StreamEnd) -> Result<()> {
        let StreamEnd::Concluded(missed) = end else { return Ok(()) };
        let _ = self.missed.send(MissedCounts { events: missed.events, flows: missed.flows.counts() });
        Ok(())
    }
}

impl Recorded {
    /// Everything received, and what was missed, after the end of the consumer.
    pub(super) fn collect(self) -> (Vec<Event>, MissedCounts) {
        (self.events.iter().collect(), self.missed.recv().expect("the consumer was finished"))
    }
}

/// A consumer with a full disk.
pub(super) struct Failing;

impl Consumer for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::ALL
    }

    fn consume(&mut self, _: Vec<Event>) -> Result<()> {
        Err(Error::other("write", "events", "the disk is full"))
    }

    fn finish(&mut self, _: &StreamEnd) -> Result<()> {
        panic!("a consumer that failed is not called again");
    }
}

/// The kind of an event and the flow that it is about, as far as a test compares them.
pub(super) fn summary(event: &Event) -> String {
    let flow = |record: &FlowRecord| {
        let PerDirection { egress, ingress } = record.flow.counters;
        let (port, epoch) = (record.flow.key.local.port, record.flow.epoch);
        format!("{port}/{epoch} {}+{}", egress.packets, ingress.packets)
    };
    match event {
        Event::Started(started) => format!("started {}", started.run.command.join(" ")),
        Event::FlowOpened(record) => format!("opened {}", flow(record)),
        Event::FlowGrew(record) => format!("grew {}", flow(record)),
        Event::FlowEnded(record, reason) => format!("ended {} {}", flow(record), reason.name()),
        Event::UsedBy(record) => format!("used by {}", record.process.pid),
        Event::DnsExchange(number, _) => format!("lookup {number}"),
        Event::Attempts(all) => format!("{} attempts", all.len()),
        Event::LocalSockets(all) => format!("{} local sockets", all.len()),
        Event::Lost(reason, count) => format!("lost {count} {reason}"),
        Event::Note(note) => format!("note {note}"),
        Event::Interval(interval) => format!("interval {}", (interval.end_ns - STARTED_NS) / SECOND_NS),
        Event::Status(status) => format!("status {}", status.duration_ns / SECOND_NS),
        Event::Finished(finished) => format!("finished {}", finished.report.flows.len()),
    }
}

pub(super) fn summaries(events: &[Event]) -> Vec<String> {
    events.iter().map(summary).collect()
}

/// The final records of flows, by their identity.
pub(super) fn ended_records(events: &[Event]) -> BTreeMap<FlowId, Arc<FlowRecord>> {
    let ended = events.iter().filter_map(|event| match event {
        Event::FlowEnded(record, _) => Some((record.id(), record.clone())),
        _ => None,
    });
    ended.collect()
}

pub(super) fn assert_closed(report: &Report) {
    assert!(report.complete && report.balance.closed(), "{:#?}", report.balance);
    let mut flows = report.folded.counters;
    report.flows.iter().for_each(|flow| flows += flow.flow.counters);
    assert_eq!(flows, report.totals, "flows and folded flows are the totals");
    let mut endpoints = PerDirection::<Counters>::default();
    report.endpoints.iter().for_each(|endpoint| endpoints += endpoint.endpoint.counters);
    assert_eq!(endpoints, report.totals, "the endpoints are the totals");
}
