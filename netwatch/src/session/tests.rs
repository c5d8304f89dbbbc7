//! Tests of the session without a meter and without threads: deliveries and backlogs.

use super::*;
use crate::flow::{
    Counters, EndReason, FlowKey, IcmpError, ObservationLosses, PayloadGrowth, QuotedError, TransportAddress,
};
use crate::name::NameSample;
use crate::process::{LiveProcess, ProcessAction, ProcessEvent, SystemView};
use crate::report::{self, EndedBy};

mod connections;
mod timeline;

fn session(max_flows: usize) -> Session<IsolatedScope> {
    let scope = IsolatedScope {
        run: report::Run::default(),
        interface: Interface::default(),
        dns: report::DnsForwarder::default(),
    };
    let mut session = Session::new(scope, SessionConfig { max_flows, ..SessionConfig::default() });
    session.start(1_000);
    session
}

fn key(port: u16) -> FlowKey {
    FlowKey {
        point: ObservationPoint::Link,
        protocol: 17,
        fragment: false,
        local: TransportAddress { addr: [10, 0, 0, 2].into(), port },
        remote: TransportAddress { addr: [198, 51, 100, 1].into(), port: 53 },
    }
}

fn growth(port: u16, at_ns: u64, ended: Option<EndReason>) -> Increment {
    let counters = Counters { skbs: 1, packets: 1, bytes: 60, wire_bytes: 60 };
    Increment {
        traffic: Traffic::Flow(key(port)),
        point: ObservationPoint::Link,
        counters: PerDirection { egress: counters, ingress: Counters::default() },
        payload: PayloadGrowth::default(),
        first_seen_ns: at_ns,
        last_seen_ns: at_ns,
        opened_by: Direction::Egress,
        connections: 0,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended,
        tcp: None,
    }
}

const FLOWS: EventKinds = EventKinds::FLOW_OPENED.with(EventKinds::FLOW_GREW).with(EventKinds::FLOW_ENDED);
const IDLE: Option<EndReason> = Some(EndReason::IdleTimeout);

/// Kind, local port and packets of each event of a flow.
fn flows(events: &[Event]) -> Vec<(&'static str, u16, u64)> {
    let flow = |event: &Event| {
        let (kind, record) = match event {
            Event::FlowOpened(record) => ("opened", record),
            Event::FlowGrew(record) => ("grew", record),
            Event::FlowEnded(record, _) => ("ended", record),
            _ => return None,
        };
        Some((kind, record.flow.key.local.port, record.flow.counters.egress.packets))
    };
    events.iter().filter_map(flow).collect()
}

#[test]
fn coalesces_growth_into_the_newest_record() {
    let mut session = session(100);
    let outlet = session.attach(FLOWS);
    (0..5).for_each(|at_ns| session.apply(growth(1, at_ns, None)));
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [("opened", 1, 5), ("grew", 1, 5)]);
    assert!(session.is_delivered(outlet));
    session.apply(growth(1, 6, None));
    session.apply(growth(2, 7, None));
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Later)), [("opened", 2, 1), ("grew", 2, 1)]);
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [("grew", 1, 6)]);
}

#[test]
fn delivers_the_end_of_a_flow_once() {
    let mut session = session(100);
    let outlet = session.attach(FLOWS);
    session.apply(growth(1, 1, None));
    session.apply(growth(1, 2, IDLE));
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [("opened", 1, 2), ("ended", 1, 2)]);
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), []);
    // The next flow with this key has another id.
    session.apply(growth(1, 9, IDLE));
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    assert_eq!(flows(&events), [("opened", 1, 1), ("ended", 1, 1)]);
    let Some(Event::FlowEnded(record, reason)) = events.last() else { panic!("{events:?}") };
    assert_eq!((record.id().epoch, *reason), (1, EndReason::IdleTimeout));
}

#[test]
fn creates_only_the_wanted_kinds_of_events() {
    let mut session = session(100);
    let outlet = session.attach(EventKinds::NOTE);
    session.apply(growth(1, 1, IDLE));
    session.note("once".into());
    session.note("once".into());
    session.end_interval(1);
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    assert!(matches!(events.as_slice(), [Event::Note(note)] if &**note == "once"), "{events:?}");
}

#[test]
fn counts_exactly_what_a_stuck_consumer_misses() {
    const FLOWS_IN_ALL: u64 = 50_000;
    let mut session = session(100);
    let stuck = session.attach(FLOWS);
    let mut quick = 0;
    let other = session.attach(EventKinds::FLOW_ENDED);
    for number in 0..FLOWS_IN_ALL {
        session.apply(growth((number % 60_000) as u16, number, IDLE));
        quick += session.deliver(other, 100, GrowthTiming::Now).len() as u64;
    }
    assert_eq!(quick, FLOWS_IN_ALL, "a stuck consumer delays only itself");
    let mut taken = 0;
    loop {
        let events = session.deliver(stuck, 1000, GrowthTiming::Now);
        if events.is_empty() {
            break;
        }
        taken += events.iter().filter(|event| matches!(event, Event::FlowEnded(..))).count() as u64;
    }
    let missed = session.take_missed(stuck);
    assert_eq!(taken + missed.flows.counts().flows, FLOWS_IN_ALL);
    assert!(missed.outdated.is_empty(), "it has no record of what it missed");
    assert!(taken < 20_000, "{taken} records were kept");
}

#[test]
fn reports_the_serial_number_of_a_known_flow_without_final_record() {
    let mut session = session(1);
    let outlet = session.attach(FLOWS);
    session.apply(growth(1, 1, None));
    session.deliver(outlet, 100, GrowthTiming::Now);
    session.apply(growth(1, 2, IDLE));
    for number in 0..20_000 {
        session.apply(growth(2, 10 + number, IDLE));
    }
    let kept = session.deliver(outlet, usize::MAX, GrowthTiming::Now);
    let missed = session.take_missed(outlet);
    assert!(flows(&kept).contains(&("ended", 1, 2)) || missed.outdated == [0], "{:?}", missed.outdated);
    assert_eq!(
        missed.flows.counts().flows + flows(&kept).iter().filter(|(kind, ..)| *kind == "ended").count() as u64,
        20_001
    );
}

#[test]
fn coalesces_intervals_and_delivers_the_end_last() {
    let mut session = session(100);
    let outlet = session.attach(EventKinds::ALL);
    for second in 1..=3 {
        session.apply(growth(second, u64::from(second), None));
        session.end_interval(u64::from(second) * 1_000_000_000);
    }
    let ending = Some((report::ExitStatus::Code(0), EndedBy::Command));
    let report = Arc::new(session.conclude(4_000_000_000, ending, None));
    session.finish(report);
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    let intervals: Vec<&Arc<IntervalTotals>> =
        events.iter().filter_map(|event| if let Event::Interval(it) = event { Some(it) } else { None }).collect();
    assert_eq!(intervals.len(), 1);
    assert_eq!((intervals[0].end_ns, intervals[0].series.intervals.len()), (1_000 + 4_000_000_000, 3));
    assert!(matches!(events.first(), Some(Event::Started(_))));
    assert!(matches!(events.last(), Some(Event::Finished(_))));
    assert!(session.is_delivered(outlet));
}

#[test]
fn delivers_losses_since_the_last_interval() {
    let mut session = session(100);
    let outlet = session.attach(EventKinds::LOST);
    for (samples, expected) in [(3, vec![("samples", 3)]), (3, vec![]), (8, vec![("samples", 5)])] {
        let meter = ObservationLosses { samples, ..ObservationLosses::default() };
        session.set_losses(MeterLosses { meter, ..MeterLosses::default() });
        session.end_interval(1);
        let events = session.deliver(outlet, 100, GrowthTiming::Now);
        let lost = events
            .iter()
            .filter_map(|event| if let Event::Lost(reason, n) = event { Some((*reason, *n)) } else { None });
        assert_eq!(lost.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn bounds_the_backlog_of_a_stuck_consumer_by_the_ledger() {
    const MAX_FLOWS: usize = 100;
    let mut session = session(MAX_FLOWS);
    let stuck = session.attach(FLOWS);
    for number in 0..50_000_u64 {
        let port = (number % 60_000) as u16;
        session.apply(growth(port, number, None));
        session.apply(growth(port, number, IDLE));
    }
    let is_bounded = |pending| pending <= 2 * MAX_FLOWS + outlet::MAX_EVICTED_EVENTS;
    let pending = session.outlets[stuck.0].pending_flows();
    assert!(is_bounded(pending), "{pending} changes are pending");
}

#[test]
fn queues_an_ended_flow_with_late_packets_once() {
    let mut session = session(100);
    let stuck = session.attach(FLOWS);
    session.apply(growth(1, 1, IDLE));
    for _ in 0..1000 {
        session.apply(growth(1, 1, None));
        session.apply(growth(1, 1, IDLE));
    }
    assert_eq!(session.outlets[stuck.0].pending_flows(), 1);
    assert_eq!(flows(&session.deliver(stuck, 100, GrowthTiming::Now)), [("opened", 1, 2001), ("ended", 1, 2001)]);
    assert!(session.is_delivered(stuck));
}

#[test]
fn a_flow_that_is_evicted_when_it_ends_is_delivered_whole() {
    let mut session = session(100);
    session.ledger.max_settled_bytes = 0;
    let outlet = session.attach(FLOWS);
    session.apply(growth(1, 1, None));
    session.apply(growth(1, 2, IDLE));
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [("opened", 1, 2), ("ended", 1, 2)]);
    assert!(session.ledger.table.is_empty());
}

#[test]
fn reopened_flows_do_not_count_for_the_memory_of_ended_ones() {
    let mut session = session(100);
    let reopened = |port, at_ns| Increment { first_seen_ns: 1, ..growth(port, at_ns, None) };
    session.apply(growth(1, 1, IDLE));
    session.apply(reopened(1, 2));
    // Room for one flow.
    session.apply(growth(2, 3, IDLE));
    session.ledger.max_settled_bytes = session.ledger.settled_bytes;
    session.apply(growth(2, 4, IDLE));
    assert_eq!(session.ledger.table.len(), 2, "only the older flow of the same key was evicted");
    session.apply(Increment { first_seen_ns: 1, ..growth(1, 5, IDLE) });
    assert_eq!(session.ledger.table.len(), 1);
}

#[test]
fn flows_that_follow_one_another_at_a_place_are_all_active() {
    let mut session = session(10);
    (0..1000).for_each(|number| session.apply(growth(number, number.into(), IDLE)));
    session.apply(growth(2000, 2000, None));
    session.apply(growth(2000, 2001, None));
    session.end_interval(1_000_000_000);
    session.apply(growth(2000, 2002, None));
    session.end_interval(2_000_000_000);
    let active: Vec<_> = session.series().intervals.iter().map(|step| (step.opened, step.active)).collect();
    assert_eq!(active, [(1001, 1001), (0, 1)]);
}

#[test]
fn live_flows_end_with_the_session() {
    let mut session = session(100);
    let outlet = session.attach(FLOWS);
    session.apply(growth(1, 1, IDLE));
    session.apply(growth(2, 1, None));
    session.deliver(outlet, 100, GrowthTiming::Now);
    let report = session.conclude(1_000_000_000, None, None);
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    let [Event::FlowEnded(record, EndReason::ForcedEnd)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((record.flow.key.local.port, record.flow.ended), (2, None));
    assert_eq!(report.flows.iter().map(|known| known.flow.ended).collect::<Vec<_>>(), [IDLE, None]);
}

#[test]
fn notes_are_bounded() {
    let mut session = session(1);
    (0..MAX_NOTES + 1000).for_each(|number| session.note(number.to_string()));
    assert_eq!((session.notes.len(), session.notes.last().map(String::as_str)), (MAX_NOTES + 1, Some(TOO_MANY_NOTES)));
}

#[test]
fn an_outlet_forgets_processes_that_the_session_removed() {
    let mut session = session(1);
    let outlet = session.attach(EventKinds::ALL);
    session.outlets[outlet.0].processes.extend(0..10_000);
    session.end_interval(1);
    assert_eq!(session.outlets[outlet.0].processes.len(), session.ledger.trace.process_count());
}

#[test]
fn what_is_discarded_is_reported() {
    let mut session = session(1);
    let outlet = session.attach(EventKinds::NOTE);
    (0..5000).for_each(|number| session.note(number.to_string()));
    session.ledger.folded.lost = 7;
    let report = session.conclude(1, None, None);
    assert!(
        report.notes.iter().any(|note| note.starts_with("names, processes") && note.ends_with(": 7")),
        "{:?}",
        report.notes.last()
    );
    let missed = session.take_missed(outlet).events;
    assert!(
        missed > 0
            && report.notes.contains(&format!("{missed} events were not delivered, because a consumer was too slow"))
    );
}

#[test]
fn flows_whose_events_found_no_room_are_noted() {
    let note = |wants: EventKinds| {
        let mut session = session(1);
        let outlet = session.attach(wants);
        let most = outlet::MAX_EVICTED_EVENTS as u64 + 5_000;
        (0..most).for_each(|number| session.apply(growth(number as u16, number, IDLE)));
        let report = session.conclude(1, None, None);
        let missed = session.take_missed(outlet).flows.counts().flows;
        assert!(missed > 4_000, "{missed}");
        let note = format!("{missed} events were not delivered, because a consumer was too slow");
        report.notes.contains(&note)
    };
    assert!(note(FLOWS));
    assert!(!note(FLOWS.with(EventKinds::FOLDS_MISSED)), "a recording folds them");
}

#[test]
fn an_ended_flow_gets_a_name_of_its_address_and_not_of_the_next_connection() {
    use crate::name::{NameSample, Segment};
    let mut session = session(100);
    let tcp = FlowKey { protocol: 6, ..key(1) };
    let increment = |at_ns, ended| Increment { traffic: Traffic::Flow(tcp), connections: 1, ..growth(1, at_ns, ended) };
    session.apply(increment(1, IDLE));
    session.apply(increment(10, None));
    let payload = b"GET / HTTP/1.1\r\nHost: second.example\r\n\r\n";
    session.observe(Observed::Name(NameSample {
        time_ns: 10,
        flow: tcp,
        direction: Direction::Egress,
        opened_by: Direction::Egress,
        payload,
        payload_len: payload.len() as u32,
        tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK, acknowledgment: None }),
    }));
    let names = |report: report::Report| {
        let name = |known: &report::ReportFlow| known.display_name().map(|display| display.name.to_string());
        report.flows.iter().map(name).collect::<Vec<_>>()
    };
    let second = Some("second.example".to_owned());
    assert_eq!(names(session.report(1, None)), [None, second.clone()]);
    session.resolve([(tcp.remote.addr, Name::of_text("host.example"))]);
    assert_eq!(names(session.report(1, None)), [Some("host.example".to_owned()), second]);
}

#[test]
fn counts_an_active_flow_once_per_interval_also_if_it_is_not_tracked() {
    let mut session = session(2);
    let apply = |session: &mut Session<_>, at_ns| (1..=4).for_each(|port| session.apply(growth(port, at_ns, None)));
    (0..3).for_each(|at_ns| apply(&mut session, at_ns));
    session.end_interval(1_000_000_000);
    apply(&mut session, 1_000_000_000);
    session.end_interval(2_000_000_000);
    let active: Vec<u64> = session.series().intervals.iter().map(|interval| interval.active).collect();
    assert_eq!(active, [4, 4]);
}

/// The other end of every flow is the target.
struct OtherEnd;

impl Scope for OtherEnd {
    fn facts(&self, _: &Moment) -> ScopeFacts {
        ScopeFacts::default()
    }

    fn orient(&self, increment: Increment) -> Increment {
        let Traffic::Flow(key) = increment.traffic else { return increment };
        let PerDirection { egress, ingress } = increment.counters;
        Increment {
            traffic: Traffic::Flow(self.orient_key(key)),
            counters: PerDirection { egress: ingress, ingress: egress },
            opened_by: increment.opened_by.opposite(),
            ..increment
        }
    }

    fn orient_key(&self, key: FlowKey) -> FlowKey {
        FlowKey { local: key.remote, remote: key.local, ..key }
    }

    fn orient_name<'a>(&self, sample: NameSample<'a>) -> NameSample<'a> {
        let (direction, opened_by) = (sample.direction.opposite(), sample.opened_by.opposite());
        NameSample { flow: self.orient_key(sample.flow), direction, opened_by, ..sample }
    }

    fn orient_icmp_error(&self, quoted: QuotedError) -> QuotedError {
        QuotedError { flow: self.orient_key(quoted.flow), by_target: !quoted.by_target, ..quoted }
    }
}

/// A query for `a.example A`.
const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01";

fn query(port: u16) -> NameSample<'static> {
    NameSample {
        time_ns: 0,
        flow: key(port),
        direction: Direction::Egress,
        opened_by: Direction::Egress,
        payload: QUERY,
        payload_len: QUERY.len() as u32,
        tcp: None,
    }
}

#[test]
fn a_scope_decides_the_direction_of_everything_that_is_observed() {
    let mut session = Session::new(OtherEnd, SessionConfig::default());
    session.start(1_000);
    session.apply(growth(1, 1, None));
    session.observe(Observed::Name(query(1)));
    let error = IcmpError { kind: 3, code: 3 };
    session.observe(Observed::IcmpError(QuotedError { flow: key(1), error, by_target: false, time_ns: 1 }));
    let report = session.conclude(1, None, None);
    let flow = &report.flows[0].flow;
    assert_eq!((flow.opened_by, flow.counters.ingress.packets, flow.icmp_error), (Direction::Ingress, 1, Some(error)));
    assert_eq!(report.naming.lookups[0].queried_by, Direction::Ingress);
}

#[test]
fn an_interim_report_does_not_count_a_query_in_flight_as_unanswered() {
    let mut session = session(100);
    session.apply(growth(1, 0, None));
    session.observe(Observed::Name(query(1)));
    let unanswered = |report: &report::Report| report.naming.lookups[0].unanswered();
    let [soon, later] = [1_000_000_000, 6_000_000_000].map(|duration_ns| session.report(duration_ns, None));
    assert_eq!((unanswered(&soon), unanswered(&later)), (0, 1));
    assert_eq!((soon.attempts.len(), later.attempts.len()), (0, 1));
    assert_eq!(unanswered(&session.conclude(1_000_000_000, None, None)), 1, "no response can follow");
}

/// A machine on which no process can be looked up.
struct NoSystem;

impl SystemView for NoSystem {
    fn process(&mut self, _: u32) -> Option<LiveProcess> {
        None
    }

    fn is_bound(&mut self, _: &str) -> Option<bool> {
        None
    }
}

#[test]
fn local_sockets_are_events_of_their_own_kind() {
    let mut session = session(100);
    session.attribution = Attribution::On;
    let [sockets, intervals] = [EventKinds::LOCAL_SOCKETS, EventKinds::INTERVAL].map(|kinds| session.attach(kinds));
    let action = ProcessAction::LocalSocket("/run/socket".into());
    let (comm, origin) = ("curl".into(), 1);
    let event = ProcessEvent { time_ns: 1, start_ns: 1, pid: 7, tid: 7, program: 7, uid: origin, comm, action };
    session.observe(Observed::Process(event, &mut NoSystem));
    session.end_interval(2_000_000_000);
    let events = session.deliver(sockets, 100, GrowthTiming::Now);
    let [Event::LocalSockets(all)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((all[0].path.as_str(), all[0].connections), ("/run/socket", 1));
    let events = session.deliver(intervals, 100, GrowthTiming::Now);
    assert!(matches!(events.as_slice(), [Event::Interval(_)]), "{events:?}");
    session.end_interval(4_000_000_000);
    assert!(session.deliver(sockets, 100, GrowthTiming::Now).is_empty(), "nothing changed");
}

#[test]
fn a_late_consumer_receives_everything_so_far_and_its_place_is_used_again() {
    let mut session = session(100);
    (1..=3).for_each(|port| session.apply(growth(port, 5, if port == 2 { IDLE } else { None })));
    session.end_interval(1_000);
    let usual = session.attach(FLOWS);
    let late = session.attach_late(FLOWS.with(EventKinds::STATUS));
    assert!(session.deliver(usual, 100, GrowthTiming::Now).is_empty());
    let events = session.deliver(late, 100, GrowthTiming::Now);
    assert_eq!(flows(&events), [("grew", 1, 1), ("grew", 2, 1), ("grew", 3, 1)]);
    session.end_interval(2_000);
    let [Event::Status(status)] = session.deliver(late, 100, GrowthTiming::Now)[..] else { panic!("a status") };
    assert_eq!((status.flows.opened, status.flows.open, status.failures), (3, 0, 0));
    assert_eq!((status.duration_ns, status.totals.egress.packets), (2_000, 3));
    session.release(late);
    session.apply(growth(4, 6, None));
    let next = session.attach_late(FLOWS);
    assert_eq!(next, late, "the place is used again");
    assert_eq!(flows(&session.deliver(next, 100, GrowthTiming::Now)).len(), 4);
    assert_eq!(flows(&session.deliver(usual, 100, GrowthTiming::Now)), [("opened", 4, 1), ("grew", 4, 1)]);
}
