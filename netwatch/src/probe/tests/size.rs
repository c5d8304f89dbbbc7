//! What the classifier costs to load and to keep.

use super::probe;
use crate::probe::{Probe, ProbeConfig};

/// The verifier's work is most of what a load takes, and kernels refuse programs over a million.
#[test]
fn the_verifier_has_little_to_do() {
    let Some(probe) = probe() else { return };
    let verified = probe.verified_instructions().expect("Linux 5.16");
    println!("verified instructions: {verified}");
    assert!(verified < 20_000, "{verified} instructions verified");
}

#[test]
fn kernel_memory_stays_under_64_mebibytes() {
    let Some(probe) = probe() else { return };
    let memory = probe.memory_bytes().expect("fdinfo");
    assert!(memory < 64 << 20, "{memory} bytes");
}

/// The classifier's own messages cost nothing unless asked for, and load when they are.
#[test]
fn the_classifier_can_log() {
    let Some(mut probe) = super::probe_with(&ProbeConfig { log: true, ..ProbeConfig::default() }) else { return };
    probe.poll(&mut |notice| panic!("nothing was attached: {notice:?}"));
}

/// Loaded on one thread, used on another.
#[test]
fn a_probe_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<Probe>();
}
