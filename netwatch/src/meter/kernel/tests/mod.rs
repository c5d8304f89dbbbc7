//! Tests of the classifier on the running kernel: it is compared with a user-space build of the
//! same source, on frames and on real links.

mod cgroups;
mod checked;
mod engine;
mod epochs;
mod frames;
mod fronts;
mod fuzz;
mod golden;
mod injected;
mod link;
mod machine;
mod namespace;
mod preemption;
mod processes;
mod reference;
mod size;

use std::collections::HashMap;
use std::fmt::Write as _;

use netwatch_common::flow::{EntryKey, FlowValue};
use netwatch_common::parse::Meta;

use super::{KernelMeter, KernelMeterConfig};
use crate::flow::{Counters, Increment, Traffic};
use crate::meter::abi::Growth;
use crate::meter::kernel::cpus::Cpus;
use checked::CheckedMeter;
pub(super) use injected::PacketSocket;
pub(super) use namespace::{TestLink, bind_again, with_link};

/// A loaded meter with default settings. `None` without the rights to load one; the reason is
/// printed.
pub(super) fn default_meter() -> Option<CheckedMeter> {
    meter_with(&KernelMeterConfig::default())
}

/// The settings for PREEMPT_RT: every packet is counted in the shared table, and packets may
/// preempt each other.
fn without_front() -> KernelMeterConfig {
    KernelMeterConfig { front: false, ..KernelMeterConfig::default() }
}

/// As [`default_meter`], with other settings.
fn meter_with(config: &KernelMeterConfig) -> Option<CheckedMeter> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading BPF programs needs root");
        return None;
    }
    Some(CheckedMeter::new(KernelMeter::load(config).expect("the classifier loads")))
}

/// Whether the kernel has at least this version. If not, prints that the test is skipped, in the
/// format that `cargo xtask test-vm` recognizes.
pub(super) fn is_linux(major: u32, minor: u32, for_what: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    let is_new = (numbers.next(), numbers.next()) >= (Some(major), Some(minor));
    if !is_new {
        println!("skipped: needs Linux {major}.{minor} ({for_what})");
    }
    is_new
}

/// Number of possible CPUs.
fn possible_cpus() -> usize {
    Cpus::of_this_machine().expect("CPUs").count() as usize
}

/// Pins the thread to one CPU, so that only the per-CPU state of that CPU is used. Returns the CPU.
fn stay_on_one_cpu() -> usize {
    let this_thread = nix::unistd::Pid::from_raw(0);
    let affinity = nix::sched::sched_getaffinity(this_thread).expect("an affinity");
    let mut one = nix::sched::CpuSet::new();
    // Not the first: a test may want a CPU that has no front.
    let is_usable = |&cpu: &usize| affinity.is_set(cpu).unwrap_or(false);
    let last = (0..nix::sched::CpuSet::count()).rev().find(is_usable).expect("a CPU");
    one.set(last).expect("a CPU");
    nix::sched::sched_setaffinity(this_thread, &one).expect("moved");
    last
}

/// The key and the epoch of an entry.
type EntryId = (EntryKey, u32);

/// All entries and remainders in the kernel.
fn tables(meter: &mut CheckedMeter) -> HashMap<EntryId, FlowValue> {
    let mut entries = HashMap::new();
    meter.drain.snapshot(&mut |&Growth { key, now: value, .. }| {
        let before = entries.insert((*key, value.epoch), *value);
        assert!(before.is_none(), "{key:?} has two entries of one epoch: {before:?} and {value:?}");
    });
    entries
}

/// Requires equal entries, bit for bit except for times, and prints those that differ.
fn assert_same(kernel: HashMap<EntryId, FlowValue>, host: HashMap<EntryId, FlowValue>, what: &str) {
    let (kernel, host) = (without_times(kernel), without_times(host));
    let differs = |key: &&EntryId| kernel.get(key) != host.get(key);
    for key in kernel.keys().chain(host.keys()).filter(differs).take(4) {
        println!("{key:?}\n  kernel {:?}\n  user space {:?}", kernel.get(key), host.get(key));
    }
    assert!(kernel == host, "{what}: kernel and user space differ");
}

/// Replaces times, which differ between runs.
fn without_times(mut entries: HashMap<EntryId, FlowValue>) -> HashMap<EntryId, FlowValue> {
    for value in entries.values_mut() {
        value.first_seen_ns = 1;
        value.last_seen_ns = 1;
        value.handshake.started_ns = value.handshake.started_ns.min(1);
        value.handshake.rtt_ns = value.handshake.rtt_ns.min(1);
        value.round_trips.sum_ns = value.round_trips.count.into();
        value.round_trips.min_ns = value.round_trips.min_ns.min(1);
    }
    entries
}

fn drained(meter: &mut CheckedMeter) -> Vec<Increment> {
    let mut increments = Vec::new();
    meter.drain(&mut |increment| increments.push(increment)).expect("drained");
    increments
}

/// Runs a frame through a program of the loaded classifier.
fn run(meter: &CheckedMeter, program: &str, frame: &[u8], meta: &Meta) -> std::io::Result<()> {
    // Offsets in `struct __sk_buff`, which is a stable interface.
    const SIZE: usize = 192;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0_u8; SIZE];
    context[GSO_SEGS..][..4].copy_from_slice(&meta.gso_segs.to_ne_bytes());
    context[GSO_SIZE..][..4].copy_from_slice(&meta.gso_size.to_ne_bytes());
    meter.feed_point(program).run(frame, &context, 1)
}

/// One line that is easy to verify by hand.
fn describe(increment: &Increment) -> String {
    let mut line = match increment.traffic {
        Traffic::Flow(key) => {
            let part = if key.fragment { " fragment" } else { "" };
            let (local, remote) = (key.local, key.remote);
            format!("{}{part} {} {} {} {}", key.protocol, local.addr, local.port, remote.addr, remote.port)
        }
        other => format!("{other:?}"),
    };
    for (name, counters) in [("sent", increment.counters.egress), ("got", increment.counters.ingress)] {
        let Counters { skbs, packets, bytes, wire_bytes } = counters;
        if skbs != 0 {
            write!(line, " | {name} {skbs} {packets} {bytes} {wire_bytes}").expect("a string");
        }
    }
    line
}
