//! The cost of a drain, and whether it loses packets.

mod cost;
mod process;
mod race;

use super::scene::Scene;
use super::{EngineOptions, cpu};
use crate::Result;

/// Prints everything.
pub fn run(options: &EngineOptions) -> Result {
    println!("\ndrain");
    cpu::pinned(|| cost::measure(options))?;
    race::measure(options)?;
    process::measure(&Scene::start(options)?)
}
