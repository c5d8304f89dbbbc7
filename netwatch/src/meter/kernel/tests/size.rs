//! What the classifier costs to load and to keep.

use super::probe;
use crate::meter::{KernelMeter, KernelMeterConfig};

/// Instructions that the verifier may look at, over all programs: what a load takes time for, and no kernel takes over a million of one.
const VERIFIED: u32 = 40_000;
/// Instructions of all programs.
const INSTRUCTIONS: u32 = 10_000;

#[test]
fn the_classifier_stays_small() {
    if let Some(verified) = stays_small(&KernelMeterConfig::default()) {
        println!("verified instructions: {verified}");
    }
}

#[test]
fn the_classifier_without_the_front_stays_small() {
    stays_small(&super::without_front());
}

fn stays_small(config: &KernelMeterConfig) -> Option<u32> {
    let probe = super::probe_with(config)?;
    let (mut verified, mut instructions) = (0, 0);
    for (name, program) in probe.named_programs() {
        let info = crate::meter::sys::program_info(program).expect("readable");
        println!("{name}: {} verified, {} instructions", info.verified_insns, info.xlated_prog_len / 8);
        verified += info.verified_insns;
        instructions += info.xlated_prog_len / 8;
    }
    assert_eq!(probe.verified_instructions().expect("Linux 5.16"), verified);
    assert!(verified < VERIFIED, "{verified} instructions verified");
    assert!(instructions < INSTRUCTIONS, "{instructions} instructions");
    Some(verified)
}

#[test]
fn kernel_memory_stays_under_64_mebibytes() {
    let Some(probe) = probe() else { return };
    let memory = probe.memory_bytes().expect("fdinfo");
    let full = probe.full_memory_bytes(&KernelMeterConfig::default()).expect("fdinfo");
    assert!(memory < full && full < 64 << 20, "{memory} bytes, {full} with all flows");
}

/// The classifier's own messages cost nothing unless asked for, and load when they are.
#[test]
fn the_classifier_can_log() {
    let Some(mut probe) = super::probe_with(&KernelMeterConfig { log: true, ..KernelMeterConfig::default() }) else {
        return;
    };
    probe.poll(&mut |notice| panic!("nothing was attached: {notice:?}")).expect("room");
}

/// Loaded on one thread, used on another.
#[test]
fn a_probe_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<KernelMeter>();
}
