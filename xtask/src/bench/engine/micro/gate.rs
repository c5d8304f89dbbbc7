//! The bound that a change must not break. Wide enough for a busy machine, narrow enough for a
//! helper call too many.

use netwatch::meter::KernelMeterConfig;

use super::super::Options;
use super::super::stats::least;
use super::super::subject::Subject;
use super::cases::{self, Case};
use super::measure;
use crate::Result;

/// netwatch's ns over the empty program's: one hot flow, and 256 flows with the driver on both
/// sides.
const BOUNDS: [(fn() -> Case, f64); 2] = [(cases::hot, 1.6), (cases::several, 2.3)];

/// Fails if a bound is broken by the best of all rounds.
pub fn run(options: &Options) -> Result {
    let mut broken = Vec::new();
    for (case, bound) in BOUNDS {
        let case = case();
        let subjects = vec![options.reference.empty()?, Subject::netwatch("netwatch", &KernelMeterConfig::default())?];
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
