//! The classifier on real kernels: golden frames on it and on the host's build of the same source, and counts on real links.

mod books;
mod engine;
mod frames;
mod fuzz;
mod golden;
mod host;
mod injected;
mod link;
mod namespace;
mod preempted;
mod processes;
mod size;

use std::collections::HashMap;
use std::fmt::Write as _;

use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::parse::Meta;

use super::{KernelMeter, KernelMeterConfig, possible_cpus};
use crate::flow::{Counters, Increment, Traffic};
use crate::meter::abi::Growth;
use books::Books;

/// A loaded probe, or `None` with the reason printed where there are no rights to load one.
fn probe() -> Option<Books> {
    probe_with(&KernelMeterConfig::default())
}

/// As on a kernel for real time: every packet goes to the shared table, and others may preempt it.
fn without_front() -> KernelMeterConfig {
    KernelMeterConfig { front: false, ..KernelMeterConfig::default() }
}

/// As above. Books are kept of it: see [`Books`].
fn probe_with(config: &KernelMeterConfig) -> Option<Books> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading BPF programs needs root");
        return None;
    }
    Some(Books::open(KernelMeter::load(config).expect("the classifier loads")))
}

/// Whether the kernel is this new; else the test says what it needs (`cargo xtask test-vm` knows the words) and is over.
pub(super) fn is_linux(major: u32, minor: u32, for_what: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().unwrap_or(0));
    let is_new = (numbers.next(), numbers.next()) >= (Some(major), Some(minor));
    if !is_new {
        println!("skipped: needs Linux {major}.{minor} ({for_what})");
    }
    is_new
}

/// From now on the thread is never moved: what each CPU keeps for itself is then one.
fn stay_on_one_cpu() {
    let this_thread = nix::unistd::Pid::from_raw(0);
    let affinity = nix::sched::sched_getaffinity(this_thread).expect("an affinity");
    let mut one = nix::sched::CpuSet::new();
    let first = (0..nix::sched::CpuSet::count()).find(|&cpu| affinity.is_set(cpu).unwrap_or(false)).expect("a CPU");
    one.set(first).expect("a CPU");
    nix::sched::sched_setaffinity(this_thread, &one).expect("moved");
}

/// Everything in the kernel's tables.
fn tables(probe: &mut Books) -> HashMap<FlowKey, FlowValue> {
    let mut entries = HashMap::new();
    probe.drain.snapshot(&mut |&Growth { key, now: value, .. }| {
        let before = entries.insert(*key, *value);
        assert!(before.is_none(), "{key:?} has two entries: {before:?} and {value:?}");
    });
    entries
}

/// Requires equal entries, to the bit but for times, and shows those that differ.
fn assert_same(kernel: HashMap<FlowKey, FlowValue>, host: HashMap<FlowKey, FlowValue>, what: &str) {
    let (kernel, host) = (without_times(kernel), without_times(host));
    let differs = |key: &&FlowKey| kernel.get(key) != host.get(key);
    for key in kernel.keys().chain(host.keys()).filter(differs).take(4) {
        println!("{key:?}\n  kernel {:?}\n  host   {:?}", kernel.get(key), host.get(key));
    }
    assert!(kernel == host, "{what}: kernel and host differ");
}

/// What differs from run to run is made the same.
fn without_times(mut entries: HashMap<FlowKey, FlowValue>) -> HashMap<FlowKey, FlowValue> {
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

fn drained(probe: &mut Books) -> Vec<Increment> {
    let mut increments = Vec::new();
    probe.drain(&mut |increment| increments.push(increment)).expect("drained");
    increments
}

/// Runs a frame through a program of the loaded classifier.
fn run(probe: &Books, program: &str, frame: &[u8], meta: &Meta) -> std::io::Result<()> {
    // Offsets in `struct __sk_buff`, which is the kernel's promise to programs.
    const SIZE: usize = 192;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0_u8; SIZE];
    context[GSO_SEGS..][..4].copy_from_slice(&meta.gso_segs.to_ne_bytes());
    context[GSO_SIZE..][..4].copy_from_slice(&meta.gso_size.to_ne_bytes());
    probe.entry(program).run(frame, &context, 1)
}

/// One line a human can check.
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
