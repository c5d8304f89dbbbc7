//! Fronts exist only for CPUs in use, on machines with many possible CPUs and with CPUs that come
//! online later: simulated by a meter that starts with too few fronts.

use std::time::Duration;

use netwatch_common::front::Front;

use super::checked::CheckedMeter;
use super::engine::{PLAIN, count_while_draining, datagram};
use super::{drained, stay_on_one_cpu};
use crate::meter::KernelMeter;
use crate::meter::kernel::cpus::Cpus;

/// Possible CPUs of the simulated machine.
const POSSIBLE: u32 = 256;

/// A meter on a machine with many possible CPUs, with fronts for `cpus` only.
fn meter_with_fronts(cpus: &[u32]) -> Option<CheckedMeter> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading BPF programs needs root");
        return None;
    }
    let meter = KernelMeter::load_with_fronts(&PLAIN(), Cpus::with_possible(POSSIBLE), cpus);
    Some(CheckedMeter::new(meter.expect("the classifier loads")))
}

/// Lets the meter add the fronts that are missing.
pub(super) fn add_fronts(meter: &mut CheckedMeter) {
    meter.poll(&mut drop).expect("no error of a growth");
    while meter.drain.fronts.is_growing() {
        std::thread::sleep(Duration::from_millis(1));
        meter.poll(&mut drop).expect("no error of a growth");
    }
}

fn packets(meter: &mut CheckedMeter) -> u64 {
    drained(meter).iter().map(|increment| increment.counters.egress.packets).sum()
}

#[test]
fn a_cpu_without_a_front_counts_in_the_table_and_gets_a_front() {
    let Some(mut meter) = meter_with_fronts(&[]) else { return };
    let cpu = stay_on_one_cpu() as u32;
    let entry = meter.feed_point("link_egress");
    let send = |times| entry.run(&datagram(1), &[], times).expect("runs");
    add_fronts(&mut meter);
    assert_eq!(meter.drain.fronts.in_use(), [], "no packet was counted yet");
    send(10);
    assert_eq!(packets(&mut meter), 10);
    add_fronts(&mut meter);
    assert_eq!(meter.drain.fronts.in_use(), [(cpu, 0)]);
    send(20);
    assert_eq!(meter.drain.fronts.in_use(), [(cpu, 1)], "the flow has a slot");
    assert_eq!(packets(&mut meter), 20);
}

#[test]
fn no_packet_is_lost_while_fronts_are_added() {
    let Some(meter) = meter_with_fronts(&[]) else { return };
    count_while_draining(meter);
}

/// A CPU that went offline cannot run `flush`: any other CPU flushes its front.
#[test]
fn the_front_of_an_offline_cpu_is_flushed_by_another() {
    let offline = POSSIBLE - 1;
    let Some(mut meter) = meter_with_fronts(&[0, offline]) else { return };
    let fronts: Vec<u32> = meter.drain.fronts.in_use().iter().map(|(cpu, _)| *cpu).collect();
    assert_eq!(fronts, [0, offline]);
    assert_eq!(packets(&mut meter), 0);
}

#[test]
fn memory_depends_on_the_cpus_in_use_and_not_on_the_possible_ones() {
    /// The state of a CPU, and its element in the map of fronts.
    const PER_POSSIBLE_CPU: u64 = 64 + 8;
    let Some(without) = meter_with_fronts(&[]) else { return };
    let Some(with) = meter_with_fronts(&[0, 1, 2]) else { return };
    let [without, with] = [without, with].map(|meter| meter.memory_bytes().expect("fdinfo"));
    assert_eq!(with - without, 3 * size_of::<Front>() as u64);
    let usual = super::default_meter().expect("it loaded above");
    let fronts = usual.drain.fronts.memory_bytes();
    let few = usual.memory_bytes().expect("fdinfo") - fronts;
    let more = u64::from(POSSIBLE) * PER_POSSIBLE_CPU;
    assert!(without <= few + more + (8 << 10), "{without} bytes with {POSSIBLE} possible CPUs, {few} without");
}
