//! Random and mutated frames: the classifier and the user-space build of the same source count them
//! the same. This is a short run; `cargo xtask fuzz` sets the variables for a long one.

use std::collections::HashMap;
use std::env;

use fastrand::Rng;
use netwatch_common::flow::{EntryKey, FlowValue};
use netwatch_common::parse::{Hook, Meta};

use super::checked::CheckedMeter;
use super::epochs;
use super::golden::{self, is_runnable};
use super::reference::ReferenceMeter;
use super::{EntryId, KernelMeterConfig, assert_same, meter_with, run, stay_on_one_cpu, tables, without_front};

/// Default number of frames.
const FRAMES: u64 = 20_000;
/// Frames between two comparisons.
const BATCH: u64 = 2_000;
/// BPF_PROG_TEST_RUN rejects longer frames: a page, minus the kernel's metadata.
const MAX_FRAME: usize = 3_712;
/// Maximum number of stored first fragments: the kernel's map may evict earlier than the reference
/// meter, so neither is filled.
const MAX_FRAGMENTS: usize = 256;

/// Bytes with a meaning to the parser.
const LIKELY: [u8; 16] = [0, 1, 4, 5, 6, 17, 43, 44, 51, 58, 60, 0x20, 0x45, 0x60, 0x81, 0xff];

const HOOKS: [(&str, Hook); 3] =
    [("link_egress", Hook::FromTarget), ("link_ingress", Hook::ToTarget), ("loopback", Hook::Loopback)];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// A golden frame with some bytes changed, most of them in its headers.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(..6) {
        match rng.u8(..10) {
            0 => frame.truncate(rng.usize(14..=frame.len().max(14))),
            1 => frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(32)),
            2 => {
                // Repeats a header.
                let at = 14.min(frame.len());
                let again = frame[at..(at + 8 * rng.usize(..6)).min(frame.len())].to_vec();
                frame.splice(at..at, again);
            }
            3..=6 if frame.len() > 14 => {
                let at = rng.usize(12..frame.len().min(90));
                frame[at] = LIKELY[rng.usize(..LIKELY.len())];
            }
            _ => {
                let at = rng.usize(..frame.len().min(120));
                frame[at] ^= 1 << rng.u8(..8);
            }
        }
    }
    frame
}

fn meta(rng: &mut Rng) -> Meta {
    match rng.u8(..8) {
        0 => Meta { gso_segs: rng.u32(2..45), gso_size: rng.u32(1..3000), tagged: false },
        _ => Meta::default(),
    }
}

/// Frames since the last comparison, each with the key that the reference meter counted it under.
type RecentFrames = Vec<(EntryKey, &'static str, Vec<u8>)>;

fn compare(meter: &mut CheckedMeter, host: &mut ReferenceMeter, recent: &mut RecentFrames, what: &str) {
    let strip = |mut entries: HashMap<EntryId, FlowValue>| {
        // Measured with different clocks.
        entries.values_mut().for_each(|value| value.round_trips = Default::default());
        entries
    };
    let (kernel, own) = (strip(tables(meter)), strip(host.entries.clone()));
    let halves = |entries: &HashMap<EntryId, FlowValue>, key: &EntryKey| {
        let mut halves: Vec<_> =
            entries.iter().filter(|(id, _)| id.0 == *key).map(|(id, it)| (id.1, it.halves)).collect();
        halves.sort_unstable_by_key(|(epoch, _)| *epoch);
        halves
    };
    let differs = |key: &EntryKey| halves(&kernel, key) != halves(&own, key);
    for (key, program, frame) in recent.drain(..).filter(|(key, ..)| differs(key)) {
        println!("{program}, reference key {key:?}: {frame:02x?}");
    }
    assert_same(kernel, own, what);
    // Retires all flows on both sides. Remainders stay.
    meter.table.lock().flows.retire_all(true);
    meter.drain(&mut drop).expect("drained");
    meter.poll(&mut drop).expect("room");
    host.retire_all();
}

#[test]
fn kernel_and_user_space_agree_on_random_frames() {
    agree_on_random_frames(&KernelMeterConfig::default(), FRAMES);
}

#[test]
fn kernel_and_user_space_agree_on_random_frames_without_the_front() {
    agree_on_random_frames(&without_front(), FRAMES / 4);
}

fn agree_on_random_frames(config: &KernelMeterConfig, frames: u64) {
    let Some(mut meter) = meter_with(config) else { return };
    // If a SYN resets sequence numbers while another CPU's front has counts of the flow, the old
    // numbers return: see docs/json.md.
    stay_on_one_cpu();
    let (frames, seed) = (number("NETWATCH_FUZZ_FRAMES").unwrap_or(frames), number("NETWATCH_FUZZ_SEED"));
    let seed = seed.unwrap_or_else(|| Rng::new().u64(..));
    println!("{frames} frames, NETWATCH_FUZZ_SEED={seed}");
    let seeds: Vec<Vec<u8>> = golden::all()
        .into_iter()
        .flat_map(|case| case.frames)
        .chain(epochs::frames())
        .filter(|frame| frame.len() >= 14)
        .collect();
    let (mut rng, mut host, mut recent, mut done) =
        (Rng::with_seed(seed), ReferenceMeter::default(), RecentFrames::new(), 0);
    while done < frames {
        let frame = mutated(&mut rng, &seeds);
        if !is_runnable(&frame) || frame.len() > MAX_FRAME {
            continue;
        }
        if host.fragments() > MAX_FRAGMENTS {
            compare(&mut meter, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}, by frame {done}"));
            (meter, host) = (meter_with(config).expect("as before"), ReferenceMeter::default());
        }
        let (program, hook) = HOOKS[rng.usize(..HOOKS.len())];
        let meta = meta(&mut rng);
        // The kernel rejects some segment sizes for some frames.
        if run(&meter, program, &frame, &meta).is_ok() {
            recent.push((host.run(&frame, &meta, hook), program, frame));
            done += 1;
            if done.is_multiple_of(BATCH) {
                compare(&mut meter, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}, by frame {done}"));
            }
        }
    }
    compare(&mut meter, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}"));
}
