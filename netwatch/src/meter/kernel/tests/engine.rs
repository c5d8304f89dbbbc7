//! Tests of the flow table and the fronts in situations that could lose packets: many flows,
//! several CPUs, concurrent drains, a full table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netwatch_common::parse::{Hook, Meta};
use netwatch_common::{hash, table};

use super::checked::{CheckedMeter, FeedPoint};
use super::frames::{ipv4, reversed, tcp_numbered, udp};
use super::reference::ReferenceMeter;
use super::{KernelMeterConfig, assert_same, drained, meter_with, run, stay_on_one_cpu, tables};
use crate::flow::{EndReason, Increment, Traffic};
use crate::meter::{DrainProgress, Notification, SampleReason};

const ACK: u8 = 0x10;
const RST: u8 = 0x04;
/// No samples: packets of known flows take the short path at once.
pub(super) const PLAIN: fn() -> KernelMeterConfig =
    || KernelMeterConfig { sample_budget: 0, ..KernelMeterConfig::default() };

/// A UDP datagram of flow `number`.
pub(super) fn datagram(number: u32) -> Vec<u8> {
    let mut frame = ipv4(17, &udp(443, 10));
    frame[28..30].copy_from_slice(&((number >> 14) as u16).to_be_bytes());
    frame[34..36].copy_from_slice(&(1024 + (number & 0x3fff) as u16).to_be_bytes());
    frame
}

pub(super) fn repeat(entry: &FeedPoint, frame: &[u8], times: u32) {
    entry.run(frame, &[], times).expect("runs");
}

#[derive(Default)]
struct PacketSums(HashMap<Traffic, u64>);

impl PacketSums {
    fn drain(&mut self, meter: &mut CheckedMeter) {
        let add = &mut |one: Increment| *self.0.entry(one.traffic).or_default() += one.counters.egress.packets;
        meter.drain(add).expect("drained");
    }

    fn flows(&self) -> Vec<u64> {
        self.0.iter().filter(|(traffic, _)| matches!(traffic, Traffic::Flow(_))).map(|(_, &packets)| packets).collect()
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[test]
fn no_packet_is_lost_while_cpus_count_and_drains_run() {
    let Some(meter) = meter_with(&PLAIN()) else { return };
    count_while_draining(meter);
}

/// Two CPUs count packets of shared and of separate flows, while the meter drains continuously and
/// sometimes retires all flows.
pub(super) fn count_while_draining(mut meter: CheckedMeter) {
    const ROUNDS: u32 = 300;
    const TIMES: u32 = 20;
    const FLOWS: u32 = 256;
    let entry = meter.feed_point("link_egress");
    let (done, mut sums, mut drains) = (AtomicBool::new(false), PacketSums::default(), 0_u32);
    std::thread::scope(|scope| {
        let send = |first: u32| {
            let frames: Vec<_> = (first..first + FLOWS).map(datagram).collect();
            for round in 0..ROUNDS {
                frames.iter().skip((round % 4) as usize).step_by(4).for_each(|frame| repeat(&entry, frame, TIMES));
            }
        };
        // Half of the flows are used by both threads.
        let threads = [scope.spawn(move || send(0)), scope.spawn(move || send(FLOWS / 2))];
        let done = &done;
        scope.spawn(move || {
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            meter.table.lock().flows.retire_all(drains.is_multiple_of(16));
            meter.poll(&mut drop).expect("no error of a growth");
            sums.drain(&mut meter);
            drains += 1;
        }
    });
    sums.drain(&mut meter);
    assert_eq!(sums.total(), u64::from(2 * ROUNDS * FLOWS / 4 * TIMES), "after {drains} drains");
    let one = u64::from(ROUNDS / 4 * TIMES);
    let flows = sums.flows();
    let (single, double) = (flows.iter().filter(|&&sum| sum == one), flows.iter().filter(|&&sum| sum == 2 * one));
    let lost = meter.lost().expect("readable");
    let exact = (single.count(), double.count());
    assert_eq!(exact, (FLOWS as usize, FLOWS as usize / 2), "every flow is exact: {lost:?}, {} flows", flows.len());
    // The number depends on the load of the machine; under emulation it may be one.
    assert!(drains > 0, "{drains} drains");
}

/// The last increment of an entry has the end reason, even if nothing grew since the previous
/// drain.
#[test]
fn retired_entries_are_handed_over_with_their_end_reason() {
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let entry = meter.feed_point("link_egress");
    repeat(&entry, &datagram(0), 3);
    repeat(&entry, &ipv4(6, &tcp_numbered(RST, 1, 1, 0)), 1);
    let first = reasons(&drained(&mut meter));
    assert_eq!(first, [(6, 1, None), (17, 3, None)], "both are open");
    meter.table.lock().flows.retire_all(true);
    let last = reasons(&drained(&mut meter));
    assert_eq!(last, [(6, 0, Some(EndReason::EndOfFlow)), (17, 0, Some(EndReason::IdleTimeout))]);
    assert_eq!(drained(&mut meter), [], "both are retired");
}

/// A table is read and retired in parts, between which the caller polls the rings. Every flow is
/// handed over once, whichever part it is in.
#[test]
fn flows_are_read_and_retired_in_parts() {
    const FLOWS: u32 = 10_000;
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let entry = meter.feed_point("link_egress");
    (0..FLOWS).for_each(|number| repeat(&entry, &datagram(number), 1));
    let (mut sums, mut ended, mut parts) = (PacketSums::default(), 0, [0, 0]);
    for (retire_all, parts) in [false, true].into_iter().zip(&mut parts) {
        meter.table.lock().flows.retire_all(retire_all);
        *parts = meter.drain_counting_parts(&mut |one: Increment| {
            ended += u32::from(one.ended.is_some());
            *sums.0.entry(one.traffic).or_default() += one.counters.egress.packets;
        });
    }
    assert_eq!((sums.total(), sums.flows().len(), ended), (u64::from(FLOWS), FLOWS as usize, FLOWS));
    // How many parts end by their time depends on the machine.
    assert!(parts.iter().all(|parts| *parts >= 2), "{parts:?} parts for {FLOWS} flows that stay and that retire");
    assert_eq!(drained(&mut meter), [], "all are retired");
}

/// More flows than the table has entries pass through it without a drain.
#[test]
fn finished_flows_leave_a_table_that_is_filling_up_before_they_are_drained() {
    const MAX_FLOWS: u32 = 1024;
    const AT_ONCE: u32 = 600;
    const FLOWS: u32 = 5 * AT_ONCE;
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: MAX_FLOWS, ..PLAIN() }) else { return };
    meter.table.lock().flows.retire_all(true);
    let entry = meter.feed_point("link_egress");
    for first in (0..FLOWS).step_by(AT_ONCE as usize) {
        (first..first + AT_ONCE).for_each(|number| repeat(&entry, &datagram(number), 2));
        while meter.table.lock().flows.in_use() >= MAX_FLOWS / 2 {
            meter.table.keep_room(meter.clock);
        }
    }
    let mut flows = HashMap::<_, Vec<_>>::new();
    for one in drained(&mut meter) {
        flows.entry(one.traffic).or_default().push((one.counters.egress.packets, one.ended));
    }
    assert_eq!(flows.len(), FLOWS as usize);
    assert!(flows.values().all(|handed_over| *handed_over == [(2, Some(EndReason::IdleTimeout))]), "each once");
    let lost = meter.lost().expect("readable");
    assert_eq!(lost.table_full + lost.insert_failed, 0, "{lost:?}");
}

/// A relief between two parts of a drain also retires the flows that the drain has found, which
/// must not free their entries again.
#[test]
fn a_relief_during_a_drain_frees_each_entry_once() {
    const AT_ONCE: u32 = 400;
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: 512, ..PLAIN() }) else { return };
    let entry = meter.feed_point("link_egress");
    (0..AT_ONCE).for_each(|number| repeat(&entry, &datagram(number), 1));
    meter.begin_poll();
    meter.table.lock().flows.retire_all(true);
    let (mut increments, mut next, mut is_first) = (Vec::new(), Some(0), true);
    meter.table.lock().fronts.merge().expect("merged");
    while let Some(from) = next {
        let (then, some) = meter.read_entries(from);
        next = then;
        increments.extend(some);
        if std::mem::take(&mut is_first) {
            meter.table.keep_room(meter.clock);
            meter.begin_poll();
        }
    }
    (AT_ONCE..2 * AT_ONCE).for_each(|number| repeat(&entry, &datagram(number), 1));
    increments.extend(drained(&mut meter));
    let mut flows = HashMap::<_, u64>::new();
    increments.iter().for_each(|one| *flows.entry(one.traffic).or_default() += one.counters.egress.packets);
    assert_eq!((flows.len(), increments.len()), (2 * AT_ONCE as usize, 2 * AT_ONCE as usize), "each flow once");
    assert!(flows.values().all(|packets| *packets == 1));
}

/// Between the part of a drain that finds an idle connection and the one that frees its entry, a
/// RST arrives.
#[test]
fn a_connection_that_closes_while_it_is_retired_ends() {
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let there = ipv4(6, &tcp_numbered(ACK, 1, 1, 0));
    let (sent, received) = (meter.feed_point("link_egress"), meter.feed_point("link_ingress"));
    repeat(&sent, &there, 1);
    repeat(&received, &reversed(&there), 1);
    // The connection is in the first of several parts.
    (0..400).for_each(|number| repeat(&sent, &datagram(number), 1));
    meter.begin_poll();
    meter.table.lock().flows.retire_all(true);
    meter.table.lock().fronts.merge().expect("merged");
    let (next, _) = meter.read_entries(0);
    repeat(&received, &reversed(&ipv4(6, &tcp_numbered(RST, 1, 1, 0))), 1);
    let (mut next, mut increments) = (next, Vec::new());
    while let Some(from) = next {
        let (then, some) = meter.read_entries(from);
        next = then;
        increments.extend(some);
    }
    let is_tcp = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.protocol == 6);
    let [last] = increments.iter().filter(is_tcp).collect::<Vec<_>>()[..] else { panic!("{increments:?}") };
    assert_eq!((last.ended, last.is_last), (Some(EndReason::EndOfFlow), true));
}

/// The end of a flow precedes the flow that follows it on its key, also if both came between two
/// drains, and follows a poll.
#[test]
fn flows_that_left_a_full_table_are_handed_over_before_those_in_it() {
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: 64, ..PLAIN() }) else { return };
    let entry = meter.feed_point("link_egress");
    meter.begin_poll();
    (0..40).for_each(|number| repeat(&entry, &datagram(number), 1));
    meter.table.lock().flows.retire_all(true);
    meter.table.keep_room(meter.clock);
    meter.table.lock().flows.retire_all(false);
    repeat(&entry, &datagram(0), 5);
    let mut progress = DrainProgress::default();
    for _merging_the_fronts_and_before_the_poll in 0..2 {
        assert!(meter.drain_part(&mut progress, &mut |early| panic!("{early:?}")).expect("drained"));
    }
    meter.begin_poll();
    let mut counts = Vec::new();
    let is_flow_0 = |one: &Increment| matches!(one.traffic, Traffic::Flow(key) if key.local.port == 1024);
    let mut add = |one: Increment| counts.extend(is_flow_0(&one).then_some((one.counters.egress.packets, one.ended)));
    while meter.drain_part(&mut progress, &mut add).expect("drained") {}
    assert_eq!(counts, [(1, Some(EndReason::IdleTimeout)), (5, None)]);
}

/// Protocol, packets sent, and end reason, sorted.
fn reasons(increments: &[Increment]) -> Vec<(u8, u64, Option<EndReason>)> {
    let reason = |one: &Increment| match one.traffic {
        Traffic::Flow(key) => (key.protocol, one.counters.egress.packets, one.ended),
        other => panic!("{other:?} is not a flow"),
    };
    let mut reasons: Vec<_> = increments.iter().map(reason).collect();
    reasons.sort_unstable();
    reasons
}

/// There are more flows than slots in the front, so flows displace each other and are counted in
/// their entries in between.
#[test]
fn flows_that_share_slots_are_counted_exactly() {
    const FLOWS: u32 = 12_000;
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let entry = meter.feed_point("link_egress");
    let frames: Vec<_> = (0..FLOWS).map(datagram).collect();
    for times in [1, 2, 1, 70, 1] {
        frames.iter().for_each(|frame| repeat(&entry, frame, times));
    }
    let mut sums = PacketSums::default();
    sums.drain(&mut meter);
    let flows = sums.flows();
    assert_eq!(flows.len(), FLOWS as usize);
    assert!(flows.iter().all(|&packets| packets == 75), "{:?}", flows.iter().find(|&&packets| packets != 75));
}

#[test]
fn the_table_grows_ahead_of_need_and_reports_when_it_is_full() {
    const FLOWS: u32 = 40_000;
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: 30_000, ..PLAIN() }) else { return };
    let entry = meter.feed_point("link_egress");
    for number in 0..FLOWS {
        repeat(&entry, &datagram(number), 1);
        if number.is_multiple_of(4000) {
            grow(&mut meter);
        }
    }
    let mut sums = PacketSums::default();
    sums.drain(&mut meter);
    let lost = meter.lost().expect("readable");
    assert_eq!((sums.total(), sums.flows().len()), (u64::from(FLOWS), 30_000), "{lost:?}");
    assert_eq!(lost.table_full + lost.insert_failed, 10_000);
}

/// Lets the table grow ahead of need, and waits until it has grown.
fn grow(meter: &mut CheckedMeter) {
    meter.poll(&mut drop).expect("no error of a growth");
    while meter.table.lock().flows.is_growing() {
        std::thread::sleep(Duration::from_millis(1));
        meter.poll(&mut drop).expect("no error of a growth");
    }
}

/// Flows with both buckets the same, which is full after eight flows while the table is not; then
/// enough flows to fill the table.
#[test]
fn a_full_bucket_is_distinguished_from_a_full_table() {
    const MAX_FLOWS: u32 = 64;
    let Some(mut meter) = meter_with(&KernelMeterConfig { max_flows: MAX_FLOWS, ..PLAIN() }) else { return };
    // A spare entry stays on its CPU for the next flow.
    stay_on_one_cpu();
    let (entry, mut host) = (meter.feed_point("link_egress"), ReferenceMeter::default());
    let mut buckets = |frame: &[u8]| {
        let key = host.run(frame, &Meta::default(), Hook::FromTarget);
        table::buckets(hash::hash(hash::words(&key)), table::bucket_count(MAX_FLOWS) - 1)
    };
    let (crowd, others): (Vec<_>, Vec<_>) = (0..8_000).map(datagram).partition(|frame| buckets(frame) == [3, 3]);
    crowd.iter().take(20).for_each(|frame| repeat(&entry, frame, 5));
    let lost = meter.lost().expect("readable");
    assert_eq!((lost.table_full, lost.insert_failed), (0, 12 * 5), "eight of twenty flows have an entry");
    others.iter().take(200).for_each(|frame| repeat(&entry, frame, 1));
    let mut sums = PacketSums::default();
    sums.drain(&mut meter);
    assert_eq!(sums.flows().len(), MAX_FLOWS as usize);
    let later = meter.lost().expect("readable");
    assert!(later.table_full > 0, "{later:?}");
    let overflow = u64::from(12 * 5 + 8 + 200 - MAX_FLOWS);
    assert_eq!((sums.0[&Traffic::Overflow(17)], later.table_full + later.insert_failed), (overflow, overflow));
}

/// A conversation that uses the front and contains all patterns of TCP sequence numbers: kernel and
/// user space agree bit for bit, with and without the front.
#[test]
fn sequence_numbers_agree_with_and_without_the_front() {
    // With several CPUs, the numbers of the front are estimates.
    stay_on_one_cpu();
    let data = |sequence: u32| ipv4(6, &tcp_numbered(ACK, sequence, 1, 100));
    let mut closed_window = data(1300);
    closed_window[48..50].fill(0);
    let frames: Vec<Vec<u8>> = [
        (0..40).map(|number| data(1000 + 100 * number)).collect::<Vec<_>>(),
        // The last three again; half of one again with as much new data; one ahead; the gap filled.
        // Below: data across the wraparound.
        vec![data(4700), data(4800), data(4900), data(4950), data(6000), data(5050), closed_window],
        (0..4_u32).map(|number| data((u32::MAX - 150).wrapping_add(100 * number))).collect(),
        // Half the number space away from the highest: neither ahead nor behind.
        vec![data(6100 + (1 << 31))],
        // Leaps that together exceed half the number space.
        (1..4_u32).map(|number| data(6100 + number * 0x3000_0000)).collect(),
    ]
    .concat();
    for front in [true, false] {
        let Some(mut meter) = meter_with(&KernelMeterConfig { front, ..PLAIN() }) else { return };
        let mut host = ReferenceMeter::default();
        host.config.sample_budget = 0;
        for frame in &frames {
            run(&meter, "link_egress", frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), Hook::FromTarget);
        }
        assert_same(tables(&mut meter), host.entries, if front { "with the front" } else { "without" });
        let [increment] = drained(&mut meter)[..] else { panic!("one flow") };
        let tcp = increment.tcp.expect("TCP");
        assert_eq!(tcp.retransmitted_packets.egress, 3 + 1 + 1 + 1 + 4, "{tcp:?}");
        assert_eq!((tcp.zero_windows.egress, increment.counters.egress.packets), (1, frames.len() as u64));
    }
}

/// The first packets of a direction carry no data and have numbers in the upper half, as in a
/// connection that continues after its entry was retired. Until a direction was observed, the front
/// has no number to compare with.
#[test]
fn a_direction_that_begins_without_data_is_not_retransmitted() {
    assert_not_retransmitted(&reversed(&ipv4(6, &tcp_numbered(ACK, HIGH, 1000, 0))), ACK);
}

/// The RST that refuses a connection has the number 0, which is none of the stream.
#[test]
fn a_direction_that_begins_with_a_rst_is_not_retransmitted() {
    assert_not_retransmitted(&reversed(&ipv4(6, &tcp_numbered(RST | ACK, 0, 1000, 0))), RST | ACK);
}

/// A sequence number in the upper half.
const HIGH: u32 = 3_000_000_000;

/// Data after this first packet of its direction is new, and the flags are these.
fn assert_not_retransmitted(first: &[u8], flags: u8) {
    stay_on_one_cpu();
    let there = ipv4(6, &tcp_numbered(ACK, 1000, HIGH, 0));
    let data = |number: u32| reversed(&ipv4(6, &tcp_numbered(ACK, HIGH + 100 * number, 1000, 100)));
    for front in [true, false] {
        let Some(mut meter) = meter_with(&KernelMeterConfig { front, ..PLAIN() }) else { return };
        let mut host = ReferenceMeter::default();
        host.config.sample_budget = 0;
        let mut count = |frame: &[u8], name, hook| {
            run(&meter, name, frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), hook);
        };
        (0..4).for_each(|_| count(&there, "link_egress", Hook::FromTarget));
        count(first, "link_ingress", Hook::ToTarget);
        (0..4).for_each(|number| count(&data(number), "link_ingress", Hook::ToTarget));
        assert_same(tables(&mut meter), host.entries, if front { "with the front" } else { "without" });
        let tcp = drained(&mut meter)[0].tcp.expect("TCP");
        assert_eq!((tcp.retransmitted_packets.ingress, tcp.retransmitted_bytes.ingress), (0, 0), "{front}: {tcp:?}");
        assert_eq!(tcp.flags.ingress, flags);
    }
}

/// The number of new flows and of samples in the rings.
fn poll_counts(meter: &mut CheckedMeter) -> (u64, u64) {
    let (mut new_flows, mut samples) = (0, 0);
    let count = &mut |notice| match notice {
        Notification::NewFlow(_) => new_flows += 1,
        Notification::Sample(_) => samples += 1,
        Notification::SocketChanged(_) => {}
    };
    meter.poll(count).expect("room");
    (new_flows, samples)
}

/// More records are written than one of the rings can hold, and none are read meanwhile: the other
/// ring keeps all of its records, and records without room are counted.
#[test]
fn a_full_ring_does_not_affect_the_other_and_its_losses_are_counted() {
    // More than a ring of one page can hold, also if a page has 64 KiB.
    const FLOWS: u64 = 1000;
    const PACKETS: u64 = FLOWS * 3;
    const PAGE: u32 = 4096;
    let sampled = || KernelMeterConfig { sample_interval: 1, ..PLAIN() };
    let small = [
        ("samples", KernelMeterConfig { sample_ring_bytes: PAGE, ..sampled() }),
        ("events", KernelMeterConfig { event_ring_bytes: PAGE, ..sampled() }),
        ("neither", sampled()),
    ];
    for (which, config) in small {
        let Some(mut meter) = meter_with(&config) else { return };
        let entry = meter.feed_point("link_egress");
        (0..FLOWS as u32).for_each(|number| repeat(&entry, &datagram(number), 3));
        let (new_flows, samples) = poll_counts(&mut meter);
        let lost = meter.lost().expect("readable");
        assert_eq!((new_flows + lost.new_flows, samples + lost.samples), (FLOWS, PACKETS), "{which}: {lost:?}");
        assert_eq!((lost.samples > 0, lost.new_flows > 0), (which == "samples", which == "events"), "{lost:?}");
        assert!(new_flows > 0 && samples > 0, "a small ring holds some records: {which}");
    }
}

/// Every tenth packet is sampled, whichever path counts it: the first packets of flows take the
/// long path, packets of flows that share a slot the middle path, all others the short path.
#[test]
fn exactly_one_packet_per_interval_is_sampled() {
    // Flow 0, flow 1 and another one that has the slot of flow 0.
    let shared = [0, 1, sharing_a_slot_with_flow_0()];
    for (front, flows) in [(false, &[0, 1, 2, 3, 4, 5, 6][..]), (true, &[0, 1, 2, 3, 4, 5, 6]), (true, &shared)] {
        let config = KernelMeterConfig { sample_interval: 10, snaplen: 60, front, ..PLAIN() };
        let Some(mut meter) = meter_with(&config) else { return };
        // Each CPU has an interval of its own.
        stay_on_one_cpu();
        let entry = meter.feed_point("link_egress");
        flows.iter().cycle().take(1000).for_each(|number| repeat(&entry, &datagram(*number), 1));
        let mut samples = Vec::new();
        meter
            .poll(&mut |notification| {
                if let Notification::Sample(sample) = notification {
                    samples.push(sample);
                }
            })
            .expect("room");
        assert_eq!(samples.len(), 100, "front: {front}, {flows:?}");
        assert!(samples.iter().all(|sample| sample.reason == SampleReason::Interval && sample.bytes.len() == 52));
        assert_eq!(drained(&mut meter).iter().map(|one| one.counters.egress.packets).sum::<u64>(), 1000);
    }
}

/// The number of a flow with the slot of flow 0 in the front.
fn sharing_a_slot_with_flow_0() -> u32 {
    let mut host = ReferenceMeter::default();
    let mut slot = |number| {
        let key = host.run(&datagram(number), &Meta::default(), Hook::FromTarget);
        netwatch_common::front::slot_index(hash::hash(hash::words(&key)))
    };
    let wanted = slot(0);
    (2..100_000).find(|number| slot(*number) == wanted).expect("one of 4096 slots")
}
