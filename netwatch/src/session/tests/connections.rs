//! Successive connections on one five-tuple.

use std::net::SocketAddr;

use super::*;
use crate::flow::Protocol;
use crate::name::Segment;
use crate::process::{
    Attribution, ClosedSocket, Evidence, FlowUser, Image, Origin, SocketOperation, SocketUse, ThreadName,
};

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

#[test]
fn a_consumer_of_ends_receives_late_packets_with_another_end() {
    const CLOSED: Option<EndReason> = Some(EndReason::EndOfFlow);
    let mut session = session(100);
    let outlet = session.attach(EventKinds::FLOW_ENDED);
    let next = |session: &mut Session<_>| flows(&session.deliver(outlet, 100, GrowthTiming::Now));
    session.apply(connection(0, 1, Some(7), CLOSED));
    assert_eq!(next(&mut session), [("ended", 1, 1)]);
    session.apply(connection(0, 5, None, None));
    assert_eq!(next(&mut session), [("ended", 1, 2)]);
    session.apply(connection(0, 6, None, IDLE));
    session.conclude(9, None, None);
    assert_eq!(next(&mut session), [("ended", 1, 3)]);
    // Also if the flow is evicted at once.
    session.ledger.max_settled_bytes = 0;
    session.apply(connection(0, 7, None, IDLE));
    assert!(session.ledger.table.is_empty());
    assert_eq!(next(&mut session), [("ended", 1, 4)]);
}

#[test]
fn a_consumer_of_ends_learns_that_an_idle_connection_is_live_again() {
    let mut session = session(100);
    let outlet = session.attach(EventKinds::FLOW_ENDED);
    let next = |session: &mut Session<_>| flows(&session.deliver(outlet, 100, GrowthTiming::Now));
    session.apply(connection(0, 1, Some(7), IDLE));
    assert_eq!(next(&mut session), [("ended", 1, 1)]);
    session.apply(connection(0, 5, None, None));
    assert_eq!(next(&mut session), [("grew", 1, 2)]);
    session.apply(connection(0, 6, None, None));
    assert_eq!(next(&mut session), [], "it is live already");
    session.apply(connection(0, 7, None, IDLE));
    assert_eq!(next(&mut session), [("ended", 1, 4)]);
}

/// Consumers receive the ends of the idle connections that give way to the next ones.
#[test]
fn an_idle_connection_ends_when_another_one_takes_its_ports_or_its_place() {
    let mut session = session(1);
    let outlet = session.attach(FLOWS);
    let idle = |at_ns| Increment { is_last: true, ..connection(0, at_ns, None, None) };
    let next = |session: &mut Session<_>, increment| {
        session.apply(increment);
        let events = session.deliver(outlet, 100, GrowthTiming::Now);
        let reasons: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::FlowEnded(record, _) => record.flow.ended,
                _ => None,
            })
            .collect();
        (flows(&events), reasons)
    };
    next(&mut session, connection(0, 1, Some(7), None));
    assert_eq!(next(&mut session, idle(2)), (vec![("grew", 1, 2)], vec![]));
    let opened = [("ended", 1, 2), ("opened", 1, 1), ("grew", 1, 1)];
    let found = next(&mut session, connection(0, 400, Some(8), None));
    assert_eq!(found, (opened.into(), vec![EndReason::EndOfFlow]));
    next(&mut session, idle(401));
    let opened = [("ended", 1, 2), ("opened", 2, 1), ("grew", 2, 1)];
    let found = next(&mut session, growth(2, 500, None));
    assert_eq!(found, (opened.into(), vec![EndReason::LackOfResources]));
    assert_eq!(session.report(9, None).folded.flows, 2);
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
            tcp: Some(Segment { sequence: 1, flags: netwatch_common::tcp::ACK, acknowledgment: None }),
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

/// Late segments get an entry of their own, when the socket of the connection is forgotten. They do
/// not change how its process is known.
#[test]
fn late_segments_leave_the_process_of_a_connection() {
    const CLOSED: Option<EndReason> = Some(EndReason::EndOfFlow);
    let mut session = session(100);
    session.set_attribution(Attribution::On);
    let flow = FlowKey { protocol: 6, ..key(1) };
    for (pid, name) in [(1, "command"), (2, "client")] {
        let origin = Origin { start_ns: 1, ppid: 0, maker: 0 };
        let image = Image { comm: name.into(), ..Image::default() };
        process_event(&mut session, pid, 1, ProcessAction::Exec(origin, image));
    }
    let (protocol, cookie, netns) = (Some(Protocol::TCP), 7, 0);
    let address = Some(SocketAddr::new(flow.remote.addr, flow.remote.port));
    let connects = SocketUse { cookie, netns, protocol, address };
    process_event(&mut session, 2, 9, ProcessAction::SocketUse(SocketOperation::Connect, connects));
    session.observe(Observed::Socket { flow, cookie });
    let (local, remote) = (Some(flow.local), Some(flow.remote));
    let closed = ClosedSocket { cookie, netns, protocol, local, remote };
    process_event(&mut session, 2, 11, ProcessAction::ClosedSocket(closed));
    let users = |session: &Session<IsolatedScope>| {
        let report = session.report(1, None);
        let user = |user: &FlowUser| (report.processes.list[user.process.0 as usize].comm.clone(), user.evidence);
        report.flows[0].users.iter().map(user).collect::<Vec<_>>()
    };
    let expected = [("client".to_owned(), Evidence::Socket)];
    session.apply(connection(0, 10, Some(7), CLOSED));
    assert_eq!(users(&session), expected);
    for at_ns in [3_000_000_000, 6_000_000_000] {
        session.apply(connection(0, at_ns, None, CLOSED));
        assert_eq!(users(&session), expected);
    }
}

fn process_event(session: &mut Session<IsolatedScope>, pid: u32, time_ns: u64, action: ProcessAction) {
    let comm = ThreadName::from("thread");
    let event = ProcessEvent { time_ns, start_ns: 1, pid, tid: pid, program: 1, uid: 0, comm, action };
    session.observe(Observed::Process(event, &mut NoSystem));
}
