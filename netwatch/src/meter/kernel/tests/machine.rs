//! Tests that change the machine: CPUs are turned on and off, and the machine is suspended. They
//! run in the virtual machines of `cargo xtask test-vm` only.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::checked::CheckedMeter;
use super::engine::{PLAIN, datagram, repeat};
use super::{drained, meter_with};
use crate::flow::Increment;
use crate::meter::clock;
use crate::meter::kernel::cpus::Cpus;

/// Set by the first process of those machines. The tests are ignored elsewhere; this protects a
/// machine on which someone runs ignored tests.
const MAY_CHANGE: &str = "NETWATCH_MAY_CHANGE_MACHINE";

/// The CPU that is offline after the boot.
const CPU: usize = 2;

fn assert_disposable() {
    let is_disposable = std::env::var_os(MAY_CHANGE).is_some_and(|value| value == "1");
    assert!(is_disposable, "this test changes the machine; `cargo xtask test-vm` sets {MAY_CHANGE}=1");
}

/// Turns the CPU on while this exists.
struct OnlineCpu;

impl OnlineCpu {
    fn new() -> Self {
        set_online(true);
        Self
    }
}

impl Drop for OnlineCpu {
    fn drop(&mut self) {
        set_online(false);
    }
}

fn set_online(online: bool) {
    let path = format!("/sys/devices/system/cpu/cpu{CPU}/online");
    fs::write(&path, if online { "1" } else { "0" }).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Runs `work` on the CPU.
fn on_the_cpu(work: impl FnOnce() + Send) {
    let this_thread = Pid::from_raw(0);
    let before = sched_getaffinity(this_thread).expect("an affinity");
    let mut one = CpuSet::new();
    one.set(CPU).expect("a CPU");
    sched_setaffinity(this_thread, &one).expect("moved");
    work();
    // A CPU cannot be turned off while a thread may only run there.
    sched_setaffinity(this_thread, &before).expect("moved back");
}

/// Fronts exist for the CPUs that are online at the load; the packets of another one that comes
/// online are counted without.
#[test]
#[ignore = "changes the machine: `cargo xtask test-vm` runs it"]
fn fronts_follow_the_cpus_that_are_online() {
    assert_disposable();
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let cpus = Cpus::of_this_machine().expect("readable");
    assert!(cpus.count() as usize > CPU && cpus.online() == [0, 1], "{} possible, {:?}", cpus.count(), cpus.online());
    let expected = if PLAIN().front { CPU } else { 1 };
    assert_eq!(meter.table.lock().fronts.in_use().len(), expected);
    let entry = meter.feed_point("link_egress");
    let online = OnlineCpu::new();
    on_the_cpu(|| repeat(&entry, &datagram(0), 20));
    drop(online);
    assert_eq!(drained_packets(&mut meter), 20);
}

/// A CPU comes online while packets are counted, counts packets of its own and of shared flows, and
/// goes offline with counts that nothing has drained yet.
#[test]
#[ignore = "changes the machine: `cargo xtask test-vm` runs it"]
fn counts_are_exact_while_a_cpu_goes_online_and_offline() {
    assert_disposable();
    let Some(without_front) = meter_with(&PLAIN()) else { return };
    count_while_a_cpu_comes_and_goes(without_front);
    let online = OnlineCpu::new();
    let with_front = meter_with(&PLAIN()).expect("it loaded above");
    drop(online);
    count_while_a_cpu_comes_and_goes(with_front);
}

fn count_while_a_cpu_comes_and_goes(mut meter: CheckedMeter) {
    const ROUNDS: u32 = 6;
    const TIMES: u32 = 500;
    let entry = meter.feed_point("link_egress");
    let (done, others) = (AtomicBool::new(false), meter.feed_point("link_egress"));
    let (mut packets, mut sent) = (0, 0);
    std::thread::scope(|scope| {
        let background = scope.spawn(|| {
            let mut sent = 0_u64;
            while !done.load(Ordering::Acquire) {
                (0..8).for_each(|number| repeat(&others, &datagram(number), 10));
                sent += 80;
            }
            sent
        });
        for round in 0..ROUNDS {
            let online = OnlineCpu::new();
            on_the_cpu(|| (0..16).for_each(|number| repeat(&entry, &datagram(number), TIMES)));
            sent += u64::from(16 * TIMES);
            if round % 2 == 0 {
                packets += drained_packets(&mut meter);
            }
            drop(online);
            meter.table.lock().flows.retire_all(round % 3 == 0);
            packets += drained_packets(&mut meter);
        }
        done.store(true, Ordering::Release);
        sent += background.join().expect("no panic");
    });
    packets += drained_packets(&mut meter);
    assert_eq!(packets, sent);
}

fn drained_packets(meter: &mut CheckedMeter) -> u64 {
    drained(meter).iter().map(|one| one.counters.egress.packets).sum()
}

/// Suspends the machine for some seconds. Returns for how long it was suspended, in ns.
fn suspend() -> u64 {
    const ALARM: &str = "/sys/class/rtc/rtc0/wakealarm";
    let before = clock::ahead_of_monotonic_ns();
    fs::write(ALARM, "+5").unwrap_or_else(|error| panic!("{ALARM}: {error}"));
    fs::write("/sys/power/state", "mem").expect("the machine can be suspended");
    u64::try_from(clock::ahead_of_monotonic_ns() - before).expect("it only grows")
}

/// Packets that the short path counts have the right time after a suspension, during which the
/// kernel's tick count stands still.
#[test]
#[ignore = "suspends the machine: `cargo xtask test-vm` runs it"]
fn times_are_right_after_the_machine_was_suspended() {
    const SECOND: u64 = 1_000_000_000;
    assert_disposable();
    if !fs::read_to_string("/sys/power/mem_sleep").is_ok_and(|states| states.contains("[deep]")) {
        // The virtual machine of arm64: its clocks do not stop while it idles (s2idle).
        println!("not suspended: this machine has no suspension to memory");
        return;
    }
    let Some(mut meter) = meter_with(&PLAIN()) else { return };
    let entry = meter.feed_point("link_egress");
    repeat(&entry, &datagram(0), 100);
    let before = only(drained(&mut meter));
    let suspended = suspend();
    assert!(suspended > 2 * SECOND, "suspended for {suspended} ns");
    meter.poll(&mut drop).expect("the tick is set again");
    let resumed = clock::unix_now_ns();
    repeat(&entry, &datagram(0), 100);
    repeat(&entry, &datagram(1), 1);
    let after = drained(&mut meter);
    let now = clock::unix_now_ns();
    assert_eq!(after.len(), 2, "{after:?}");
    // The tick is late on a busy machine, and never early.
    for one in &after {
        let range = resumed - SECOND..=now;
        assert!(range.contains(&one.last_seen_ns), "{} is not in {range:?}", one.last_seen_ns);
    }
    let gap = after.iter().map(|one| one.last_seen_ns).min().expect("two") - before.last_seen_ns;
    assert!(gap >= suspended - SECOND, "{gap} ns between packets, suspended for {suspended} ns");
}

fn only(increments: Vec<Increment>) -> Increment {
    let [one] = increments[..] else { panic!("{increments:?}") };
    one
}
