//! Packets that preempt each other on one CPU, as with PREEMPT_RT: simulated on any kernel, and
//! real where test runs of programs can be preempted.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netwatch_common::front::FrontHead;
use netwatch_common::parse::{Hook, Meta};

use super::frames::{ipv4, udp};
use super::golden::{self, is_runnable};
use super::namespace::with_link;
use super::reference::ReferenceMeter;
use super::{
    KernelMeter, assert_same, describe, drained, meter_with, possible_cpus, run, stay_on_one_cpu, tables, without_front,
};
use crate::flow::{Increment, ObservationLosses, Traffic};
use crate::meter::kernel::fronts::MAX_TRIES;
use crate::meter::kernel::memory::Region;
use crate::meter::sys;

const UDP: u8 = 17;

/// The classifier's scratch memories. Only their first word is used: the owner.
struct ScratchMap<'a> {
    meter: &'a KernelMeter,
    count: u32,
    words: usize,
}

impl<'a> ScratchMap<'a> {
    fn of(meter: &'a KernelMeter) -> Self {
        let path = format!("/proc/self/fdinfo/{}", meter.loaded.map("SCRATCH").as_raw_fd());
        let text = std::fs::read_to_string(path).expect("fdinfo");
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field of fdinfo");
            value.trim().parse::<u32>().expect("a number")
        };
        let size = field("value_size:").next_multiple_of(8) as usize;
        Self { meter, count: field("max_entries:"), words: size / 8 * possible_cpus() }
    }

    /// Marks the first `taken` memories of every CPU as owned, and frees the others.
    fn occupy(&self, taken: u32) {
        for number in 0..self.count {
            let value = vec![u64::from(number < taken); self.words];
            let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
            sys::map_update(self.meter.loaded.map("SCRATCH").as_fd(), &number.to_ne_bytes(), &bytes).expect("written");
        }
    }

    /// Number of owned memories, on all CPUs.
    fn taken(&self) -> usize {
        let cpus = possible_cpus();
        let owners = (0..self.count).flat_map(|number| {
            let mut bytes = vec![0; self.words * 8];
            sys::map_lookup(self.meter.loaded.map("SCRATCH").as_fd(), &number.to_ne_bytes(), &mut bytes).expect("read");
            let of_cpu = bytes.chunks(self.words * 8 / cpus);
            of_cpu.map(|value| u64::from_ne_bytes(value[..8].try_into().expect("a word"))).collect::<Vec<_>>()
        });
        owners.filter(|&owner| owner != 0).count()
    }
}

/// Packets that were preempted keep their memories, and a further packet is counted as usual.
#[test]
fn a_packet_that_preempts_others_is_counted_as_usual() {
    let frames: Vec<_> =
        golden::all().into_iter().flat_map(|case| case.frames).filter(|one| is_runnable(one)).collect();
    let cpus = possible_cpus();
    for taken in [0, 1, 3] {
        let Some(mut meter) = meter_with(&without_front()) else { return };
        ScratchMap::of(&meter).occupy(taken);
        let mut host = ReferenceMeter::default();
        for frame in &frames {
            run(&meter, "link_egress", frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), Hook::FromTarget);
        }
        assert_eq!(ScratchMap::of(&meter).taken(), taken as usize * cpus, "the packets have released their memories");
        assert_same(tables(&mut meter), host.entries, &format!("{taken} memories taken"));
    }
}

/// If all memories are taken, a packet is counted unread and reported.
#[test]
fn a_packet_without_scratch_memory_is_counted_unread() {
    let Some(mut meter) = meter_with(&without_front()) else { return };
    ScratchMap::of(&meter).occupy(u32::MAX);
    let frame = ipv4(UDP, &udp(53, 10));
    for program in ["link_egress", "link_egress", "link_ingress", "loopback"] {
        run(&meter, program, &frame, &Meta::default()).expect("runs");
    }
    let mut lines: Vec<_> = drained(&mut meter).iter().map(describe).collect();
    lines.sort();
    assert_eq!(lines, ["Overflow(255) | sent 1 1 52 52", "Overflow(255) | sent 2 2 104 104 | got 1 1 52 52"]);
    assert_eq!(meter.lost().expect("readable"), ObservationLosses { insert_failed: 4, ..ObservationLosses::default() });
    ScratchMap::of(&meter).occupy(0);
    run(&meter, "link_egress", &frame, &Meta::default()).expect("runs");
    let lines: Vec<_> = drained(&mut meter).iter().map(describe).collect();
    assert_eq!(lines, ["17 198.51.100.2 40000 203.0.113.9 53 | sent 1 1 52 52"]);
}

/// The marks of every CPU that a packet is being counted.
struct ActiveMarks(Region<FrontHead>);

impl ActiveMarks {
    fn of(meter: &KernelMeter) -> Self {
        Self(Region::map(meter.loaded.map("HEADS"), "HEADS", possible_cpus()).expect("mapped"))
    }

    fn words(&self) -> impl Iterator<Item = *mut u32> {
        // SAFETY: in a mapped region; only the address is taken.
        (0..self.0.len()).map(|cpu| unsafe { &raw mut (*self.0.element(cpu)).active })
    }

    fn set(&self, active: u32) {
        // SAFETY: in a mapped region, and no program runs.
        self.words().for_each(|word| unsafe { word.write_volatile(active) });
    }

    fn all_are(&self, active: u32) -> bool {
        // SAFETY: as above.
        self.words().all(|word| unsafe { word.read_volatile() } == active)
    }
}

/// An entry must not be given to another flow while a packet that found it is preempted, however
/// many packets pass meanwhile and however long that takes.
#[test]
fn a_flush_waits_for_a_packet_that_was_preempted() {
    let Some(meter) = meter_with(&without_front()) else { return };
    let actives = ActiveMarks::of(&meter);
    actives.set(1);
    run(&meter, "link_egress", &ipv4(UDP, &udp(53, 10)), &Meta::default()).expect("runs");
    assert!(actives.all_are(1), "the mark of the other packet is still set");
    let table = meter.table.lock();
    let fronts = &table.fronts;
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| fronts.flush());
        // After these, it tries with pauses.
        while fronts.tries() <= MAX_TRIES {
            assert!(!flush.is_finished(), "it waits for the packet");
            std::thread::yield_now();
        }
        actives.set(0);
        flush.join().expect("no panic").expect("flushed after the packet");
    });
}

/// On kernels with preemptible test runs (with PREEMPT_RT before Linux 6.11, only migration is
/// disabled), packets preempt each other as they do since Linux 6.18. On other kernels they run one
/// after the other.
#[test]
fn programs_that_preempt_each_other_lose_nothing() {
    const PRIORITIES: u16 = 3;
    const WAKE_UPS: usize = 400;
    const AT_ONCE: u32 = 500;
    let Some(mut meter) = meter_with(&without_front()) else { return };
    let entry = meter.feed_point("link_egress");
    let packets = |port: u16, repeat: u32| {
        let frame = ipv4(UDP, &udp(port, 10));
        entry.run(&frame, &[], repeat).expect("runs");
        u64::from(repeat)
    };
    let done = AtomicBool::new(false);
    let sent: Vec<(u16, u64)> = std::thread::scope(|scope| {
        // The priority of each thread is its number, so that they preempt each other.
        let prioritized: Vec<_> = (1..=PRIORITIES)
            .map(|port| {
                scope.spawn(move || {
                    stay_on_one_cpu();
                    raise_priority(port.into());
                    let wake_up = |_| {
                        std::thread::sleep(Duration::from_micros(50));
                        packets(port, 3)
                    };
                    (port, (0..WAKE_UPS).map(wake_up).sum())
                })
            })
            .collect();
        let steady = scope.spawn(|| {
            stay_on_one_cpu();
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                sent += packets(9, AT_ONCE);
            }
            (9, sent)
        });
        let mut sent: Vec<_> = prioritized.into_iter().map(|one| one.join().expect("no panic")).collect();
        done.store(true, Ordering::Relaxed);
        sent.push(steady.join().expect("no panic"));
        sent
    });
    let mut counted = std::collections::HashMap::<u16, u64>::new();
    for increment in drained(&mut meter) {
        let Traffic::Flow(key) = increment.traffic else { panic!("{}", describe(&increment)) };
        *counted.entry(key.remote.port).or_default() += increment.counters.egress.packets;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_unstable();
    println!("packets by port: {counted:?}");
    assert_eq!(counted, sent);
    assert_eq!(meter.lost().expect("readable").insert_failed, 0, "no more packets at a time than memories");
    assert_eq!(ScratchMap::of(&meter).taken(), 0);
}

/// On a real link: senders on one CPU that preempt each other, each with a flow of its own.
#[test]
fn senders_that_preempt_each_other_are_counted_to_the_last_packet() {
    const PRIORITIES: u16 = 3;
    const PACKETS: u64 = 500;
    with_link(|link| {
        let Some(mut meter) = meter_with(&without_front()) else { return };
        meter.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let receiver = link.in_target(|| UdpSocket::bind("198.51.100.2:4000").expect("bound"));
        // Until the kernel has resolved the neighbor, it only queues the last packets.
        let first = UdpSocket::bind("198.51.100.1:0").expect("bound");
        first.send_to(&[0; 10], "198.51.100.2:4000").expect("sent");
        receiver.recv_from(&mut [0; 10]).expect("received");
        std::thread::scope(|scope| {
            for number in 0..=PRIORITIES {
                scope.spawn(move || {
                    stay_on_one_cpu();
                    let socket = UdpSocket::bind(("198.51.100.1", 5000 + number)).expect("bound");
                    if number > 0 {
                        raise_priority(number.into());
                    }
                    for _ in 0..PACKETS {
                        socket.send_to(&[0; 10], "198.51.100.2:4000").expect("sent");
                        if number > 0 {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                });
            }
        });
        let increments = meter.settle(link, 0);
        let packets = |port: u16| {
            let is_it = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.remote.port == port);
            increments.iter().filter(is_it).map(|one| one.counters.ingress.packets).sum::<u64>()
        };
        let counted: Vec<_> = (0..=PRIORITIES).map(|number| packets(5000 + number)).collect();
        assert_eq!(counted, [PACKETS; PRIORITIES as usize + 1]);
        assert_eq!(meter.lost().expect("readable"), ObservationLosses::default());
    });
}

/// Sets a real-time priority, if permitted. Without it the threads do not preempt each other, and
/// the test is weaker.
fn raise_priority(priority: i32) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: a plain system call on this thread.
    let _rejected = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
