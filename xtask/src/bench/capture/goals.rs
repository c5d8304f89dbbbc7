//! The goals of a capture, as ratios to tcpdump in the same round.

use super::scene::CaptureCase;
use super::subject::{CaptureSubject, MeasuredCapture};
use super::{Rounds, median};

/// The most CPU time per packet, as a part of tcpdump's.
const MAX_CPU: f64 = 0.8;

/// Prints which goals were met.
pub fn print(case: &CaptureCase, measured: &Rounds) {
    let [without, netwatch, super_frames, tcpdump] = measured;
    type Cost = fn(&MeasuredCapture, &MeasuredCapture) -> f64;
    let costs: [(&str, Cost); 2] =
        [("CPU", MeasuredCapture::own_cpu_per_million), ("all", MeasuredCapture::all_cpu_per_million)];
    for (subject, rounds) in [(CaptureSubject::Netwatch, netwatch), (CaptureSubject::SuperFrames, super_frames)] {
        for (column, cost) in costs {
            let pairs = rounds.iter().zip(tcpdump).zip(without);
            let ratios: Vec<f64> =
                pairs.map(|((one, tcpdump), without)| cost(one, without) / cost(tcpdump, without)).collect();
            let (range, ratio) = (range(&ratios), median(ratios));
            let (name, verdict) = (subject.name(), verdict(ratio <= MAX_CPU));
            println!("  {column} s/M, {name} / tcpdump: {ratio:.3} {range}  goal: at most {MAX_CPU}: {verdict}");
        }
    }
    for (subject, rounds) in [(CaptureSubject::Netwatch, netwatch), (CaptureSubject::SuperFrames, super_frames)] {
        print_losses(subject.name(), case, rounds, tcpdump);
    }
}

fn print_losses(name: &str, case: &CaptureCase, rounds: &[MeasuredCapture], tcpdump: &[MeasuredCapture]) {
    match case.snaplen {
        Some(_) => {
            let fair: Vec<_> = rounds.iter().zip(tcpdump).filter(|(_, tcpdump)| tcpdump.lost == 0).collect();
            let lost: u64 = fair.iter().map(|(own, _)| own.lost).sum();
            let verdict = if fair.is_empty() { "not measured" } else { verdict(lost == 0) };
            println!("  lost, {name}, in {} rounds in which tcpdump lost none: {lost}  goal: 0: {verdict}", fair.len());
        }
        None => {
            let [ours, theirs] = [rounds, tcpdump].map(lost_part);
            println!(
                "  lost: {name} {:.3} %, tcpdump {:.3} %  goal: no more than tcpdump: {}",
                ours * 100.0,
                theirs * 100.0,
                verdict(ours <= theirs)
            );
        }
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

fn range(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("({least:.3} to {most:.3})")
}

/// The part of all packets that was lost.
fn lost_part(rounds: &[MeasuredCapture]) -> f64 {
    let sum = |count: fn(&MeasuredCapture) -> u64| rounds.iter().map(count).sum::<u64>() as f64;
    sum(|one| one.lost) / sum(|one| one.seen)
}
