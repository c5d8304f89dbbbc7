//! The flow table and the fronts under everything that could lose a packet: many flows, several CPUs, drains meanwhile, a full table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netwatch_common::parse::{Hook, Meta};
use netwatch_common::{hash, table};

use super::books::{Books, Entry};
use super::frames::{ipv4, tcp_numbered, turned, udp};
use super::host::Host;
use super::{KernelMeterConfig, assert_same, drained, probe_with, run, stay_on_one_cpu, tables};
use crate::flow::{EndReason, Increment, Traffic};
use crate::meter::{Notification, SampleReason};

const ACK: u8 = 0x10;
const RST: u8 = 0x04;
/// Nothing is sampled: packets of known flows take the short way at once.
const PLAIN: fn() -> KernelMeterConfig = || KernelMeterConfig { sample_budget: 0, ..KernelMeterConfig::default() };

/// A UDP datagram of flow `number`.
fn datagram(number: u32) -> Vec<u8> {
    let mut frame = ipv4(17, &udp(443, 10));
    frame[28..30].copy_from_slice(&((number >> 14) as u16).to_be_bytes());
    frame[34..36].copy_from_slice(&(1024 + (number & 0x3fff) as u16).to_be_bytes());
    frame
}

fn repeat(entry: &Entry, frame: &[u8], times: u32) {
    entry.run(frame, &[], times).expect("runs");
}

#[derive(Default)]
struct Sums(HashMap<Traffic, u64>);

impl Sums {
    fn drain(&mut self, probe: &mut Books) {
        let add = &mut |one: Increment| *self.0.entry(one.traffic).or_default() += one.counters.egress.packets;
        probe.drain(add).expect("drained");
    }

    fn flows(&self) -> Vec<u64> {
        self.0.iter().filter(|(traffic, _)| matches!(traffic, Traffic::Flow(_))).map(|(_, &packets)| packets).collect()
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Two CPUs count into the same and into different flows, while everything is drained as often as it goes, and flows leave now and then.
#[test]
fn nothing_is_lost_while_cpus_count_and_drains_run() {
    const ROUNDS: u32 = 300;
    const TIMES: u32 = 20;
    const FLOWS: u32 = 256;
    let Some(mut probe) = probe_with(&PLAIN()) else { return };
    let entry = probe.entry("link_egress");
    let (done, mut sums, mut drains) = (AtomicBool::new(false), Sums::default(), 0_u32);
    std::thread::scope(|scope| {
        let send = |first: u32| {
            let frames: Vec<_> = (first..first + FLOWS).map(datagram).collect();
            for round in 0..ROUNDS {
                frames.iter().skip((round % 4) as usize).step_by(4).for_each(|frame| repeat(&entry, frame, TIMES));
            }
        };
        // Half of the flows are both threads'.
        let threads = [scope.spawn(move || send(0)), scope.spawn(move || send(FLOWS / 2))];
        let done = &done;
        scope.spawn(move || {
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            probe.drain.flows.retire_all(drains.is_multiple_of(16));
            sums.drain(&mut probe);
            drains += 1;
        }
    });
    sums.drain(&mut probe);
    assert_eq!(sums.total(), u64::from(2 * ROUNDS * FLOWS / 4 * TIMES), "after {drains} drains");
    let one = u64::from(ROUNDS / 4 * TIMES);
    let flows = sums.flows();
    let (single, double) = (flows.iter().filter(|&&sum| sum == one), flows.iter().filter(|&&sum| sum == 2 * one));
    let lost = probe.lost().expect("readable");
    let exact = (single.count(), double.count());
    assert_eq!(exact, (FLOWS as usize, FLOWS as usize / 2), "every flow is exact: {lost:?}, {} flows", flows.len());
    // How many there were depends on how busy the machine is; in emulation it may be one.
    assert!(drains > 0, "{drains} drains");
}

/// The last increment of an entry gives the reason why it ended, also when nothing grew since the drain before.
#[test]
fn entries_that_leave_the_table_are_handed_over_once_more_with_the_reason() {
    let Some(mut probe) = probe_with(&PLAIN()) else { return };
    let entry = probe.entry("link_egress");
    repeat(&entry, &datagram(0), 3);
    repeat(&entry, &ipv4(6, &tcp_numbered(RST, 1, 1, 0)), 1);
    let first = reasons(&drained(&mut probe));
    assert_eq!(first, [(6, 1, None), (17, 3, None)], "both stay");
    probe.drain.flows.retire_all(true);
    let last = reasons(&drained(&mut probe));
    assert_eq!(last, [(6, 0, Some(EndReason::EndOfFlow)), (17, 0, Some(EndReason::IdleTimeout))]);
    assert_eq!(drained(&mut probe), [], "both have left");
}

/// Protocol, packets sent, and why the entry ended, sorted.
fn reasons(increments: &[Increment]) -> Vec<(u8, u64, Option<EndReason>)> {
    let reason = |one: &Increment| match one.traffic {
        Traffic::Flow(key) => (key.protocol, one.counters.egress.packets, one.ended),
        other => panic!("{other:?} is not a flow"),
    };
    let mut reasons: Vec<_> = increments.iter().map(reason).collect();
    reasons.sort_unstable();
    reasons
}

/// More flows than the front has slots: they push each other out, and are counted in their entries in between.
#[test]
fn flows_that_share_slots_are_exact() {
    const FLOWS: u32 = 12_000;
    let Some(mut probe) = probe_with(&PLAIN()) else { return };
    let entry = probe.entry("link_egress");
    let frames: Vec<_> = (0..FLOWS).map(datagram).collect();
    for times in [1, 2, 1, 70, 1] {
        frames.iter().for_each(|frame| repeat(&entry, frame, times));
    }
    let mut sums = Sums::default();
    sums.drain(&mut probe);
    let flows = sums.flows();
    assert_eq!(flows.len(), FLOWS as usize);
    assert!(flows.iter().all(|&packets| packets == 75), "{:?}", flows.iter().find(|&&packets| packets != 75));
}

#[test]
fn the_table_grows_ahead_of_need_and_a_full_one_says_so() {
    const FLOWS: u32 = 40_000;
    let Some(mut probe) = probe_with(&KernelMeterConfig { max_flows: 30_000, ..PLAIN() }) else { return };
    let entry = probe.entry("link_egress");
    for number in 0..FLOWS {
        repeat(&entry, &datagram(number), 1);
        if number.is_multiple_of(4000) {
            // The kernel waits for a grace period before a segment is in.
            std::thread::sleep(Duration::from_millis(100));
            probe.poll(&mut drop).expect("room");
        }
    }
    let mut sums = Sums::default();
    sums.drain(&mut probe);
    let lost = probe.lost().expect("readable");
    assert_eq!((sums.total(), sums.flows().len()), (u64::from(FLOWS), 30_000), "{lost:?}");
    assert_eq!(lost.table_full + lost.insert_failed, 10_000);
}

/// Flows of which both places lead into one bucket, which is full after eight, while the table is not; then as many as fill the table.
#[test]
fn a_full_bucket_is_told_apart_from_a_full_table() {
    const MAX_FLOWS: u32 = 64;
    let Some(mut probe) = probe_with(&KernelMeterConfig { max_flows: MAX_FLOWS, ..PLAIN() }) else { return };
    // What one CPU could not place waits for its next flow.
    stay_on_one_cpu();
    let (entry, mut host) = (probe.entry("link_egress"), Host::default());
    let mut places = |frame: &[u8]| {
        let key = host.run(frame, &Meta::default(), Hook::FromTarget);
        table::buckets(hash::hash(hash::words(&key)), table::bucket_count(MAX_FLOWS) - 1)
    };
    let (crowd, others): (Vec<_>, Vec<_>) = (0..8_000).map(datagram).partition(|frame| places(frame) == [3, 3]);
    crowd.iter().take(20).for_each(|frame| repeat(&entry, frame, 5));
    let lost = probe.lost().expect("readable");
    assert_eq!((lost.table_full, lost.insert_failed), (0, 12 * 5), "eight of twenty have a place");
    others.iter().take(200).for_each(|frame| repeat(&entry, frame, 1));
    let mut sums = Sums::default();
    sums.drain(&mut probe);
    assert_eq!(sums.flows().len(), MAX_FLOWS as usize);
    let later = probe.lost().expect("readable");
    assert!(later.table_full > 0, "{later:?}");
    let overflow = u64::from(12 * 5 + 8 + 200 - MAX_FLOWS);
    assert_eq!((sums.0[&Traffic::Overflow(17)], later.table_full + later.insert_failed), (overflow, overflow));
}

/// A conversation long enough for the front, with everything that TCP does to sequence numbers: kernel and host agree to the bit, with the
/// front and without.
#[test]
fn sequence_numbers_agree_with_the_front_and_without() {
    // Across CPUs the front's numbers are an estimate.
    stay_on_one_cpu();
    let data = |sequence: u32| ipv4(6, &tcp_numbered(ACK, sequence, 1, 100));
    let mut closed_window = data(1300);
    closed_window[48..50].fill(0);
    let frames: Vec<Vec<u8>> = [
        (0..40).map(|number| data(1000 + 100 * number)).collect::<Vec<_>>(),
        // The last three again, half of one again with as much new, one ahead, the gap filled; below, behind across the wrap.
        vec![data(4700), data(4800), data(4900), data(4950), data(6000), data(5050), closed_window],
        (0..4_u32).map(|number| data((u32::MAX - 150).wrapping_add(100 * number))).collect(),
        // Half of all numbers away from the highest: neither ahead nor behind.
        vec![data(6100 + (1 << 31))],
        // Leaps, together more than half around.
        (1..4_u32).map(|number| data(6100 + number * 0x3000_0000)).collect(),
    ]
    .concat();
    for front in [true, false] {
        let Some(mut probe) = probe_with(&KernelMeterConfig { front, ..PLAIN() }) else { return };
        let mut host = Host::default();
        host.config.sample_budget = 0;
        for frame in &frames {
            run(&probe, "link_egress", frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), Hook::FromTarget);
        }
        assert_same(tables(&mut probe), host.entries, if front { "with the front" } else { "without" });
        let [increment] = drained(&mut probe)[..] else { panic!("one flow") };
        let tcp = increment.tcp.expect("TCP");
        assert_eq!(tcp.retransmitted_packets.egress, 3 + 1 + 1 + 1 + 4, "{tcp:?}");
        assert_eq!((tcp.zero_windows.egress, increment.counters.egress.packets), (1, frames.len() as u64));
    }
}

/// The first packets of a direction carry no data, and numbers of the upper half: a connection that goes on after its entry had left the table.
/// Until a direction has been seen, the front knows no number that others could be compared with.
#[test]
fn a_direction_that_begins_without_data_is_not_repeated() {
    const HIGH: u32 = 3_000_000_000;
    stay_on_one_cpu();
    let there = |payload| ipv4(6, &tcp_numbered(ACK, 1000, HIGH, payload));
    let back = |sequence: u32, payload| turned(&ipv4(6, &tcp_numbered(ACK, sequence, 1000, payload)));
    for front in [true, false] {
        let Some(mut probe) = probe_with(&KernelMeterConfig { front, ..PLAIN() }) else { return };
        let mut host = Host::default();
        host.config.sample_budget = 0;
        let mut count = |frame: &[u8], name, hook| {
            run(&probe, name, frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), hook);
        };
        (0..4).for_each(|_| count(&there(0), "link_egress", Hook::FromTarget));
        count(&back(HIGH, 0), "link_ingress", Hook::ToTarget);
        (0..4).for_each(|number| count(&back(HIGH + 100 * number, 100), "link_ingress", Hook::ToTarget));
        assert_same(tables(&mut probe), host.entries, if front { "with the front" } else { "without" });
        let tcp = drained(&mut probe)[0].tcp.expect("TCP");
        assert_eq!((tcp.retransmitted_packets.ingress, tcp.retransmitted_bytes.ingress), (0, 0), "{front}: {tcp:?}");
    }
}

/// What the rings held: new flows and samples.
fn heard(probe: &mut Books) -> (u64, u64) {
    let (mut new_flows, mut samples) = (0, 0);
    let count = &mut |notice| match notice {
        Notification::NewFlow(_) => new_flows += 1,
        Notification::Sample(_) => samples += 1,
        Notification::SocketChanged(_) => {}
    };
    probe.poll(count).expect("room");
    (new_flows, samples)
}

/// Nobody reads while twice as much comes as one of the rings holds: the other one holds all of its own, and what found no room is counted.
#[test]
fn samples_never_starve_events_and_what_finds_no_room_is_counted() {
    const FLOWS: u64 = 300;
    const PACKETS: u64 = FLOWS * 3;
    const PAGE: u32 = 4096;
    let sampled = || KernelMeterConfig { sample_interval: 1, ..PLAIN() };
    let small = [
        ("samples", KernelMeterConfig { sample_ring_bytes: PAGE, ..sampled() }),
        ("events", KernelMeterConfig { event_ring_bytes: PAGE, ..sampled() }),
        ("neither", sampled()),
    ];
    for (which, config) in small {
        let Some(mut probe) = probe_with(&config) else { return };
        let entry = probe.entry("link_egress");
        (0..FLOWS as u32).for_each(|number| repeat(&entry, &datagram(number), 3));
        let (new_flows, samples) = heard(&mut probe);
        let lost = probe.lost().expect("readable");
        assert_eq!((new_flows + lost.new_flows, samples + lost.samples), (FLOWS, PACKETS), "{which}: {lost:?}");
        assert_eq!((lost.samples > 0, lost.new_flows > 0), (which == "samples", which == "events"), "{lost:?}");
        assert!(new_flows > 0 && samples > 0, "a small ring holds some: {which}");
    }
}

#[test]
fn one_packet_in_so_many_is_sampled() {
    let config = KernelMeterConfig { sample_interval: 10, snaplen: 60, ..PLAIN() };
    let Some(mut probe) = probe_with(&config) else { return };
    // Each CPU counts by itself.
    stay_on_one_cpu();
    let entry = probe.entry("link_egress");
    (0..1000).for_each(|number| repeat(&entry, &datagram(number % 7), 1));
    let mut samples = Vec::new();
    probe
        .poll(&mut |notice| {
            if let Notification::Sample(sample) = notice {
                samples.push(sample);
            }
        })
        .expect("room");
    assert!((100..=101).contains(&samples.len()), "{} samples", samples.len());
    assert!(samples.iter().all(|sample| sample.reason == SampleReason::Interval && sample.bytes.len() == 52));
    assert_eq!(drained(&mut probe).iter().map(|one| one.counters.egress.packets).sum::<u64>(), 1000);
}
