//! Limits of the classifier's load time and memory.

use super::default_meter;
use crate::meter::{KernelMeter, KernelMeterConfig};

/// Maximum number of instructions that the verifier processes, over all programs: they determine
/// the load time, and the kernel rejects programs with more than a million.
const MAX_VERIFIED: u32 = 50_000;
/// Maximum number of instructions of all programs.
const MAX_INSTRUCTIONS: u32 = 10_000;

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
    let meter = super::meter_with(config)?;
    let (mut verified, mut instructions) = (0, 0);
    for (name, program) in meter.named_programs() {
        let info = crate::meter::sys::program_info(program).expect("readable");
        println!("{name}: {} verified, {} instructions", info.verified_insns, info.xlated_prog_len / 8);
        verified += info.verified_insns;
        instructions += info.xlated_prog_len / 8;
    }
    assert_eq!(meter.verified_instructions().expect("Linux 5.16"), verified);
    assert!(verified < MAX_VERIFIED, "{verified} instructions verified");
    assert!(instructions < MAX_INSTRUCTIONS, "{instructions} instructions");
    Some(verified)
}

#[test]
fn kernel_memory_stays_under_64_mebibytes() {
    let Some(meter) = default_meter() else { return };
    let memory = meter.memory_bytes().expect("fdinfo");
    let full = meter.full_memory_bytes(&KernelMeterConfig::default()).expect("fdinfo");
    assert!(memory < full && full < 64 << 20, "{memory} bytes, {full} with all flows");
}

/// The classifier loads with logging on, too.
#[test]
fn the_classifier_can_log() {
    let Some(mut meter) = super::meter_with(&KernelMeterConfig { log: true, ..KernelMeterConfig::default() }) else {
        return;
    };
    meter.poll(&mut |notice| panic!("the classifier is not attached: {notice:?}")).expect("room");
}

/// It is loaded on one thread and used on another.
#[test]
fn a_meter_can_be_sent_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<KernelMeter>();
}
