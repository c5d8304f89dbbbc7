//! Nanoseconds per packet by BPF_PROG_TEST_RUN: one thread on one CPU, programs in turn, the order
//! rotated.

pub mod cases;
pub mod gate;
mod measure;
mod size;

use netwatch::meter::KernelMeterConfig;

use self::cases::FrameCase;
use self::measure::CaseTimes;
use super::EngineOptions;
use super::stats::{least, median, pairs};
use super::subject::BenchSubject;
use crate::Result;

/// Prints the sizes of the programs, then a table for every case.
pub fn run(options: &EngineOptions) -> Result {
    size::print(options)?;
    println!(
        "\nns per packet, {} rounds; over: ns over `empty` in the same round; of plain: over / plain hash's over",
        options.rounds
    );
    let mut wrong = Vec::new();
    let wanted = |case: &FrameCase| options.case.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    for case in cases::all().into_iter().filter(wanted) {
        let measured = measure::case(&case, subjects(options)?, options)?;
        print(&case, &measured);
        if measured.iter().any(|one| one.missing() != 0) {
            wrong.push(case.name);
        }
    }
    // A classifier that does not count would be fast.
    if wrong.is_empty() { Ok(()) } else { Err(format!("packets were not counted: {}", wrong.join("; "))) }
}

/// The reference programs come first: `empty`, then `plain hash`.
fn subjects(options: &EngineOptions) -> Result<Vec<BenchSubject>> {
    let mut subjects = vec![options.reference.empty()?, options.reference.plain()?];
    if let Some(foreign) = &options.foreign {
        subjects.push(BenchSubject::of_object("the object", foreign)?);
    }
    subjects.push(BenchSubject::netwatch("netwatch", &KernelMeterConfig::default())?);
    let without_samples = KernelMeterConfig { sample_budget: 0, ..KernelMeterConfig::default() };
    subjects.push(BenchSubject::netwatch("netwatch, no samples", &without_samples)?);
    Ok(subjects)
}

fn print(case: &FrameCase, measured: &[CaseTimes]) {
    let [empty, plain, ..] = measured else { return };
    println!("\n{}", case.name);
    println!("  {:22} {:>7} {:>7} {:>7} {:>7} {:>9}", "", "median", "least", "over", "least", "of plain");
    // Below this, `plain hash` did not count the frame: it does not parse every kind.
    const COUNTS: f64 = 5.0;
    let over = |one: &CaseTimes| pairs(&one.ns, &empty.ns, |one, empty| one - empty);
    let plain_over = over(plain);
    for one in measured {
        let over = over(one);
        let of_plain = pairs(&over, &plain_over, |one, plain| if plain < COUNTS { f64::NAN } else { one / plain });
        let best = least(&one.ns) - least(&empty.ns);
        print!("  {:22} {:7.1} {:7.1}", one.name, median(&one.ns), least(&one.ns));
        let ratio = median(&of_plain);
        println!(" {:7.1} {best:7.1} {ratio:9.2}{}", median(&over), remark(case, one, ratio));
    }
}

/// The goal, and the counts of netwatch.
fn remark(case: &FrameCase, one: &CaseTimes, of_plain: f64) -> String {
    let Some(counted) = one.counted else { return String::new() };
    let mut remark = match case.goal {
        Some(goal) if one.name == "netwatch" => {
            format!("  goal {goal}: {}", if of_plain <= goal { "met" } else { "missed" })
        }
        _ => String::new(),
    };
    if counted.flows != 1 {
        remark += &format!("  {} flows", counted.flows);
    }
    if counted.overflow != 0 {
        remark += &format!(", {} packets in overflow", counted.overflow);
    }
    if one.missing() == 0 { remark } else { format!("{remark}  {} packets MISSING", one.missing()) }
}
