//! A metering session used from outside the crate: the scope, the meter and the consumers are those
//! of this test. It shows what a new source or a new consumer needs, without a change of `session`.

mod scene;

use std::collections::BTreeSet;
use std::sync::mpsc;

use netwatch::flow::{EndReason, FlowId, IcmpError, ObservationLosses};
use netwatch::report::ExitStatus;
use netwatch::session::{Event, EventKinds};

use scene::*;

#[test]
fn a_consumer_receives_what_happens_in_order_in_the_view_of_the_scope() {
    let mut metering = Metering::new(16);
    let (recorder, recorded) = Recorder::new(EventKinds::ALL);
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    metering.meter.queue([growth(5001, 4, 0)]);
    metering.interval();
    metering.deliver_all();
    metering.meter.notices.extend([Notice::HttpRequest(5001, "app.example"), Notice::PortUnreachable(5002)]);
    metering.meter.queue([growth(5001, 6, 1)]);
    // A second part of the same drain.
    metering.meter.queue([growth(5002, 2, 1)]);
    metering.interval();
    metering.deliver_all();
    metering.meter.losses.meter = ObservationLosses { samples: 3, ..ObservationLosses::default() };
    metering.meter.queue([end(5001, 0, 1, EndReason::EndOfFlow), end(5002, 0, 1, EndReason::IdleTimeout)]);
    metering.session.note("a note".to_owned());
    metering.session.note("a note".to_owned());
    metering.interval();
    metering.deliver_all();
    let (report, closed) = metering.finish();
    assert!(closed.into_iter().all(|result| result.is_ok()));

    let (events, missed) = recorded.collect();
    assert_eq!((missed.events, missed.flows.flows), (0, 0));
    let expected = [
        "started appliance",
        "opened 5001/0 4+2",
        "interval 1",
        "opened 5002/0 2+1",
        "grew 5001/0 10+5",
        "interval 2",
        "note a note",
        "lost 3 samples",
        "ended 5001/0 10+5 end_of_flow",
        "ended 5002/0 2+1 idle_timeout",
        "interval 3",
        "interval 4",
        "finished 2",
    ];
    let found = summaries(&events);
    // A new flow has also grown.
    let found: Vec<&str> = found.iter().map(String::as_str).filter(|event| !is_growth_of_new(event)).collect();
    assert_eq!(found, expected);

    let ended = ended_records(&events);
    let named = &ended[&FlowId { key: session_key(5001), epoch: 0 }];
    let name = named.naming.as_ref().and_then(|naming| naming.names.first()).map(|name| name.name.to_string());
    assert_eq!(name.as_deref(), Some("app.example"));
    let unreachable = &ended[&FlowId { key: session_key(5002), epoch: 0 }];
    assert_eq!(unreachable.flow.icmp_error, Some(IcmpError { kind: 3, code: 3 }));
    assert_eq!(report.run.exit, Some(ExitStatus::Code(0)));
    assert_eq!(report.notes.iter().filter(|note| *note == "a note").count(), 1);
    assert_closed(&report);
}

/// The growth with which a flow was opened.
fn is_growth_of_new(event: &str) -> bool {
    ["grew 5001/0 4+2", "grew 5002/0 2+1"].contains(&event)
}

#[test]
fn a_consumer_receives_only_the_kinds_that_it_wants() {
    let mut metering = Metering::new(16);
    let (recorder, recorded) = Recorder::new(EventKinds::FLOW_ENDED.with(EventKinds::NOTE));
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    metering.meter.queue([growth(5001, 4, 0), end(5002, 2, 0, EndReason::IdleTimeout)]);
    metering.session.note("a note".to_owned());
    metering.interval();
    metering.deliver_all();
    metering.finish();
    let (events, _) = recorded.collect();
    let expected = ["note a note", "ended 5002/0 2+1 idle_timeout", "ended 5001/0 4+2 forced_end"];
    assert_eq!(summaries(&events), expected, "the live flow ends with the session");
}

#[test]
fn each_connection_on_a_reused_five_tuple_is_a_flow_with_an_epoch_of_its_own() {
    let mut metering = Metering::new(16);
    let (recorder, recorded) = Recorder::new(EventKinds::FLOW_OPENED.with(EventKinds::FLOW_ENDED));
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    // Within one drain, and from one drain to the next.
    metering.meter.queue([end(5001, 2, 0, EndReason::EndOfFlow), end(5001, 4, 1, EndReason::EndOfFlow)]);
    metering.interval();
    metering.deliver_all();
    metering.meter.queue([growth(5001, 6, 2)]);
    metering.interval();
    metering.deliver_all();
    metering.meter.queue([end(5001, 8, 2, EndReason::IdleTimeout)]);
    let (report, _) = metering.finish();

    let (events, _) = recorded.collect();
    let ended = ended_records(&events);
    let packets: Vec<(u32, u64)> =
        ended.values().map(|record| (record.flow.epoch, record.flow.counters.egress.packets)).collect();
    assert_eq!(packets, [(0, 2), (1, 4), (2, 14)], "counts of one connection are not added to another");
    let opened: BTreeSet<FlowId> = events
        .iter()
        .filter_map(|event| match event {
            Event::FlowOpened(record) => Some(record.id()),
            _ => None,
        })
        .collect();
    assert_eq!(opened.len(), 3, "{:?}", summaries(&events));
    assert_eq!((report.flows.len(), report.endpoints.len()), (3, 1));
    assert_closed(&report);
}

#[test]
fn the_reason_of_the_meter_is_the_end_reason_of_the_flow() {
    let mut metering = Metering::new(16);
    let (recorder, recorded) = Recorder::new(EventKinds::FLOW_ENDED);
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    metering.meter.queue((5000..).zip(EndReason::ALL).map(|(port, reason)| end(port, 2, 0, reason)));
    let (report, _) = metering.finish();
    let (events, _) = recorded.collect();
    let found: Vec<EndReason> = events
        .iter()
        .map(|event| match event {
            Event::FlowEnded(record, reason) if record.flow.ended == Some(*reason) => *reason,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, EndReason::ALL);
    assert_eq!(report.flows.len(), EndReason::ALL.len());
}

#[test]
fn the_oldest_ended_flows_fold_into_their_endpoints_with_exact_totals() {
    const MAX_FLOWS: usize = 4;
    let mut metering = Metering::new(MAX_FLOWS);
    let (recorder, recorded) = Recorder::new(EventKinds::FLOW_ENDED);
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    // One flow is live throughout, and more flows than fit end in one drain.
    metering.meter.queue([growth(4999, 2, 0)]);
    metering.meter.queue((5000..5010).zip(1..).map(|(port, second)| end(port, 10, second, EndReason::EndOfFlow)));
    metering.interval();
    metering.deliver_all();
    metering.meter.queue([growth(4999, 2, 20)]);
    let (report, _) = metering.finish();

    let mut ports: Vec<u16> = report.flows.iter().map(|flow| flow.flow.key.local.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [4999, 5007, 5008, 5009], "the live flow and the newest ended ones");
    assert_eq!((report.folded.flows, report.folded.at_least), (7, false));
    assert_eq!(report.folded.counters.egress.packets, 7 * 10);
    assert_eq!(report.totals.egress.packets, 10 * 10 + 4);
    assert_closed(&report);
    // The consumer received the final record of each, also of those that were evicted before.
    let (events, missed) = recorded.collect();
    let mut ended = ended_records(&events);
    assert_eq!((ended.len(), missed.flows.flows), (11, 0));
    let live = ended.remove(&FlowId { key: session_key(4999), epoch: 0 }).expect("the live flow ends with the session");
    assert_eq!((live.flow.counters.egress.packets, live.flow.ended), (4, None));
    assert!(ended.values().all(|record| record.flow.counters.egress.packets == 10));
}

#[test]
fn new_flows_fold_at_once_while_all_tracked_flows_are_live() {
    let mut metering = Metering::new(2);
    let (recorder, recorded) =
        Recorder::new(EventKinds::FLOW_OPENED.with(EventKinds::INTERVAL).with(EventKinds::SESSION));
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    metering.meter.queue((5000..5005).map(|port| growth(port, 10, 0)));
    metering.interval();
    metering.deliver_all();
    let (report, _) = metering.finish();
    assert_eq!((report.flows.len(), report.folded.flows), (2, 3));
    assert_closed(&report);
    let (events, _) = recorded.collect();
    let intervals: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Interval(interval) => Some(interval.untracked.flows),
            _ => None,
        })
        .collect();
    assert_eq!(intervals, [3, 3], "intervals contain what has no record");
}

#[test]
fn a_slow_consumer_never_blocks_the_session_and_what_it_missed_is_counted() {
    /// More than the session keeps for a consumer that is behind.
    const FLOWS: u64 = 40_000;
    const NOTES: u64 = 6_000;
    let mut metering = Metering::new(100);
    let (mut slow, slow_recorded) = Recorder::new(EventKinds::ALL);
    let (release, held) = mpsc::channel();
    slow.release = Some(held);
    metering.attach(slow);
    metering.session.start(STARTED_NS);
    for number in 0..NOTES {
        metering.session.note(format!("note {number}"));
    }
    // The slow consumer is held in its first batch all the time: if the session waited for it, the
    // test would not end.
    for second in 0..FLOWS / 1000 {
        let ports = (0..1000).map(|number| (second * 1000 + number) as u16);
        metering.meter.queue(ports.map(|port| end(port, 2, second, EndReason::EndOfFlow)));
        metering.interval();
    }
    assert!(slow_recorded.events.try_recv().is_err(), "the consumer has not returned from its first batch");
    drop(release);
    let (report, closed) = metering.finish();
    assert!(closed.into_iter().all(|result| result.is_ok()), "a consumer that is slow does not fail");
    assert_eq!(report.totals.egress.packets, FLOWS * 2);
    assert_closed(&report);

    let (events, missed) = slow_recorded.collect();
    let ended = ended_records(&events);
    let (received, counts) = (ended.len() as u64, missed.flows);
    assert!(received > 0 && counts.flows > 0, "{received} received, {} missed", counts.flows);
    let mut packets = counts.counters.egress.packets;
    ended.values().for_each(|record| packets += record.flow.counters.egress.packets);
    assert_eq!((received + counts.flows, packets), (FLOWS, FLOWS * 2), "each flow was received or counted as missed");
    let notes = events.iter().filter(|event| matches!(event, Event::Note(_))).count() as u64;
    assert!(missed.events > 0);
    assert_eq!(notes + missed.events, NOTES, "each note was received or counted as missed");
    assert!(matches!(events.last(), Some(Event::Finished(_))), "the end is not missed");
}

#[test]
fn a_slow_consumer_delays_only_itself() {
    const FLOWS: u16 = 30_000;
    let mut metering = Metering::new(100);
    let (mut slow, slow_recorded) = Recorder::new(EventKinds::ALL);
    let (release, held) = mpsc::channel();
    slow.release = Some(held);
    metering.attach(slow);
    let (fast, fast_recorded) = Recorder::new(EventKinds::FLOW_ENDED);
    let fast = metering.attach(fast);
    metering.session.start(STARTED_NS);
    for port in 0..FLOWS {
        metering.meter.queue([end(port, 2, 0, EndReason::EndOfFlow)]);
        if port % 1000 == 999 {
            metering.interval();
            while !metering.session.is_delivered(fast) {
                metering.has_room.recv_timeout(WAIT_TIMEOUT).expect("the fast consumer gets room");
                metering.deliver();
            }
        }
    }
    assert!(slow_recorded.events.try_recv().is_err(), "the consumer has not returned from its first batch");
    drop(release);
    metering.finish();
    let (events, missed) = fast_recorded.collect();
    assert_eq!((ended_records(&events).len(), missed.flows.flows), (FLOWS.into(), 0));
}

#[test]
fn a_consumer_that_fails_is_reported_and_the_others_receive_everything() {
    let mut metering = Metering::new(16);
    let (recorder, recorded) = Recorder::new(EventKinds::FLOW_ENDED.with(EventKinds::SESSION));
    let failing = metering.attach(Failing);
    metering.attach(recorder);
    metering.session.start(STARTED_NS);
    metering.meter.queue([end(5001, 2, 0, EndReason::EndOfFlow)]);
    metering.interval();
    // Its feed has room no more once it has failed.
    while !metering.feeds[0].1.has_failed() {
        metering.has_room.recv_timeout(WAIT_TIMEOUT).expect("the consumer fails");
    }
    let failure = metering.feeds[0].1.take_failure().expect("the error of the consumer");
    assert!(failure.to_string().contains("the disk is full"), "{failure}");
    metering.session.detach(failing);
    metering.session.note(failure.to_string());
    for port in 5002..5005 {
        metering.meter.queue([end(port, 2, 1, EndReason::EndOfFlow)]);
        metering.interval();
    }
    assert!(metering.session.is_delivered(failing), "nothing is kept for it any more");
    let (report, closed) = metering.finish();
    assert!(closed.into_iter().all(|result| result.is_ok()), "the failure was already taken");
    assert_eq!(ended_records(&recorded.collect().0).len(), 4);
    assert!(report.notes.iter().any(|note| note.contains("the disk is full")), "{:?}", report.notes);
    assert_closed(&report);
}
