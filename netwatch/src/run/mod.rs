//! One run, from set-up to report: a process around the pure core. What is typed comes from `cli`, what is counted from `probe`,
//! what is shown goes through `sink`.

mod output;
mod plan;
mod privilege;
mod signals;

pub use plan::{Plan, Refusal};

use crate::exit::Exit;

/// Runs it.
pub fn run(_plan: Plan) -> Exit {
    Exit::Failed
}
