//! The limit of the hot path: wide enough for a busy machine, and exceeded by one helper call too
//! many.

use netwatch::meter::KernelMeterConfig;

use super::super::EngineOptions;
use super::super::stats::least;
use super::super::subject::BenchSubject;
use super::cases::{self, FrameCase};
use super::measure;
use crate::Result;

/// Maximum ratio of netwatch to the empty program: one hot flow, and 256 flows, with the driver in
/// both.
const BOUNDS: [(fn() -> FrameCase, f64); 2] = [(cases::hot, 1.6), (cases::several, 2.3)];

/// Fails if the best of all rounds exceeds a limit.
pub fn run(options: &EngineOptions) -> Result {
    let mut broken = Vec::new();
    for (case, bound) in BOUNDS {
        let case = case();
        let subjects =
            vec![options.reference.empty()?, BenchSubject::netwatch("netwatch", &KernelMeterConfig::default())?];
        let measured = measure::case(&case, subjects, options)?;
        let [empty, ours] = [0, 1].map(|one| least(&measured[one].ns));
        let ratio = ours / empty;
        println!("{}: {ours:.1} ns, empty {empty:.1} ns: {ratio:.2} times, bound {bound}", case.name);
        if ratio > bound {
            broken.push(case.name);
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(format!("too slow: {}", broken.join("; "))) }
}
