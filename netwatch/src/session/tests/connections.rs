//! Successive connections on one five-tuple.

use super::*;
use crate::name::Segment;

/// The entry of a TCP connection with this epoch and SYN, or of late segments.
fn connection(epoch: u32, at_ns: u64, syn: Option<u32>, ended: Option<EndReason>) -> Increment {
    let tcp = FlowKey { protocol: 6, ..key(1) };
    let connections = u32::from(syn.is_some());
    Increment { traffic: Traffic::Flow(tcp), epoch, initial_sequence: syn, connections, ..growth(1, at_ns, ended) }
}

#[test]
fn a_closed_connection_with_late_segments_ends_once() {
    const CLOSED: Option<EndReason> = Some(EndReason::EndOfFlow);
    let mut session = session(100);
    let outlet = session.attach(FLOWS);
    session.apply(connection(0, 1, Some(7), CLOSED));
    let ended = [("opened", 1, 1), ("ended", 1, 1)];
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), ended);
    session.apply(connection(0, 5, None, None));
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [("grew", 1, 2)]);
    session.apply(connection(0, 5, None, IDLE));
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    assert_eq!(flows(&events), [("grew", 1, 3)]);
    let Some(Event::FlowGrew(record)) = events.last() else { panic!("{events:?}") };
    assert_eq!(record.flow.end_reason(), CLOSED);
    session.conclude(9, None, None);
    assert_eq!(flows(&session.deliver(outlet, 100, GrowthTiming::Now)), [], "it is not live");
}

/// The kernel hands over two connections with one drain, the newer one first.
#[test]
fn each_of_two_connections_in_one_drain_has_its_own_name() {
    let mut session = session(100);
    let flow = FlowKey { protocol: 6, ..key(1) };
    let observe = |session: &mut Session<_>, time_ns, host: &str| {
        let payload = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        session.observe(Observed::Name(NameSample {
            time_ns,
            flow,
            direction: Direction::Egress,
            opened_by: Direction::Egress,
            payload: payload.as_bytes(),
            payload_len: payload.len() as u32,
            tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK }),
        }));
    };
    // A poll delivers notifications before samples.
    [10, 20, 30].into_iter().for_each(|time_ns| session.observe(Observed::Begun { flow, time_ns }));
    observe(&mut session, 11, "first.example");
    observe(&mut session, 22, "second.example");
    let names = |session: &Session<IsolatedScope>| {
        let report = session.report(1, None);
        let name = |known: &report::ReportFlow| known.naming.as_ref().map(|it| it.names.clone());
        let names = report.flows.iter().map(|known| name(known).unwrap_or_default());
        names.map(|names| names.iter().map(|one| one.name.to_string()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let expected = [vec!["first.example".to_owned()], vec!["second.example".to_owned()], vec![]];
    session.apply(connection(2, 30, Some(9), None));
    session.apply(connection(1, 20, Some(8), None));
    session.apply(connection(0, 10, Some(7), None));
    assert_eq!(names(&session), expected);
    session.apply(connection(1, 20, Some(8), Some(EndReason::EndOfFlow)));
    session.apply(connection(0, 10, Some(7), Some(EndReason::EndOfFlow)));
    assert_eq!(names(&session), expected, "also after they ended");
    observe(&mut session, 33, "third.example");
    assert_eq!(names(&session)[2], ["third.example"]);
}
