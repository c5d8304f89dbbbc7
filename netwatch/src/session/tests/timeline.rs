//! The series of a session: its sums are the numbers of the report.

use proptest::prelude::*;

use super::*;
use crate::flow::{RoundTripTimes, TcpFacts};
use crate::report::{Report, TimeHistogram};

const SECOND: u64 = 1_000_000_000;
const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;
const FIN: u8 = 1;

fn tcp_key(port: u16) -> FlowKey {
    FlowKey { protocol: 6, ..key(port) }
}

/// What the remote did with a connection attempt.
#[derive(Debug, Clone, Copy)]
enum Remote {
    Accepts,
    Closes,
    Refuses,
    Ignores,
    /// An ICMP error.
    IsUnreachable,
}

fn facts(remote: Remote, syns: u64, retransmitted: u64) -> TcpFacts {
    let one = |is_set: bool| PerDirection { egress: 0, ingress: u64::from(is_set) };
    let is_answered = matches!(remote, Remote::Accepts | Remote::Closes);
    TcpFacts {
        flags: match remote {
            Remote::Accepts => PerDirection { egress: SYN | ACK, ingress: SYN | ACK },
            Remote::Closes => PerDirection { egress: SYN | ACK | FIN, ingress: SYN | ACK | FIN },
            Remote::Refuses => PerDirection { egress: SYN, ingress: RST | ACK },
            Remote::Ignores | Remote::IsUnreachable => PerDirection { egress: SYN, ingress: 0 },
        },
        handshake_rtt_ns: is_answered.then_some(40_000),
        syns: PerDirection { egress: syns, ingress: 0 },
        syn_acks: one(is_answered),
        resets: one(matches!(remote, Remote::Refuses)),
        retransmitted_packets: PerDirection { egress: retransmitted, ingress: 0 },
        round_trips: match is_answered {
            true => RoundTripTimes { count: 2, sum_ns: 90_000, min_ns: Some(40_000) },
            false => RoundTripTimes::default(),
        },
        ..TcpFacts::default()
    }
}

fn attempt(port: u16, at_ns: u64, tcp: TcpFacts, ended: Option<EndReason>) -> Increment {
    let connections = u32::from(*tcp.syns.of(Direction::Egress) > 0);
    Increment { traffic: Traffic::Flow(tcp_key(port)), connections, tcp: Some(tcp), ..growth(port, at_ns, ended) }
}

/// The sum of a number over the series.
fn sum(report: &Report, number: impl Fn(&report::Interval) -> u64) -> u64 {
    report.series.intervals.iter().map(number).sum()
}

fn failed(report: &Report) -> u64 {
    let own = report.endpoints.iter().filter(|known| known.endpoint.key.direction == Direction::Egress);
    own.map(|known| known.endpoint.failed.attempts()).sum()
}

/// A SYN, then a second part, and whether the meter ends the flow; and how often the session drains
/// after each.
type Script = Vec<(Remote, bool, bool, u8)>;

fn scripts() -> impl Strategy<Value = Script> {
    let remote = prop_oneof![
        Just(Remote::Accepts),
        Just(Remote::Closes),
        Just(Remote::Refuses),
        Just(Remote::Ignores),
        Just(Remote::IsUnreachable)
    ];
    prop::collection::vec((remote, any::<bool>(), any::<bool>(), 0..3_u8), 1..40)
}

fn play(script: &Script, max_flows: usize) -> Report {
    let mut session = session(max_flows);
    let mut now_ns = 0;
    for (port, (remote, is_repeated, is_ended, drains)) in (1..).zip(script) {
        let mut drain = |session: &mut Session<_>| {
            for drain in 0..*drains {
                now_ns += SECOND / 10;
                session.set_usage(
                    Some(ResourceUsage { user_ns: now_ns / 2, system_ns: 7, memory_peak: None }),
                    Some(port.into()),
                );
                if drain == 0 { session.end_step(now_ns) } else { session.end_interval(now_ns) }
            }
        };
        let at_ns = 1_000 + u64::from(port) * 1_000;
        session.apply(attempt(port, at_ns, facts(Remote::Ignores, 1, 0), None));
        drain(&mut session);
        if matches!(remote, Remote::IsUnreachable) {
            let error = IcmpError { kind: 3, code: 1 };
            session.observe(Observed::IcmpError(QuotedError {
                flow: tcp_key(port),
                error,
                by_target: false,
                time_ns: at_ns + 1,
            }));
        }
        let ended = is_ended.then_some(EndReason::IdleTimeout);
        let again = facts(*remote, u64::from(*is_repeated), port.into());
        session.apply(Increment { first_seen_ns: at_ns, connections: 0, ..attempt(port, at_ns + 2, again, ended) });
        drain(&mut session);
    }
    session.conclude(now_ns + 5, None, None)
}

proptest! {
    #[test]
    fn the_sums_are_the_numbers_of_the_report(script in scripts(), max_flows in prop_oneof![Just(100_usize), 1..10_usize]) {
        let report = play(&script, max_flows);
        let totals: PerDirection<Counters> = report.series.intervals.iter().map(|one| one.totals).sum();
        prop_assert_eq!(totals, report.totals);
        prop_assert_eq!(sum(&report, |one| one.opened), report.flows.len() as u64 + report.folded.flows);
        prop_assert_eq!(sum(&report, |one| one.failed), failed(&report));
        prop_assert_eq!(sum(&report, |one| one.cpu_ns), report.run.usage.map_or(0, |usage| usage.user_ns + usage.system_ns));
        let retransmitted: u64 = (1..).zip(&script).map(|(port, _)| port).sum();
        prop_assert_eq!(sum(&report, |one| one.retransmitted), retransmitted, "folded flows included");
        prop_assert_eq!(sum(&report, |one| one.tcp_packets), 2 * script.len() as u64);
        if max_flows == 100 {
            let is_connection = |known: &&report::ReportFlow| known.flow.failed().attempts() == 0;
            let connections = report.flows.iter().filter(is_connection).count() as u64;
            prop_assert_eq!(sum(&report, |one| one.connections), connections);
            let open = report.flows.iter().filter(is_connection).filter(|known| known.flow.ended.is_none()).count() as u64;
            prop_assert_eq!(connections - sum(&report, |one| one.closed), open);
        }
        let mut connect = TimeHistogram::default();
        report.series.intervals.iter().for_each(|one| connect.merge(&one.connect));
        let is_answered = |(remote, ..): &&(Remote, bool, bool, u8)| matches!(remote, Remote::Accepts | Remote::Closes);
        prop_assert_eq!(connect.count(), script.iter().filter(is_answered).count() as u64, "folded flows included");
    }
}

#[test]
fn consumers_receive_all_steps_of_an_interval() {
    let mut session = session(100);
    let outlet = session.attach(EventKinds::INTERVAL);
    for step in 1..=9 {
        session.apply(growth(1, step, None));
        session.end_step(step * SECOND / 10);
    }
    assert!(session.deliver(outlet, 100, GrowthTiming::Now).is_empty());
    session.apply(growth(1, 10, None));
    session.end_interval(SECOND);
    let events = session.deliver(outlet, 100, GrowthTiming::Now);
    let [Event::Interval(interval)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((interval.series.from_ns, interval.series.intervals.len()), (Some(1_000), 10));
}

#[test]
fn an_attempt_that_is_answered_late_is_taken_back() {
    let mut session = session(100);
    session.apply(attempt(1, 1, facts(Remote::Ignores, 2, 0), None));
    session.end_interval(SECOND);
    assert_eq!(session.series().intervals.iter().map(|one| one.failed).collect::<Vec<_>>(), [1]);
    let accepted = attempt(1, 2, facts(Remote::Accepts, 0, 0), None);
    session.apply(Increment { first_seen_ns: 1, connections: 0, ..accepted });
    session.end_interval(2 * SECOND);
    let numbers: Vec<_> =
        session.series().intervals.iter().map(|one| (one.failed, one.connections, one.open)).collect();
    assert_eq!(numbers, [(0, 0, 0), (0, 1, 1)]);
}
