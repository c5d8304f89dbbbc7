//! Services with short connections: what netwatch costs them, and whether it loses anything.
//! docs/bench.md explains the numbers.

mod cost;
mod rates;
mod scene;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{Result, build, setup};
use scene::ServicesScene;

/// Arguments of `cargo xtask bench services`.
#[derive(Args)]
pub struct ServicesArguments {
    /// Only this part (repeatable)
    #[arg(long)]
    part: Vec<ServicesPart>,
    /// Rounds of the part `rates`
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Only loads of the part `rates` whose name contains this
    #[arg(long)]
    load: Option<String>,
    /// Measure this netwatch instead of a fresh build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// The parts of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServicesPart {
    /// Rates as ratios to the rates without netwatch
    Rates,
    /// CPU time and memory of netwatch over 200,000 connections
    Cost,
    /// Lost observations in bursts and at the highest rate
    Bursts,
}

const PACKAGES: [(&str, &str); 2] = [("redis-server", "redis-server"), ("redis-tools", "redis-benchmark")];

impl ServicesArguments {
    /// Everything, with the default number of rounds.
    pub fn all() -> Self {
        Self { part: Vec::new(), rounds: 15, load: None, binary: None }
    }
}

/// Measures and prints the selected parts.
pub fn run(arguments: ServicesArguments) -> Result {
    setup::install(&PACKAGES)?;
    let netwatch = arguments.binary.map_or_else(build::netwatch, Ok)?;
    let load = build::test_program("load")?;
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let scene = ServicesScene::start(load);
    let wanted = |part| arguments.part.is_empty() || arguments.part.contains(&part);
    if wanted(ServicesPart::Rates) {
        rates::measure(&scene, arguments.rounds.max(1), arguments.load.as_deref())?;
    }
    if wanted(ServicesPart::Cost) {
        cost::measure(&scene)?;
    }
    if wanted(ServicesPart::Bursts) {
        cost::measure_losses(&scene)?;
    }
    Ok(())
}
