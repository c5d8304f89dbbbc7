//! Captures of packets by netwatch and by tcpdump, on the same kind of link and under the same
//! traffic, in pairs. docs/bench.md explains the numbers.

mod cpu;
mod goals;
mod scene;
mod subject;

use std::path::PathBuf;

use clap::Args;

use super::median;
use crate::{Result, build, setup};
use scene::{CaptureCase, CaptureScene, cases};
use subject::{CaptureSubject, MeasuredCapture};

/// Arguments of `cargo xtask bench capture`.
#[derive(Args)]
pub struct CaptureArguments {
    /// Rounds; each measures every subject once, in rotated order
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Measure this netwatch instead of a fresh build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl CaptureArguments {
    /// Everything, with the default number of rounds.
    pub fn all() -> Self {
        Self { rounds: 7, case: None, binary: None }
    }
}

const PACKAGES: [(&str, &str); 1] = [("tcpdump", "tcpdump")];

/// What was measured, by subject; one for each round.
type Rounds = [Vec<MeasuredCapture>; CaptureSubject::ALL.len()];

/// Measures and prints the selected cases.
pub fn run(arguments: CaptureArguments) -> Result {
    setup::install(&PACKAGES)?;
    let netwatch = arguments.binary.map_or_else(build::netwatch, Ok)?;
    let load = build::test_program("load")?;
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let scene = CaptureScene::start();
    let rounds = arguments.rounds.max(1);
    println!("captures written to /dev/null, {rounds} rounds, order rotated; medians");
    let is_wanted = |case: &CaptureCase| arguments.case.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    for case in cases(&load).iter().filter(|case| is_wanted(case)) {
        let measured = measure(&scene, case, rounds)?;
        print(case, &measured);
        goals::print(case, &measured);
    }
    Ok(())
}

fn measure(scene: &CaptureScene, case: &CaptureCase, rounds: usize) -> Result<Rounds> {
    let mut measured = [const { Vec::new() }; CaptureSubject::ALL.len()];
    for round in 0..rounds {
        for step in 0..CaptureSubject::ALL.len() {
            let at = (round + step) % CaptureSubject::ALL.len();
            measured[at].push(subject::measure(scene, CaptureSubject::ALL[at], case)?);
        }
    }
    Ok(measured)
}

fn print(case: &CaptureCase, measured: &Rounds) {
    println!("\n{}", case.name);
    println!(
        "  {:24} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "", "seen", "lost", "written", "CPU s/M", "all s/M", "traffic"
    );
    let without = &measured[CaptureSubject::None as usize];
    for (subject, rounds) in CaptureSubject::ALL.iter().zip(measured) {
        let of = |value: fn(&MeasuredCapture) -> f64| median(rounds.iter().map(value).collect());
        let paired = |value: fn(&MeasuredCapture, &MeasuredCapture) -> f64| {
            median(rounds.iter().zip(without).map(|(one, without)| value(one, without)).collect())
        };
        let counts = [of(|one| one.seen as f64), of(|one| one.lost as f64), of(|one| one.written as f64)];
        let [seen, lost, written] = counts.map(|count| format!("{count:.0}"));
        let traffic = paired(|one, without| one.traffic / without.traffic);
        print!("  {:24} {seen:>10} {lost:>10} {written:>10}", subject.name());
        if *subject == CaptureSubject::None {
            println!(" {:>9} {:>9} {traffic:9.3}", "", "");
        } else {
            let own = paired(MeasuredCapture::own_cpu_per_million);
            let all = paired(MeasuredCapture::all_cpu_per_million);
            println!(" {own:9.3} {all:9.3} {traffic:9.3}");
        }
    }
}
