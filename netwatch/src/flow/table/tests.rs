mod epochs;

use proptest::prelude::*;

use super::*;
use crate::flow::{Housekeeping, IcmpError, Malformed, PayloadGrowth, QuotedError, TcpFacts, TransportAddress};

fn key(protocol: u8, local: u16, remote: u8, port: u16) -> FlowKey {
    FlowKey {
        point: ObservationPoint::Link,
        protocol,
        fragment: false,
        local: TransportAddress { addr: [10, 0, 0, 2].into(), port: local },
        remote: TransportAddress { addr: [198, 51, 100, remote].into(), port },
    }
}

fn growth(traffic: Traffic, bytes: u64) -> Increment {
    let counters = Counters { skbs: 1, packets: 2, bytes, wire_bytes: bytes + 54 };
    Increment {
        traffic,
        point: ObservationPoint::Link,
        counters: PerDirection { egress: counters, ingress: Counters::default() },
        payload: PayloadGrowth::default(),
        first_seen_ns: 10,
        last_seen_ns: 20,
        opened_by: Direction::Egress,
        connections: 0,
        initial_sequence: None,
        epoch: 0,
        superseded: false,
        is_last: false,
        ended: None,
        tcp: None,
    }
}

#[test]
fn sums_counters_and_keeps_the_earliest_and_latest_time() {
    let mut table = FlowTable::default();
    let udp = key(17, 1000, 1, 53);
    table.apply(growth(Traffic::Flow(udp), 100));
    table.apply(Increment {
        first_seen_ns: 5,
        last_seen_ns: 15,
        opened_by: Direction::Ingress,
        ..growth(Traffic::Flow(udp), 50)
    });
    let flows: Vec<Flow> = table.flows(ObservationPoint::Link).collect();
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].first_seen_ns, flows[0].last_seen_ns), (5, 20));
    assert_eq!(flows[0].opened_by, Direction::Ingress, "the earliest part decides who opened the flow");
    assert_eq!(flows[0].counters.egress.bytes, 150);
}

#[test]
fn counts_tcp_handshakes_and_other_flows_as_connections() {
    let mut table = FlowTable::default();
    table.apply(Increment { connections: 2, ..growth(Traffic::Flow(key(6, 1000, 1, 443)), 1) });
    table.apply(Increment { connections: 1, ..growth(Traffic::Flow(key(6, 1001, 1, 443)), 1) });
    table.apply(growth(Traffic::Flow(key(17, 1000, 2, 443)), 1));
    table.apply(growth(Traffic::Flow(key(17, 1001, 2, 443)), 1));
    let endpoints = table.endpoints(ObservationPoint::Link);
    assert_eq!(endpoints.iter().map(|e| (e.flows, e.connections)).collect::<Vec<_>>(), [(2, 3), (2, 2)]);
}

#[test]
fn accepts_an_icmp_error_before_its_flow() {
    let mut table = FlowTable::default();
    let udp = key(17, 1000, 1, 9);
    table.note_icmp_error(QuotedError {
        flow: udp,
        error: IcmpError { kind: 3, code: 3 },
        by_target: false,
        time_ns: 15,
    });
    table.apply(growth(Traffic::Flow(udp), 42));
    assert_eq!(table.endpoints(ObservationPoint::Link)[0].failed.unreachable, 1);
    assert_eq!(table.flows(ObservationPoint::Link).next().expect("a flow").failed().unreachable, 1);
}

#[test]
fn ignores_icmp_errors_for_late_answers() {
    let udp = key(17, 1000, 1, 53);
    let error = IcmpError { kind: 3, code: 3 };
    for (opened_by, by_target, unreachable) in
        [(Direction::Egress, true, 0), (Direction::Egress, false, 1), (Direction::Ingress, true, 1)]
    {
        let mut table = FlowTable::default();
        table.note_icmp_error(QuotedError { flow: udp, error, by_target, time_ns: 15 });
        table.apply(Increment { opened_by, ..growth(Traffic::Flow(udp), 42) });
        assert_eq!(
            table.flows(ObservationPoint::Link).next().expect("a flow").failed().unreachable,
            unreachable,
            "{opened_by:?} {by_target}"
        );
    }
}

#[test]
fn folds_flows_beyond_the_limit_and_counts_each_once() {
    let mut table = FlowTable::new(1);
    for local in [1, 2, 3, 2, 3, 1] {
        table.apply(growth(Traffic::Flow(key(17, local, 1, 53)), 100));
    }
    assert_eq!(table.flows(ObservationPoint::Link).len(), 1);
    let folded = table.folded();
    assert_eq!((folded.flows, folded.at_least), (2, false));
    assert_eq!(folded.counters.egress.bytes, 400);
    let endpoints = table.endpoints(ObservationPoint::Link);
    assert_eq!((endpoints.len(), endpoints[0].flows, endpoints[0].connections), (1, 3, 3));
    assert_eq!(endpoints[0].counters.egress.bytes, 600);
}

#[test]
fn bounds_memory_during_a_port_scan() {
    let mut table = FlowTable::new(8);
    for port in 1..=1000 {
        table.apply(growth(Traffic::Flow(key(17, 1, 1, port)), 60));
        table.note_icmp_error(QuotedError {
            flow: key(17, 1, 1, port),
            error: IcmpError { kind: 3, code: 3 },
            by_target: false,
            time_ns: 15,
        });
    }
    assert!(table.endpoints(ObservationPoint::Link).len() <= 17);
    assert!(table.folded().at_least);
    assert_eq!(table.folded().icmp_errors, 992);
    assert_eq!(table.totals(ObservationPoint::Link).egress.bytes, 60_000);
}

#[test]
fn an_endpoint_has_the_median_handshake_time() {
    let mut table = FlowTable::default();
    for (local, rtt) in [(1, 30), (2, 10), (3, 20)] {
        let tcp = Some(TcpFacts { handshake_rtt_ns: Some(rtt), ..TcpFacts::default() });
        table.apply(Increment { tcp, ..growth(Traffic::Flow(key(6, local, 1, 443)), 1) });
    }
    assert_eq!(table.endpoints(ObservationPoint::Link)[0].handshake_rtt_ns, Some(20));
}

#[test]
fn counts_housekeeping_but_not_as_traffic_of_the_target() {
    let mut table = FlowTable::default();
    table.apply(growth(Traffic::Housekeeping(Housekeeping::Arp), 42));
    table.apply(growth(Traffic::Overflow(17), 100));
    assert_eq!(table.totals(ObservationPoint::Link).egress.bytes, 100);
    assert_eq!(table.counted(ObservationPoint::Link).egress.bytes, 142);
}

fn any_traffic() -> impl Strategy<Value = Traffic> {
    let flow = (prop_oneof![Just(1u8), Just(6), Just(17), Just(47)], 0u16..40, 0u8..6, 0u16..6)
        .prop_map(|(protocol, local, remote, port)| Traffic::Flow(key(protocol, local, remote, port)));
    prop_oneof![
        8 => flow,
        1 => Just(Traffic::Housekeeping(Housekeeping::Mld)),
        1 => (0x0600u16..0x0604).prop_map(Traffic::NonIp),
        1 => Just(Traffic::Malformed(Malformed::IpTruncated)),
        1 => (0u8..3).prop_map(Traffic::Overflow),
    ]
}

prop_compose! {
    fn any_counters()(skbs in 0u64..1 << 30, packets in 0u64..1 << 30, bytes in 0u64..1 << 40, wire_bytes in 0u64..1 << 40) -> Counters {
        Counters { skbs, packets, bytes, wire_bytes }
    }
}

prop_compose! {
    fn any_increment()(
        traffic in any_traffic(),
        loopback in any::<bool>(),
        egress in any_counters(),
        ingress in any_counters(),
        first in any::<u64>(),
        last in any::<u64>(),
        opened_in in any::<bool>(),
        connections in 0u32..3,
        ends in prop::option::weighted(0.3, Just(EndReason::IdleTimeout)),
        leaves in any::<bool>(),
    ) -> Increment {
        let point = if loopback { ObservationPoint::Loopback } else { ObservationPoint::Link };
        let traffic = match traffic {
            Traffic::Flow(key) => Traffic::Flow(FlowKey { point, ..key }),
            other => other,
        };
        let opened_by = if opened_in { Direction::Ingress } else { Direction::Egress };
        Increment {
            traffic,
            point,
            counters: PerDirection { egress, ingress },
            payload: PayloadGrowth::default(),
            first_seen_ns: first,
            last_seen_ns: last,
            opened_by,
            connections,
            initial_sequence: None,
            epoch: 0,
            superseded: false,
            is_last: leaves || ends.is_some(),
            ended: ends,
            tcp: None,
        }
    }
}

proptest! {
    /// However much is folded, endpoints add up to flows, flows and remainders to all counted
    /// packets, and these to all increments.
    #[test]
    fn sums_are_exact_however_much_is_folded(
        increments in prop::collection::vec(any_increment(), 0..200),
        max_flows in 0usize..60,
    ) {
        let mut table = FlowTable::new(max_flows);
        for increment in &increments {
            table.apply(*increment);
        }
        for point in [ObservationPoint::Link, ObservationPoint::Loopback] {
            let at_point = |only_flows: bool| -> PerDirection<Counters> {
                let chosen = |i: &&Increment| i.point == point && (!only_flows || matches!(i.traffic, Traffic::Flow(_)));
                increments.iter().filter(chosen).map(|i| i.counters).sum()
            };
            let endpoints: PerDirection<Counters> = table.endpoints(point).iter().map(|e| e.counters).sum();
            prop_assert_eq!(endpoints, at_point(true));
            prop_assert_eq!(table.flows_total(point), at_point(true));
            prop_assert_eq!(table.counted(point), at_point(false));
            let mut assigned = table.flows_total(point);
            assigned += table.remainders(point).sum(|_| true);
            prop_assert_eq!(assigned, at_point(false));
        }
        let own: PerDirection<Counters> = table.flows(ObservationPoint::Link).map(|flow| flow.counters).sum();
        let mut with_folded = own;
        with_folded += table.folded().counters;
        prop_assert_eq!(with_folded, table.flows_total(ObservationPoint::Link));
        prop_assert!(table.len() <= max_flows);
    }
}

/// The last increment of a kernel entry.
fn ending(traffic: Traffic, at_ns: u64, connections: u32) -> Increment {
    Increment {
        first_seen_ns: at_ns,
        last_seen_ns: at_ns + 1,
        connections,
        ended: Some(EndReason::EndOfFlow),
        ..growth(traffic, 100)
    }
}

#[test]
fn a_reused_five_tuple_opens_a_flow_with_a_higher_epoch() {
    let mut table = FlowTable::default();
    let tcp = Traffic::Flow(key(6, 1000, 1, 443));
    for at_ns in [10, 20, 30] {
        table.apply(ending(tcp, at_ns, 1));
    }
    let flows: Vec<Flow> = table.flows(ObservationPoint::Link).collect();
    let seen: Vec<_> = flows.iter().map(|flow| (flow.epoch, flow.serial, flow.connections, flow.ended)).collect();
    let ended = Some(EndReason::EndOfFlow);
    assert_eq!(seen, [(0, 0, 1, ended), (1, 1, 1, ended), (2, 2, 1, ended)]);
    assert_eq!(table.endpoints(ObservationPoint::Link)[0].flows, 3);
}

#[test]
fn adds_late_segments_and_other_parts_of_an_entry_to_the_ended_flow() {
    let mut table = FlowTable::default();
    let tcp = Traffic::Flow(key(6, 1000, 1, 443));
    table.apply(ending(tcp, 10, 1));
    table.apply(Increment { first_seen_ns: 50, last_seen_ns: 60, ..growth(tcp, 1) });
    let udp = Traffic::Flow(key(17, 1000, 1, 53));
    table.apply(ending(udp, 10, 0));
    table.apply(Increment { first_seen_ns: 5, last_seen_ns: 60, ..growth(udp, 1) });
    let flows: Vec<Flow> = table.flows(ObservationPoint::Link).collect();
    let ended: Vec<_> = flows.iter().map(|flow| (flow.epoch, flow.ended)).collect();
    assert_eq!(ended, [(0, None), (0, Some(EndReason::EndOfFlow))], "late segments do not reopen a closed connection");
    table.apply(ending(udp, 100, 0));
    table.apply(ending(udp, 200, 0));
    let epochs: Vec<u32> = table.flows(ObservationPoint::Link).map(|flow| flow.epoch).collect();
    assert_eq!(epochs, [0, 0, 1], "after an idle timeout a datagram opens a new flow");
}

#[test]
fn evicts_the_flow_that_ended_first_and_keeps_live_flows() {
    let mut table = FlowTable::new(3);
    let udp = |local| Traffic::Flow(key(17, local, 1, 53));
    table.apply(growth(udp(1), 100));
    for (local, at_ns) in [(2, 10), (3, 20), (4, 30), (5, 40)] {
        let evicted = table.apply(ending(udp(local), at_ns, 0)).evicted;
        assert_eq!(evicted.map(|flow| flow.key.local.port), [None, None, Some(2), Some(3)][usize::from(local) - 2]);
    }
    let ports: Vec<u16> = table.flows(ObservationPoint::Link).map(|flow| flow.key.local.port).collect();
    assert_eq!(ports, [1, 4, 5]);
    assert_eq!((table.folded().flows, table.untracked().flows), (2, 0));
    let endpoints = table.endpoints(ObservationPoint::Link);
    assert_eq!((endpoints.len(), endpoints[0].flows, endpoints[0].counters.egress.bytes), (1, 5, 500));
}

#[test]
fn a_key_gets_a_new_epoch_after_its_flow_was_folded() {
    let mut table = FlowTable::new(1);
    let udp = |local| Traffic::Flow(key(17, local, 1, 53));
    for (local, at_ns, epoch) in [(1, 10, 0), (1, 20, 1), (2, 30, 0), (1, 40, 2)] {
        table.apply(ending(udp(local), at_ns, 0));
        let newest = table.flow(&key(17, local, 1, 53)).expect("tracked");
        assert_eq!((newest.epoch, newest.first_seen_ns), (epoch, at_ns));
    }
}

#[test]
fn an_untracked_flow_stays_untracked_until_it_ends() {
    let mut table = FlowTable::new(1);
    let udp = |local| Traffic::Flow(key(17, local, 1, 53));
    table.apply(growth(udp(1), 100));
    table.apply(growth(udp(2), 100));
    table.apply(ending(udp(1), 30, 0));
    table.apply(Increment { first_seen_ns: 10, ..ending(udp(2), 40, 0) });
    assert_eq!(table.flows(ObservationPoint::Link).map(|flow| flow.key.local.port).collect::<Vec<_>>(), [1]);
    assert_eq!((table.untracked().flows, table.untracked().counters.egress.bytes), (1, 200));
    let change = table.apply(ending(udp(2), 50, 0)).change;
    assert_eq!((change, table.opened(ObservationPoint::Link)), (FlowChange::Opened, 3));
}

#[test]
fn flows_that_end_and_reopen_again_and_again_take_no_memory() {
    let mut table = FlowTable::default();
    let tcp = |local| Traffic::Flow(key(6, local, 1, 443));
    for round in 0..10_000 {
        for local in 1..=3 {
            table.apply(ending(tcp(local), round, 0));
        }
    }
    assert_eq!(table.len(), 3);
    assert!(table.store.ends_len() <= 1024, "{} entries", table.store.ends_len());
    let evicted: Vec<u16> = std::iter::from_fn(|| table.evict()).map(|(_, flow)| flow.key.local.port).collect();
    assert_eq!(evicted, [1, 2, 3], "in the order in which they ended last");
}

#[test]
fn an_icmp_error_stays_with_its_ended_flow() {
    let mut table = FlowTable::default();
    let udp = key(17, 1000, 1, 9);
    let error = IcmpError { kind: 3, code: 3 };
    table.note_icmp_error(QuotedError { flow: udp, error, by_target: false, time_ns: 15 });
    table.apply(ending(Traffic::Flow(udp), 10, 0));
    table.apply(Increment { first_seen_ns: 100, last_seen_ns: 110, ..growth(Traffic::Flow(udp), 1) });
    let errors: Vec<_> = table.flows(ObservationPoint::Link).map(|flow| flow.icmp_error).collect();
    assert_eq!(errors, [Some(error), None]);
}

fn port_unreachable(flow: FlowKey, time_ns: u64) -> QuotedError {
    QuotedError { flow, error: IcmpError { kind: 3, code: 3 }, by_target: false, time_ns }
}

#[test]
fn an_icmp_error_after_the_end_of_a_flow_belongs_to_the_next_one() {
    let mut table = FlowTable::default();
    let udp = key(17, 1000, 1, 9);
    table.apply(ending(Traffic::Flow(udp), 10, 0));
    assert_eq!(table.note_icmp_error(port_unreachable(udp, 105)), None);
    table.apply(Increment { first_seen_ns: 100, last_seen_ns: 100, ..growth(Traffic::Flow(udp), 1) });
    table.settle_icmp_errors();
    let unreachable: Vec<u64> = table.flows(ObservationPoint::Link).map(|flow| flow.failed().unreachable).collect();
    assert_eq!(unreachable, [0, 1]);
}

#[test]
fn a_late_icmp_error_belongs_to_the_ended_flow_if_no_other_one_begins_before_it() {
    let udp = key(17, 1000, 1, 9);
    let unreachable = |table: &FlowTable| {
        table.flows(ObservationPoint::Link).map(|flow| flow.failed().unreachable).collect::<Vec<_>>()
    };
    let mut table = FlowTable::default();
    table.apply(ending(Traffic::Flow(udp), 10, 0));
    table.note_icmp_error(port_unreachable(udp, 50));
    table.apply(Increment { first_seen_ns: 100, last_seen_ns: 100, ..growth(Traffic::Flow(udp), 1) });
    assert_eq!(unreachable(&table), [1, 0]);
    let mut table = FlowTable::default();
    table.apply(ending(Traffic::Flow(udp), 10, 0));
    table.note_icmp_error(port_unreachable(udp, 50));
    assert!(table.settle_icmp_errors().is_empty(), "the flow of the error may not be drained yet");
    assert_eq!((table.settle_icmp_errors().len(), unreachable(&table)), (1, vec![1]));
}

#[test]
fn an_icmp_error_of_a_folded_flow_stays_with_its_endpoint_and_not_with_the_next_flow() {
    let mut table = FlowTable::new(1);
    let udp = |local| key(17, local, 1, 9);
    table.apply(ending(Traffic::Flow(udp(1)), 10, 0));
    table.apply(ending(Traffic::Flow(udp(2)), 20, 0));
    table.note_icmp_error(port_unreachable(udp(1), 30));
    // The error of a flow that never was.
    table.note_icmp_error(port_unreachable(key(17, 9, 200, 9), 30));
    table.settle_icmp_errors();
    table.settle_icmp_errors();
    assert!(table.icmp_errors.is_empty(), "{:?}", table.icmp_errors);
    assert_eq!(table.folded().icmp_errors, 1, "an error without an endpoint is counted as discarded");
    table.apply(ending(Traffic::Flow(udp(1)), 40, 0));
    assert_eq!(table.flow(&udp(1)).and_then(|flow| flow.icmp_error), None);
    assert_eq!(table.endpoints(ObservationPoint::Link)[0].failed.unreachable, 1);
}

#[test]
fn late_segments_do_not_change_the_end_reason_of_a_closed_flow() {
    let mut table = FlowTable::default();
    let tcp = Traffic::Flow(key(6, 1000, 1, 443));
    let idle =
        |at_ns, connections| Increment { ended: Some(EndReason::IdleTimeout), ..ending(tcp, at_ns, connections) };
    table.apply(ending(tcp, 10, 1));
    table.apply(idle(50, 0));
    assert_eq!(table.flow(&key(6, 1000, 1, 443)).and_then(|flow| flow.ended), Some(EndReason::EndOfFlow));
    // A handshake after a late segment begins another connection.
    table.apply(Increment { ended: None, ..ending(tcp, 60, 0) });
    table.apply(Increment { epoch: 1, ..idle(61, 1) });
    assert_eq!(table.flow(&key(6, 1000, 1, 443)).and_then(|flow| flow.ended), Some(EndReason::IdleTimeout));
    assert_eq!(table.len(), 2);
}

/// An attempt of the target, and a resent SYN if it was not answered.
fn tried(syns: u64, syn_acks: u64, skbs: u64) -> Flow {
    let mut table = FlowTable::default();
    let tcp = TcpFacts {
        syns: PerDirection { egress: syns, ingress: 0 },
        syn_acks: PerDirection { egress: 0, ingress: syn_acks },
        ..TcpFacts::default()
    };
    let counters = PerDirection { egress: Counters { skbs, ..Counters::default() }, ..PerDirection::default() };
    let traffic = Traffic::Flow(key(6, 1000, 1, 443));
    table.apply(Increment { tcp: Some(tcp), connections: 1, counters, ..growth(traffic, 0) });
    table.flows(ObservationPoint::Link).next().expect("a flow")
}

#[test]
fn a_folded_flow_that_is_answered_later_has_not_failed() {
    let (before, now) = (tried(1, 0, 1), tried(2, 1, 3));
    let mut folded = FoldedFlows::default();
    folded.fold_flow(&before);
    assert_eq!((folded.failed(ObservationPoint::Link), folded.link_failed()), (1, 1));
    folded.add_growth(&before, &now);
    assert_eq!((folded.failed(ObservationPoint::Link), folded.link_failed()), (0, 0));
    let (_, endpoint) = folded.endpoints().next().expect("an endpoint");
    assert_eq!((endpoint.flows, endpoint.connections, endpoint.counters.egress.skbs), (1, 1, 3));
    folded.add_growth(&now, &Flow { connections: 2, ..now.clone() });
    assert_eq!(folded.endpoints().next().expect("an endpoint").1.connections, 2);
}

#[test]
fn parts_of_the_same_endpoint_are_added() {
    let mut folded = FoldedFlows::default();
    folded.fold_flow(&tried(1, 0, 5));
    let part: Vec<_> = folded.endpoints().collect();
    let both = FoldedFlows::of_parts([part.clone(), part].concat(), FoldedCounts::default());
    assert_eq!((both.counters(ObservationPoint::Link).egress.skbs, both.link_failed()), (10, 2));
}
