//! Random and mutated frames: whatever they are, the classifier in the kernel and the host's build of the same source count the same. A short run
//! here; `cargo xtask fuzz` sets the variables for a long one.

use std::collections::HashMap;
use std::env;

use fastrand::Rng;
use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::parse::{Hook, Meta};
use netwatch_common::remainder;

use super::books::Books;
use super::golden::{self, is_runnable};
use super::host::Host;
use super::{KernelMeterConfig, assert_same, probe_with, run, stay_on_one_cpu, tables, without_front};

/// How many frames, if nobody says.
const FRAMES: u64 = 20_000;
/// Frames between two comparisons.
const BATCH: u64 = 2_000;
/// BPF_PROG_TEST_RUN takes no longer ones: a page, less what the kernel keeps beside the bytes.
const LONGEST: usize = 3_712;
/// The kernel's memory of first fragments may forget at another moment than the host's: neither gets to its end.
const FRAGMENTS: usize = 256;

/// Bytes that mean something to a parser.
const LIKELY: [u8; 16] = [0, 1, 4, 5, 6, 17, 43, 44, 51, 58, 60, 0x20, 0x45, 0x60, 0x81, 0xff];

const HOOKS: [(&str, Hook); 3] =
    [("link_egress", Hook::FromTarget), ("link_ingress", Hook::ToTarget), ("loopback", Hook::Loopback)];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// A frame that somebody thought of, with some of its bytes changed, most of them in its headers.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(..6) {
        match rng.u8(..10) {
            0 => frame.truncate(rng.usize(14..=frame.len().max(14))),
            1 => frame.extend(std::iter::repeat_with(|| rng.u8(..)).take(32)),
            2 => {
                // A header in front of the rest once more.
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

/// Frames since the last comparison, each with the key that the host's build counted it under.
type Recent = Vec<(FlowKey, &'static str, Vec<u8>)>;

fn compare(probe: &mut Books, host: &mut Host, recent: &mut Recent, what: &str) {
    let strip = |mut entries: HashMap<FlowKey, FlowValue>| {
        // Measured with different clocks.
        entries.values_mut().for_each(|value| value.round_trips = Default::default());
        entries
    };
    let (kernel, own) = (strip(tables(probe)), strip(host.entries.clone()));
    let differs = |key: &FlowKey| kernel.get(key).map(|value| value.halves) != own.get(key).map(|value| value.halves);
    for (key, program, frame) in recent.drain(..).filter(|(key, ..)| differs(key)) {
        println!("{program}, to the host {key:?}: {frame:02x?}");
    }
    assert_same(kernel, own, what);
    // All flows leave on both sides. What has no flow stays.
    probe.drain.flows.retire_all(true);
    probe.drain(&mut drop).expect("drained");
    probe.poll(&mut drop).expect("room");
    host.entries.retain(|key, _| remainder::is_fixed(key));
}

#[test]
fn kernel_and_host_agree_on_whatever_comes() {
    agree_on_whatever_comes(&KernelMeterConfig::default(), FRAMES);
}

#[test]
fn kernel_and_host_agree_on_whatever_comes_without_the_front() {
    agree_on_whatever_comes(&without_front(), FRAMES / 4);
}

fn agree_on_whatever_comes(config: &KernelMeterConfig, frames: u64) {
    let Some(mut probe) = probe_with(config) else { return };
    // What lies in another CPU's front while a SYN begins a flow's numbers anew brings the old ones back: see docs/json.md.
    stay_on_one_cpu();
    let (frames, seed) = (number("NETWATCH_FUZZ_FRAMES").unwrap_or(frames), number("NETWATCH_FUZZ_SEED"));
    let seed = seed.unwrap_or_else(|| Rng::new().u64(..));
    println!("{frames} frames, NETWATCH_FUZZ_SEED={seed}");
    let seeds: Vec<Vec<u8>> =
        golden::all().into_iter().flat_map(|case| case.frames).filter(|frame| frame.len() >= 14).collect();
    let (mut rng, mut host, mut recent, mut done) = (Rng::with_seed(seed), Host::default(), Recent::new(), 0);
    while done < frames {
        let frame = mutated(&mut rng, &seeds);
        if !is_runnable(&frame) || frame.len() > LONGEST {
            continue;
        }
        if host.fragments() > FRAGMENTS {
            compare(&mut probe, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}, by frame {done}"));
            (probe, host) = (probe_with(config).expect("as before"), Host::default());
        }
        let (program, hook) = HOOKS[rng.usize(..HOOKS.len())];
        let meta = meta(&mut rng);
        // The kernel refuses some lengths of segments for some frames.
        if run(&probe, program, &frame, &meta).is_ok() {
            recent.push((host.run(&frame, &meta, hook), program, frame));
            done += 1;
            if done.is_multiple_of(BATCH) {
                compare(&mut probe, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}, by frame {done}"));
            }
        }
    }
    compare(&mut probe, &mut host, &mut recent, &format!("NETWATCH_FUZZ_SEED={seed}"));
}
