//! Successive connections on one five-tuple: which SYNs begin another connection, and that no
//! packet is counted under an earlier one, whichever CPU counts it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use netwatch_common::flow::FlowValue;
use netwatch_common::parse::{Hook, Meta};

use super::checked::{CheckedMeter, FeedPoint};
use super::frames::{ipv4, reversed, tcp_numbered, tcp_stamped, udp};
use super::reference::ReferenceMeter;
use super::{
    EntryId, KernelMeterConfig, assert_same, drained, meter_with, run, stay_on_one_cpu, tables, without_front,
};
use crate::flow::{EndReason, FlowTable, Increment, ObservationPoint};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// No samples: packets of known flows take the short path at once.
const PLAIN: fn() -> KernelMeterConfig = || KernelMeterConfig { sample_budget: 0, ..KernelMeterConfig::default() };

/// A packet of the client.
fn there(flags: u8, sequence: u32, acknowledgment: u32, payload: usize) -> (bool, Vec<u8>) {
    (false, ipv4(6, &tcp_numbered(flags, sequence, acknowledgment, payload)))
}

/// A packet of the server.
fn back(flags: u8, sequence: u32, acknowledgment: u32, payload: usize) -> (bool, Vec<u8>) {
    (true, reversed(&there(flags, sequence, acknowledgment, payload).1))
}

/// A packet of the client with a timestamp.
fn stamped(flags: u8, sequence: u32, timestamp: u32) -> (bool, Vec<u8>) {
    (false, ipv4(6, &tcp_stamped(flags, sequence, timestamp)))
}

type Packets = Vec<(bool, Vec<u8>)>;

/// A handshake and 100 bytes, by a client with this initial sequence number: five packets.
fn opened(isn: u32) -> Packets {
    vec![
        there(SYN, isn, 0, 0),
        back(SYN | ACK, 5000, isn + 1, 0),
        there(ACK, isn + 1, 5001, 0),
        there(ACK, isn + 1, 5001, 100),
        back(ACK, 5001, isn + 101, 0),
    ]
}

/// As [`opened`], then FINs by both sides: eight packets. The next sequence number is `isn` + 102.
fn closed(isn: u32) -> Packets {
    let end =
        [back(FIN | ACK, 5001, isn + 101, 0), there(FIN | ACK, isn + 101, 5002, 0), back(ACK, 5002, isn + 102, 0)];
    [opened(isn), end.into()].concat()
}

/// A name, packets, and the number of packets of each connection.
type Case = (&'static str, Packets, &'static [u64]);

/// Connections that were closed, or whose end was not observed.
fn after_a_connection() -> Vec<Case> {
    let then = |first: Packets, more: &[(bool, Vec<u8>)]| [first, more.into()].concat();
    let stamped_fin =
        |timestamp| then(opened(1000), &[stamped(FIN | ACK, 1101, timestamp), back(FIN | ACK, 5001, 1102, 0)]);
    vec![
        ("SYN in TIME-WAIT", then(closed(1000), &opened(9000)), &[8, 5]),
        ("SYN in TIME-WAIT with the next number", then(closed(1000), &opened(1102)), &[8, 5]),
        ("SYN in TIME-WAIT with an old number", then(closed(1000), &[there(SYN, 1101, 0, 0)]), &[9]),
        ("SYN across the wraparound", then(closed(u32::MAX - 500), &opened(100)), &[8, 5]),
        ("a copy of the SYN after the end", then(closed(1000), &[there(SYN, 1000, 0, 0)]), &[9]),
        ("an old number with a later timestamp", then(stamped_fin(700), &[stamped(SYN, 20, 701)]), &[7, 1]),
        ("a new number with an earlier timestamp", then(stamped_fin(700), &[stamped(SYN, 9000, 699)]), &[8]),
        ("a new number with the same timestamp", then(stamped_fin(700), &[stamped(SYN, 9000, 700)]), &[7, 1]),
        ("an old number with the same timestamp", then(stamped_fin(700), &[stamped(SYN, 20, 700)]), &[8]),
        ("timestamps only in the next connection", then(closed(1000), &[stamped(SYN, 20, 1)]), &[8, 1]),
        ("SYN after RST", then(opened(1000), &[back(RST, 5001, 0, 0), there(SYN, 20, 0, 0)]), &[6, 1]),
        ("three connections", [closed(1000), closed(9000), closed(20_000)].concat(), &[8, 8, 8]),
        (
            "late segments",
            then(closed(1000), &[there(SYN, 9000, 0, 0), back(FIN | ACK, 5001, 1101, 0), there(SYN, 9000, 0, 0)]),
            &[8, 3],
        ),
        ("the end was not observed", then(opened(1000), &opened(9000)), &[5, 5]),
        ("an old SYN while the connection is open", then(opened(1000), &[there(SYN, 500, 0, 0)]), &[6]),
        ("the server opens the next one", then(closed(1000), &[back(SYN, 9000, 0, 0)]), &[8, 1]),
        (
            "late segments of a connection that was retired",
            vec![back(FIN | ACK, 5001, 1, 0), there(SYN, 9000, 0, 0), back(SYN | ACK, 1, 9001, 0)],
            &[1, 2],
        ),
    ]
}

/// Handshakes that were not finished.
fn during_a_handshake() -> Vec<Case> {
    vec![
        ("a repeated SYN", vec![there(SYN, 10, 0, 0), there(SYN, 10, 0, 0)], &[2]),
        ("another attempt without an answer", vec![there(SYN, 10, 0, 0), there(SYN, 7, 0, 0)], &[1, 1]),
        (
            "refused, and tried again",
            vec![there(SYN, 10, 0, 0), back(RST | ACK, 0, 11, 0), there(SYN, 99, 0, 0)],
            &[2, 1],
        ),
        ("refused, and repeated", vec![there(SYN, 10, 0, 0), back(RST | ACK, 0, 11, 0), there(SYN, 10, 0, 0)], &[3]),
        (
            "a late RST of an earlier connection, and a repeated SYN",
            vec![there(SYN, 10, 0, 0), back(RST, 5001, 0, 0), there(SYN, 10, 0, 0)],
            &[3],
        ),
        (
            "the other end has an old connection",
            vec![
                there(SYN, 10, 0, 0),
                back(ACK, 777, 555, 0),
                there(RST, 555, 0, 0),
                there(SYN, 10, 0, 0),
                back(SYN | ACK, 888, 11, 0),
            ],
            &[5],
        ),
        (
            "a simultaneous open",
            vec![
                there(SYN, 10, 0, 0),
                back(SYN, 90, 0, 0),
                back(SYN, 90, 0, 0),
                there(SYN | ACK, 10, 91, 0),
                back(SYN | ACK, 90, 11, 0),
                there(ACK, 11, 91, 100),
            ],
            &[6],
        ),
        (
            "a SYN that was captured after its answer",
            vec![back(SYN | ACK, 90, 11, 0), there(SYN, 10, 0, 0), there(ACK, 11, 91, 0)],
            &[3],
        ),
        (
            "an answer from nowhere, refused",
            vec![back(SYN | ACK, 90, 11, 0), there(RST, 11, 0, 0), there(SYN, 10, 0, 0)],
            &[2, 1],
        ),
    ]
}

/// All these frames, as seeds of random ones.
pub(super) fn frames() -> impl Iterator<Item = Vec<u8>> {
    let cases = after_a_connection().into_iter().chain(during_a_handshake());
    cases.flat_map(|(_, packets, _)| packets).map(|(_, frame)| frame)
}

/// Kernel and user space agree bit for bit, at every hook, with and without the front.
#[test]
fn a_syn_that_the_ends_accept_begins_another_flow() {
    stay_on_one_cpu();
    for config in [PLAIN(), without_front()] {
        for (name, packets, expected) in after_a_connection().into_iter().chain(during_a_handshake()) {
            for hooks in [HOOKS, [HOOKS[1], HOOKS[0]], [("loopback", Hook::Loopback); 2]] {
                let Some(mut meter) = meter_with(&config) else { return };
                let mut host = ReferenceMeter::default();
                host.config.sample_budget = config.sample_budget;
                for (is_back, frame) in &packets {
                    let (program, hook) = hooks[usize::from(*is_back)];
                    run(&meter, program, frame, &Meta::default()).expect("runs");
                    host.run(frame, &Meta::default(), hook);
                }
                assert_same(without_round_trips(tables(&mut meter)), without_round_trips(host.entries), name);
                let all = [drained(&mut meter), drained(&mut meter)].concat();
                assert_eq!(packets_by_epoch(&all), expected, "{name}, {hooks:?}");
                let table = applied(&all);
                let flows: Vec<_> =
                    table.flows(ObservationPoint::Link).chain(table.flows(ObservationPoint::Loopback)).collect();
                let packets: Vec<u64> = flows.iter().map(|flow| flow.counters.both().packets).collect();
                assert_eq!(packets, expected, "{name}: one flow per connection");
                assert!(flows.iter().all(|flow| flow.connections() <= 1), "{name}");
            }
        }
    }
}

/// They are measured about once a second, with different clocks.
fn without_round_trips(mut entries: HashMap<EntryId, FlowValue>) -> HashMap<EntryId, FlowValue> {
    entries.values_mut().for_each(|value| value.round_trips = Default::default());
    entries
}

const HOOKS: [(&str, Hook); 2] = [("link_egress", Hook::FromTarget), ("link_ingress", Hook::ToTarget)];

/// Packets by the epoch of their entry.
fn packets_by_epoch(increments: &[Increment]) -> Vec<u64> {
    let mut packets = Vec::new();
    for one in increments {
        let epoch = one.epoch as usize;
        packets.resize(packets.len().max(epoch + 1), 0);
        packets[epoch] += one.counters.both().packets;
    }
    packets
}

/// A flow table with these increments.
fn applied(increments: &[Increment]) -> FlowTable {
    let mut table = FlowTable::default();
    increments.iter().for_each(|increment| drop(table.apply(*increment)));
    table
}

/// An entry that was superseded leaves the table with the drain that hands it over.
#[test]
fn an_earlier_connection_ends_when_the_next_one_begins() {
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    [opened(1000), opened(9000)].concat().iter().for_each(|(is_back, frame)| {
        run(&meter, HOOKS[usize::from(*is_back)].0, frame, &Meta::default()).expect("runs");
    });
    let mut ended: Vec<_> = drained(&mut meter).iter().map(|one| (one.epoch, one.ended)).collect();
    ended.sort_unstable();
    assert_eq!(ended, [(0, None), (0, Some(EndReason::EndOfFlow)), (1, None)]);
    assert_eq!(meter.table.lock().flows.live(), 2, "entries before the drain retired one");
    assert_eq!(drained(&mut meter), []);
    assert_eq!(meter.table.lock().flows.live(), 1);
}

/// Pins the thread to the `index`th CPU that it may use, or to the last one.
fn stay_on_cpu(index: usize) {
    let this_thread = nix::unistd::Pid::from_raw(0);
    let affinity = nix::sched::sched_getaffinity(this_thread).expect("an affinity");
    let cpus = (0..nix::sched::CpuSet::count()).filter(|&cpu| affinity.is_set(cpu).unwrap_or(false));
    let mut one = nix::sched::CpuSet::new();
    one.set(cpus.take(index + 1).last().expect("a CPU")).expect("a CPU");
    nix::sched::sched_setaffinity(this_thread, &one).expect("moved");
}

/// Feeds packets on a CPU.
fn feed(points: &[FeedPoint; 2], cpu: usize, packets: &[(bool, Vec<u8>)]) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on_cpu(cpu);
            for (is_back, frame) in packets {
                points[usize::from(*is_back)].run(frame, &[], 1).expect("runs");
            }
        });
    });
}

/// One CPU has a slot of a connection; the next connection begins on another CPU, and its packets
/// arrive on the first one. The kernel runs a classifier on the CPU of the caller
/// (`BPF_F_TEST_RUN_ON_CPU` is for other programs), so each thread stays on one CPU.
#[test]
fn a_slot_of_an_earlier_connection_counts_no_packet_of_the_next_one() {
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let points = HOOKS.map(|(name, _)| meter.feed_point(name));
    let data = |isn: u32, number: u32| there(ACK, isn + 1 + 100 * number, 5001, 100);
    let mut isn = 1000;
    for round in 0..8 {
        let [slot, other] = [round % 2, 1 - round % 2];
        feed(&points, slot, &opened(isn));
        feed(&points, slot, &(1..9).map(|number| data(isn, number)).collect::<Vec<_>>());
        let next = isn + 10_000;
        feed(&points, other, &[there(SYN, next, 0, 0), back(SYN | ACK, 9000, next + 1, 0)]);
        feed(&points, slot, &(0..7).map(|number| data(next, number)).collect::<Vec<_>>());
        let mut ended: Vec<_> = drained(&mut meter).into_iter().filter(|one| one.counters.both().packets > 0).collect();
        ended.sort_unstable_by_key(|one| one.epoch);
        let packets: Vec<u64> = ended.iter().map(|one| one.counters.both().packets).collect();
        assert_eq!(packets, [5 + 8, 2 + 7], "round {round}");
        meter.table.lock().flows.retire_all(true);
        drained(&mut meter);
        meter.table.lock().flows.retire_all(false);
        isn = next + 10_000;
    }
}

/// One CPU opens and resets connections on a five-tuple while another one counts segments of it,
/// and drains retire the old entries meanwhile: every packet is counted, every connection is one
/// flow, and segments open none.
#[test]
fn connections_replace_each_other_while_cpus_count_and_drains_run() {
    const CONNECTIONS: u32 = 3000;
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let points = HOOKS.map(|(name, _)| meter.feed_point(name));
    feed(&points, 0, &opened(0));
    let (done, mut table) = (AtomicBool::new(false), FlowTable::new(1 << 16));
    let drain = |meter: &mut CheckedMeter, table: &mut FlowTable| {
        meter.drain(&mut |increment| drop(table.apply(increment))).expect("drained");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on_cpu(0);
            for number in 1..=CONNECTIONS {
                let isn = number * 10_000;
                let packets = [there(RST, isn, 0, 0), there(SYN, isn, 0, 0), there(ACK, isn + 1, 5001, 100)];
                packets.iter().for_each(|(_, frame)| points[0].run(frame, &[], 1).expect("runs"));
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            stay_on_cpu(1);
            let (_, segment) = back(ACK, 5001, 1, 1);
            while !done.load(Ordering::Acquire) {
                points[1].run(&segment, &[], 1).expect("runs");
            }
        });
        while !done.load(Ordering::Acquire) {
            drain(&mut meter, &mut table);
        }
    });
    drain(&mut meter, &mut table);
    let flows: Vec<_> = table.flows(ObservationPoint::Link).collect();
    assert_eq!(flows.len(), CONNECTIONS as usize + 1, "{:?}", meter.lost());
    let connections: u64 = flows.iter().map(|flow| flow.connections()).sum();
    assert_eq!(connections, u64::from(CONNECTIONS) + 1);
    let ids: std::collections::BTreeSet<_> = flows.iter().map(|flow| flow.id()).collect();
    assert_eq!(ids.len(), flows.len(), "each flow has an id of its own");
}

/// Without room for another entry, the SYN is counted by protocol and reported.
#[test]
fn a_connection_without_room_for_an_entry_is_reported() {
    stay_on_one_cpu();
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: 1, ..PLAIN() }) else { return };
    let datagram = ipv4(17, &udp(443, 10));
    [closed(1000), vec![there(SYN, 9000, 0, 0)]].concat().iter().for_each(|(is_back, frame)| {
        run(&meter, HOOKS[usize::from(*is_back)].0, frame, &Meta::default()).expect("runs");
    });
    run(&meter, "link_egress", &datagram, &Meta::default()).expect("runs");
    let lost = meter.lost().expect("readable");
    assert_eq!(lost.table_full, 2, "{lost:?}");
    let packets: Vec<u64> = drained(&mut meter).iter().map(|one| one.counters.both().packets).collect();
    assert_eq!(packets, [8, 1, 1]);
}
