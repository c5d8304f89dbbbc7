//! Successive connections on one key: which flow an increment belongs to.

use super::*;

/// Growth of a TCP entry with this epoch, whose SYN had this sequence number.
fn connection(epoch: u32, at_ns: u64, sequence: u32) -> Increment {
    Increment {
        epoch,
        connections: 1,
        initial_sequence: Some(sequence),
        first_seen_ns: at_ns,
        last_seen_ns: at_ns + 1,
        ..growth(Traffic::Flow(key(6, 1000, 1, 443)), 1)
    }
}

/// The last increment of an entry, without growth.
fn end_of(increment: Increment) -> Increment {
    Increment { connections: 0, counters: PerDirection::default(), ended: Some(EndReason::EndOfFlow), ..increment }
}

fn packets_by_epoch(table: &FlowTable) -> Vec<(u32, u64, u64)> {
    let flows = table.flows(ObservationPoint::Link);
    let mut all: Vec<_> = flows.map(|flow| (flow.epoch, flow.counters.egress.skbs, flow.connections)).collect();
    all.sort_unstable();
    all
}

#[test]
fn entries_of_one_epoch_are_one_flow_and_of_another_epoch_another_one() {
    let mut table = FlowTable::default();
    // Two CPUs added the first connection, one of them with a copy of its SYN.
    table.apply(connection(0, 10, 7));
    table.apply(connection(0, 12, 7));
    table.apply(connection(1, 20, 8));
    // The last packets of the first one, in each of its entries.
    table.apply(Increment { connections: 0, ended: Some(EndReason::EndOfFlow), ..connection(0, 10, 7) });
    table.apply(end_of(connection(0, 12, 7)));
    table.apply(Increment { connections: 0, ..connection(1, 20, 8) });
    assert_eq!(packets_by_epoch(&table), [(0, 3, 1), (1, 2, 1)]);
    let ended: Vec<_> = table.flows(ObservationPoint::Link).map(|flow| flow.ended).collect();
    assert_eq!(ended, [Some(EndReason::EndOfFlow), None]);
}

#[test]
fn the_meter_may_deliver_connections_in_any_order() {
    let mut table = FlowTable::default();
    let connections: Vec<Increment> =
        (0..6).map(|epoch| connection(epoch, 10 * u64::from(epoch) + 10, epoch)).collect();
    for epoch in [2, 5, 0, 3, 4, 1] {
        table.apply(connections[epoch]);
    }
    for epoch in [4, 0, 3, 1, 2] {
        table.apply(Increment { connections: 0, ..connections[epoch] });
        table.apply(end_of(connections[epoch]));
    }
    table.apply(Increment { connections: 0, ..connections[5] });
    let expected: Vec<_> = (0..6).map(|epoch| (epoch, 2, 1)).collect();
    assert_eq!(packets_by_epoch(&table), expected);
    assert_eq!(table.live_places().len(), 1);
    assert_eq!(table.opened(ObservationPoint::Link), 6);
}

#[test]
fn epochs_go_on_when_those_of_the_meter_start_over() {
    let mut table = FlowTable::default();
    for (epoch, at_ns, sequence) in [(0, 10, 1), (1, 20, 2), (0, 30, 3), (1, 40, 4), (0, 50, 5)] {
        let superseded = [10, 30].contains(&at_ns);
        table.apply(connection(epoch, at_ns, sequence));
        table.apply(end_of(Increment { superseded, ..connection(epoch, at_ns, sequence) }));
    }
    // Late segments of the last one, and a copy of its SYN.
    table.apply(Increment { connections: 0, initial_sequence: None, ..connection(0, 60, 0) });
    table.apply(connection(0, 70, 5));
    assert_eq!(packets_by_epoch(&table), [(0, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 3, 1)]);
}

/// After a flow has ended, two connections on its ports begin before the next drain, which may
/// deliver the newer one first.
#[test]
fn two_connections_of_one_drain_after_an_ended_flow_are_two_flows() {
    let first = Increment { superseded: true, ..connection(0, 20, 2) };
    for order in [[first, connection(1, 30, 3)], [connection(1, 30, 3), first]] {
        let mut table = FlowTable::default();
        table.apply(connection(0, 10, 1));
        table.apply(end_of(connection(0, 10, 1)));
        order.into_iter().for_each(|increment| _ = table.apply(increment));
        table.apply(end_of(first));
        table.apply(end_of(connection(1, 30, 3)));
        assert_eq!(packets_by_epoch(&table), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]);
    }
}

/// The entry with the late segments of an ended connection is delivered after that of the next
/// connection, whose epoch leaves room for a connection in between.
#[test]
fn late_segments_open_no_flow() {
    let mut table = FlowTable::default();
    table.apply(connection(0, 10, 1));
    table.apply(end_of(connection(0, 10, 1)));
    table.apply(connection(1, 30, 2));
    table.apply(Increment { connections: 0, initial_sequence: None, ..connection(0, 20, 0) });
    assert_eq!(packets_by_epoch(&table), [(0, 2, 1), (2, 1, 1)]);
}

#[test]
fn a_live_flow_is_found_after_the_next_one_was_evicted() {
    let mut table = FlowTable::new(2);
    table.apply(connection(0, 10, 1));
    table.apply(connection(1, 20, 2));
    table.apply(end_of(connection(1, 20, 2)));
    let evicted = table.apply(growth(Traffic::Flow(key(17, 1, 1, 53)), 1)).evicted.expect("the ended one");
    assert_eq!(evicted.epoch, 1);
    table.apply(end_of(connection(0, 10, 1)));
    assert_eq!(
        table.flow(&key(6, 1000, 1, 443)).map(|flow| (flow.epoch, flow.ended)),
        Some((0, Some(EndReason::EndOfFlow)))
    );
}

#[test]
fn other_protocols_than_tcp_continue_after_an_early_end_until_they_are_idle() {
    const SECOND: u64 = 1_000_000_000;
    let mut table = FlowTable::default().with_idle_timeout(Duration::from_secs(60));
    let udp = |at_ns, ended| Increment {
        first_seen_ns: at_ns,
        last_seen_ns: at_ns,
        ended,
        ..growth(Traffic::Flow(key(17, 1000, 1, 53)), 1)
    };
    // The kernel's table was nearly full.
    table.apply(udp(SECOND, Some(EndReason::LackOfResources)));
    table.apply(udp(60 * SECOND, Some(EndReason::LackOfResources)));
    assert_eq!(table.len(), 1);
    table.apply(udp(120 * SECOND, Some(EndReason::LackOfResources)));
    assert_eq!(packets_by_epoch(&table), [(0, 2, 0), (1, 1, 0)]);
}
