//! Packets that preempt each other on one CPU, as they do with PREEMPT_RT: made up on any kernel, and for real where test runs of programs
//! are preempted.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netwatch_common::front::{Front, FrontHead};
use netwatch_common::parse::{Hook, Meta};

use super::frames::{ipv4, udp};
use super::golden::{self, is_runnable};
use super::host::Host;
use super::namespace::with_link;
use super::{
    KernelMeter, assert_same, describe, drained, possible_cpus, probe_with, run, stay_on_one_cpu, tables, without_front,
};
use crate::flow::{Increment, ObservationLosses, Traffic};
use crate::meter::kernel::memory::Region;
use crate::meter::sys;

const UDP: u8 = 17;

/// The classifier's working memories, of which only the first word is told: whose it is.
struct Memories<'a> {
    probe: &'a KernelMeter,
    count: u32,
    words: usize,
}

impl<'a> Memories<'a> {
    fn of(probe: &'a KernelMeter) -> Self {
        let path = format!("/proc/self/fdinfo/{}", probe.loaded.map("SCRATCH").as_raw_fd());
        let text = std::fs::read_to_string(path).expect("fdinfo");
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("told");
            value.trim().parse::<u32>().expect("a number")
        };
        let size = field("value_size:").next_multiple_of(8) as usize;
        Self { probe, count: field("max_entries:"), words: size / 8 * possible_cpus().expect("CPUs") as usize }
    }

    /// Gives the first so many of every CPU to somebody who is not there, and frees the others.
    fn occupy(&self, taken: u32) {
        for number in 0..self.count {
            let value = vec![u64::from(number < taken); self.words];
            let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
            sys::map_update(self.probe.loaded.map("SCRATCH").as_fd(), &number.to_ne_bytes(), &bytes).expect("written");
        }
    }

    /// How many are taken, on all CPUs.
    fn taken(&self) -> usize {
        let cpus = possible_cpus().expect("CPUs") as usize;
        let owners = (0..self.count).flat_map(|number| {
            let mut bytes = vec![0; self.words * 8];
            sys::map_lookup(self.probe.loaded.map("SCRATCH").as_fd(), &number.to_ne_bytes(), &mut bytes).expect("read");
            let of_cpu = bytes.chunks(self.words * 8 / cpus);
            of_cpu.map(|value| u64::from_ne_bytes(value[..8].try_into().expect("a word"))).collect::<Vec<_>>()
        });
        owners.filter(|&owner| owner != 0).count()
    }
}

/// Others that were preempted amid a packet keep what is theirs, and the packet is counted as if they were not there.
#[test]
fn a_packet_amid_others_is_counted_like_any() {
    let frames: Vec<_> =
        golden::all().into_iter().flat_map(|case| case.frames).filter(|one| is_runnable(one)).collect();
    let cpus = possible_cpus().expect("CPUs") as usize;
    for taken in [0, 1, 3] {
        let Some(mut probe) = probe_with(&without_front()) else { return };
        Memories::of(&probe).occupy(taken);
        let mut host = Host::default();
        for frame in &frames {
            run(&probe, "link_egress", frame, &Meta::default()).expect("runs");
            host.run(frame, &Meta::default(), Hook::FromTarget);
        }
        assert_eq!(Memories::of(&probe).taken(), taken as usize * cpus, "the packets gave theirs back");
        assert_same(tables(&mut probe), host.entries, &format!("{taken} memories taken"));
    }
}

/// If there are too many of them, it is counted all the same, and said.
#[test]
fn a_packet_without_working_memory_is_counted_unread() {
    let Some(mut probe) = probe_with(&without_front()) else { return };
    Memories::of(&probe).occupy(u32::MAX);
    let frame = ipv4(UDP, &udp(53, 10));
    for program in ["link_egress", "link_egress", "link_ingress", "loopback"] {
        run(&probe, program, &frame, &Meta::default()).expect("runs");
    }
    let mut lines: Vec<_> = drained(&mut probe).iter().map(describe).collect();
    lines.sort();
    assert_eq!(lines, ["Overflow(255) | sent 1 1 52 52", "Overflow(255) | sent 2 2 104 104 | got 1 1 52 52"]);
    assert_eq!(probe.lost().expect("readable"), ObservationLosses { insert_failed: 4, ..ObservationLosses::default() });
    Memories::of(&probe).occupy(0);
    run(&probe, "link_egress", &frame, &Meta::default()).expect("runs");
    let lines: Vec<_> = drained(&mut probe).iter().map(describe).collect();
    assert_eq!(lines, ["17 198.51.100.2 40000 203.0.113.9 53 | sent 1 1 52 52"]);
}

/// What every CPU says of the packets that it is amid.
struct Actives(Vec<Region<FrontHead>>);

impl Actives {
    fn of(probe: &KernelMeter) -> Self {
        let cpus = possible_cpus().expect("CPUs") as usize;
        let map =
            |cpu| Region::map_at(probe.loaded.map("FRONTS"), "FRONTS", 1, cpu * size_of::<Front>()).expect("mapped");
        Self((0..cpus).map(map).collect())
    }

    fn cells(&self) -> impl Iterator<Item = *mut u32> {
        // SAFETY: in a region that we own; only the address is taken.
        self.0.iter().map(|head| unsafe { &raw mut (*head.element(0)).active })
    }

    fn set(&self, active: u32) {
        // SAFETY: in a region that we own, and no program runs.
        self.cells().for_each(|cell| unsafe { cell.write_volatile(active) });
    }

    fn all_are(&self, active: u32) -> bool {
        // SAFETY: as above.
        self.cells().all(|cell| unsafe { cell.read_volatile() } == active)
    }
}

/// An entry must not be given to another flow while a packet that found it is preempted, however many come and go meanwhile and however long
/// that takes.
#[test]
fn a_flush_waits_for_a_packet_that_was_preempted() {
    const LONG: Duration = Duration::from_secs(1);
    let Some(probe) = probe_with(&without_front()) else { return };
    let actives = Actives::of(&probe);
    actives.set(1);
    run(&probe, "link_egress", &ipv4(UDP, &udp(53, 10)), &Meta::default()).expect("runs");
    assert!(actives.all_are(1), "the other's mark is still there");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LONG);
            actives.set(0);
        });
        probe.drain.fronts.flush().expect("in the end");
    });
    assert!(began.elapsed() >= LONG);
}

/// Where the kernel lets test runs be preempted (with PREEMPT_RT before Linux 6.11 nothing else is disabled than migration), this is how
/// packets meet since Linux 6.18. On other kernels they come one after the other.
#[test]
fn programs_that_preempt_each_other_lose_nothing() {
    const URGENT: u16 = 3;
    const WAKE_UPS: usize = 400;
    const AT_ONCE: u32 = 500;
    let Some(mut probe) = probe_with(&without_front()) else { return };
    let entry = probe.entry("link_egress");
    let packets = |port: u16, repeat: u32| {
        let frame = ipv4(UDP, &udp(port, 10));
        entry.run(&frame, &[], repeat).expect("runs");
        u64::from(repeat)
    };
    let over = AtomicBool::new(false);
    let sent: Vec<(u16, u64)> = std::thread::scope(|scope| {
        // Each as urgent as its number, so that they stand on each other's shoulders.
        let urgent: Vec<_> = (1..=URGENT)
            .map(|port| {
                scope.spawn(move || {
                    stay_on_one_cpu();
                    become_urgent(port.into());
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
            while !over.load(Ordering::Relaxed) {
                sent += packets(9, AT_ONCE);
            }
            (9, sent)
        });
        let mut sent: Vec<_> = urgent.into_iter().map(|one| one.join().expect("no panic")).collect();
        over.store(true, Ordering::Relaxed);
        sent.push(steady.join().expect("no panic"));
        sent
    });
    let mut counted = std::collections::HashMap::<u16, u64>::new();
    for increment in drained(&mut probe) {
        let Traffic::Flow(key) = increment.traffic else { panic!("{}", describe(&increment)) };
        *counted.entry(key.remote.port).or_default() += increment.counters.egress.packets;
    }
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_unstable();
    println!("packets by port: {counted:?}");
    assert_eq!(counted, sent);
    assert_eq!(probe.lost().expect("readable").insert_failed, 0, "no more at a time than there are memories");
    assert_eq!(Memories::of(&probe).taken(), 0);
}

/// On a real link: senders on one CPU that preempt each other, each with a flow of its own.
#[test]
fn senders_that_preempt_each_other_are_counted_to_the_last_packet() {
    const URGENT: u16 = 3;
    const PACKETS: u64 = 500;
    with_link(|link| {
        let Some(mut probe) = probe_with(&without_front()) else { return };
        probe.attach_link(link.host_ifindex).expect("attached");
        link.up();
        let receiver = link.in_target(|| UdpSocket::bind("198.51.100.2:4000").expect("bound"));
        // Until the kernel knows the neighbour it keeps only the last packets.
        let first = UdpSocket::bind("198.51.100.1:0").expect("bound");
        first.send_to(&[0; 10], "198.51.100.2:4000").expect("sent");
        receiver.recv_from(&mut [0; 10]).expect("received");
        std::thread::scope(|scope| {
            for number in 0..=URGENT {
                scope.spawn(move || {
                    stay_on_one_cpu();
                    let socket = UdpSocket::bind(("198.51.100.1", 5000 + number)).expect("bound");
                    if number > 0 {
                        become_urgent(number.into());
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
        let increments = probe.settle(link, 0);
        let packets = |port: u16| {
            let is_it = |one: &&Increment| matches!(one.traffic, Traffic::Flow(key) if key.remote.port == port);
            increments.iter().filter(is_it).map(|one| one.counters.ingress.packets).sum::<u64>()
        };
        let counted: Vec<_> = (0..=URGENT).map(|number| packets(5000 + number)).collect();
        assert_eq!(counted, [PACKETS; URGENT as usize + 1]);
        assert_eq!(probe.lost().expect("readable"), ObservationLosses::default());
    });
}

/// Real-time priority, where it may be had: without it nobody preempts, and the test is an easier one.
fn become_urgent(priority: i32) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: a plain system call on this thread.
    let _refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
