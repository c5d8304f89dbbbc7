//! Fronts exist only for CPUs in use, on machines with many possible CPUs and with CPUs that come
//! online later: simulated by a meter that has too few fronts.

use netwatch_common::front::{Front, FrontHead, InstalledSlots};

use super::checked::CheckedMeter;
use super::engine::{PLAIN, count_while_draining, datagram};
use super::{drained, stay_on_one_cpu};
use crate::meter::KernelMeter;
use crate::meter::kernel::cpus::Cpus;

/// Possible CPUs of the simulated machine.
const POSSIBLE: u32 = 256;

/// A meter on a machine with many possible CPUs, with fronts for the CPUs below `count` only.
fn meter_with_fronts(count: u32) -> Option<CheckedMeter> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading BPF programs needs root");
        return None;
    }
    let meter = KernelMeter::load_with_fronts(&PLAIN(), Cpus::with_possible(POSSIBLE), count);
    Some(CheckedMeter::new(meter.expect("the classifier loads")))
}

fn packets(meter: &mut CheckedMeter) -> u64 {
    drained(meter).iter().map(|increment| increment.counters.egress.packets).sum()
}

#[test]
fn a_cpu_without_a_front_counts_in_the_table() {
    let cpu = stay_on_one_cpu() as u32;
    if cpu == 0 {
        return println!("skipped: this machine has one CPU");
    }
    let Some(mut meter) = meter_with_fronts(cpu) else { return };
    let entry = meter.feed_point("link_egress");
    for _ in 0..3 {
        entry.run(&datagram(1), &[], 10).expect("runs");
        assert!(meter.table.lock().fronts.in_use().iter().all(|groups| *groups == 0), "no front has the flow");
        assert_eq!(packets(&mut meter), 10);
    }
}

#[test]
fn no_packet_is_lost_on_cpus_with_and_without_a_front() {
    let Some(meter) = meter_with_fronts(1) else { return };
    count_while_draining(meter);
}

/// A CPU that went offline cannot run `flush`: any other CPU flushes its front.
#[test]
fn the_front_of_an_offline_cpu_is_flushed_by_another() {
    let Some(mut meter) = meter_with_fronts(POSSIBLE.min(16)) else { return };
    assert_eq!(meter.table.lock().fronts.in_use(), [0; 16]);
    assert_eq!(packets(&mut meter), 0);
}

#[test]
fn memory_depends_on_the_fronts_and_not_on_the_possible_cpus() {
    const PER_FRONT: usize = size_of::<Front>() + size_of::<InstalledSlots>();
    /// Arrays are whole pages.
    const ROUNDING: u64 = (4 * 64) << 10;
    let Some(one) = meter_with_fronts(1) else { return };
    let Some(three) = meter_with_fronts(3) else { return };
    let [one, three] = [one, three].map(|meter| meter.memory_bytes().expect("fdinfo"));
    assert!((three - one).abs_diff(2 * PER_FRONT as u64) < ROUNDING, "{one} with one front, {three} with three");
    let few = KernelMeter::load_with_fronts(&PLAIN(), Cpus::with_possible(1), 1).expect("the classifier loads");
    let few = few.memory_bytes().expect("fdinfo");
    let more = u64::from(POSSIBLE) * size_of::<FrontHead>() as u64;
    assert!(one <= few + more + ROUNDING, "{one} bytes with {POSSIBLE} possible CPUs, {few} with one");
}
