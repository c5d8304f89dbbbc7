//! What it costs to read the tables, and whether anything is lost meanwhile.

mod cost;
mod process;
mod race;

use super::scene::Scene;
use super::{Options, cpu};
use crate::Result;

/// Prints everything.
pub fn run(options: &Options) -> Result {
    println!("\ndrain");
    cpu::pinned(|| cost::measure(options))?;
    race::measure(options)?;
    process::measure(&Scene::start(options)?)
}
