//! Captures from other projects: packets, bytes and flows of every file compared with tshark, by
//! the engines in user space and in the kernel. The files are not part of the project; without them
//! these tests are skipped.

mod exceptions;
mod expected;
mod ours;
mod rewritten;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use netwatch::capture::{Capture, CaptureEnd};
use netwatch::flow::DEFAULT_IDLE_TIMEOUT;
use netwatch::replay::{self, LocalAddresses, ReplayObserver, ReplayPlan, Replayed};
use netwatch_tests::report::assert_balanced;

use expected::Expected;
use ours::{Addressed, Housekeeping, LeftOut, Sums};

/// An observer that never stops the replay.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The folder; without it, prints the reason and returns `None`.
fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus"));
    let folder = std::env::var_os("NETWATCH_CORPUS").map_or_else(beside, PathBuf::from);
    if folder.join("expected.jsonl").exists() {
        return Some(folder);
    }
    println!("skipped: there are no captures in {} (set NETWATCH_CORPUS to their folder)", folder.display());
    None
}

fn plan(by_kernel: bool) -> ReplayPlan {
    let idle_timeout = DEFAULT_IDLE_TIMEOUT;
    let local = LocalAddresses::default();
    ReplayPlan { local, by_kernel, filter: None, max_flows: 131_072, idle_timeout, resolve: None }
}

fn replay(capture: &mut Capture, by_kernel: bool, observer: &mut impl ReplayObserver) -> Replayed {
    let done = replay::replay(capture, &plan(by_kernel), observer).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(done.end, CaptureEnd::Whole), "{}: {:?}", capture.name(), done.end);
    let mut document = Vec::new();
    netwatch::format::json::write(&done.report, &mut document).expect("in memory");
    assert_balanced(&serde_json::from_slice(&document).expect("JSON"));
    done
}

/// The differences between a file and its expectation, one per line.
fn differences(expected: &Expected, done: &Replayed, housekeeping: &Addressed) -> Vec<String> {
    let report = &done.report;
    let replay = report.replay.as_ref().expect("a replay");
    let mut wrong = Vec::new();
    if (replay.frames.skbs, replay.frames.bytes) != (expected.packets, expected.bytes) {
        wrong.push(format!("{:?} frames, expected {} of {}", replay.frames, expected.packets, expected.bytes));
    }
    if ours::not_ip(report) != expected.not_ip_packets {
        wrong.push(format!("{} frames are not IP, expected {}", ours::not_ip(report), expected.not_ip_packets));
    }
    if ours::malformed(report) != expected.malformed {
        wrong.push(format!("{:?} are malformed, expected {:?}", ours::malformed(report), expected.malformed));
    }
    let mut flows = ours::flows(report);
    housekeeping.iter().for_each(|(key, sums)| *flows.entry(*key).or_default() += *sums);
    wrong.extend(compare(&flows, expected));
    wrong
}

fn compare(ours: &BTreeMap<ours::Key, Sums>, expected: &Expected) -> Vec<String> {
    let theirs = expected.flows();
    let fragmented = expected.fragmented();
    let (ours_joined, ours) = ours::split(ours, &fragmented);
    let (theirs_joined, theirs) = ours::split(&theirs, &fragmented);
    let mut wrong: Vec<String> = ours::unequal(&ours, &theirs);
    // tshark assigns port 0 to later fragments; netwatch assigns them to the flow of the first one.
    // So the sums between two addresses must be equal, and every port must be that of a first
    // fragment.
    wrong.extend(ours::unequal(&ours::without_ports(&ours_joined), &ours::without_ports(&theirs_joined)));
    let invented = ours_joined.keys().filter(|key| key.has_ports() && !theirs_joined.contains_key(key));
    wrong.extend(invented.map(|key| format!("{key:?} has ports that no first fragment has")));
    wrong
}

#[test]
fn every_file_matches_tshark() {
    let Some(folder) = corpus() else { return };
    let all = expected::read(&folder);
    assert!(all.len() >= 282, "only {} files", all.len());
    let mut wrong = Vec::new();
    for expected in &all {
        let path = folder.join("pcap").join(&expected.file);
        expected.assert_same_file(&path);
        let mut capture = Capture::open(&path, &NEVER).unwrap_or_else(|error| panic!("{error}"));
        let mut housekeeping = Housekeeping::default();
        let done = replay(&mut capture, false, &mut housekeeping);
        let found = differences(expected, &done, &housekeeping.0);
        wrong.extend(found.into_iter().map(|line| format!("{}: {line}", expected.file)));
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Passes every frame to the loaded classifier: flows and remainders are identical, except times.
#[test]
fn the_kernel_counts_the_same() {
    let Some(folder) = corpus() else { return };
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading BPF programs needs root");
        return;
    }
    let (mut frames, mut left_out, mut wrong) = (0, LeftOut::default(), Vec::new());
    for expected in expected::read(&folder) {
        let path = folder.join("pcap").join(&expected.file);
        let open = || Capture::open(&path, &NEVER).unwrap_or_else(|error| panic!("{error}"));
        let mut here = LeftOut::default();
        let kernel = replay(&mut open(), true, &mut here);
        let host = ours::host_without(&mut open(), &here);
        let kernel = ours::comparable(kernel.report.flows.iter().map(|known| &known.flow), &kernel.report.remainders);
        wrong.extend(ours::unequal(&kernel, &host).into_iter().map(|line| format!("{}: {line}", expected.file)));
        frames += expected.packets;
        left_out.absorb(here);
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} of {frames} frames are cut: no kernel can have them", left_out.frames());
    assert!(left_out.whole.is_empty(), "whole frames that the kernel was not given: {:?}", left_out.whole);
}
