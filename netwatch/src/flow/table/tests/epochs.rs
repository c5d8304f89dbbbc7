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

/// The last increment of an entry that was idle for long: the connection may go on.
fn idle(increment: Increment) -> Increment {
    Increment { connections: 0, counters: PerDirection::default(), is_last: true, ..increment }
}

fn ends(table: &FlowTable) -> Vec<Option<EndReason>> {
    table.flows(ObservationPoint::Link).map(|flow| flow.ended).collect()
}

/// Returns the place of the idle flow that ended before.
fn apply(table: &mut FlowTable, increment: Increment) -> Option<Place> {
    let ended = table.end_idle(&increment);
    table.apply(increment);
    ended
}

#[test]
fn a_connection_after_an_idle_one_is_another_flow_and_ends_it() {
    let mut table = FlowTable::default();
    table.apply(connection(0, 10, 1));
    table.apply(idle(connection(0, 10, 1)));
    assert_eq!(apply(&mut table, connection(0, 400, 2)), Some(0));
    assert_eq!(packets_by_epoch(&table), [(0, 1, 1), (1, 1, 1)]);
    assert_eq!(ends(&table), [Some(EndReason::EndOfFlow), None]);
    assert_eq!(apply(&mut table, connection(1, 500, 3)), None, "the meter ends the flow of an entry that it has");
}

#[test]
fn an_idle_connection_goes_on_in_another_entry_of_any_epoch() {
    let segments = |at_ns| Increment { connections: 0, initial_sequence: None, ..connection(0, at_ns, 0) };
    let mut table = FlowTable::default();
    table.apply(connection(0, 10, 1));
    table.apply(end_of(Increment { superseded: true, ..connection(0, 10, 1) }));
    table.apply(connection(1, 20, 2));
    table.apply(idle(connection(1, 20, 2)));
    table.apply(segments(400));
    table.apply(segments(400));
    assert_eq!(packets_by_epoch(&table), [(0, 1, 1), (1, 3, 1)]);
    assert_eq!(ends(&table), [Some(EndReason::EndOfFlow), None]);
    // Again, with a copy of its SYN.
    table.apply(idle(segments(400)));
    table.apply(connection(0, 800, 2));
    // The next connection begins while the meter has that entry.
    table.apply(connection(1, 900, 3));
    assert_eq!(packets_by_epoch(&table), [(0, 1, 1), (1, 4, 1), (2, 1, 1)]);
}

#[test]
fn other_protocols_than_tcp_go_on_in_another_entry_until_they_are_idle() {
    const SECOND: u64 = 1_000_000_000;
    let mut table = FlowTable::default().with_idle_timeout(Duration::from_secs(60));
    let udp = |seconds| Increment {
        first_seen_ns: seconds * SECOND,
        last_seen_ns: seconds * SECOND,
        is_last: true,
        ..growth(Traffic::Flow(key(17, 1000, 1, 53)), 1)
    };
    [1, 60, 120].into_iter().for_each(|seconds| _ = apply(&mut table, udp(seconds)));
    assert_eq!(packets_by_epoch(&table), [(0, 2, 0), (1, 1, 0)]);
    assert_eq!(ends(&table), [Some(EndReason::IdleTimeout), None]);
}

#[test]
fn a_full_table_evicts_the_connection_that_was_idle_for_longest() {
    let of = |port, at_ns| Increment {
        traffic: Traffic::Flow(key(6, port, 1, 443)),
        ..connection(0, at_ns, u32::from(port))
    };
    let mut table = FlowTable::new(3);
    [1, 2, 3].into_iter().for_each(|port| _ = table.apply(of(port, 10)));
    [3, 1].into_iter().for_each(|port| _ = table.apply(idle(of(port, 10))));
    // It continues, so it is not idle.
    table.apply(Increment { connections: 0, initial_sequence: None, ..of(3, 400) });
    let ports = |table: &FlowTable| {
        let flows = table.flows(ObservationPoint::Link);
        flows.map(|flow| (flow.key.local.port, flow.ended.is_some())).collect::<Vec<_>>()
    };
    assert!(apply(&mut table, of(4, 500)).is_some());
    assert_eq!(ports(&table), [(2, false), (3, false), (4, false)]);
    // All are live, and the meter has their entries.
    assert!(apply(&mut table, of(5, 600)).is_none());
    assert_eq!((table.len(), table.folded().flows, table.untracked().flows), (3, 2, 1));
    // One that ended goes first.
    [3, 2].into_iter().for_each(|port| _ = table.apply(idle(of(port, 10))));
    table.apply(end_of(of(4, 500)));
    assert!(apply(&mut table, of(6, 700)).is_none());
    assert_eq!(ports(&table), [(2, false), (3, false), (6, false)]);
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
