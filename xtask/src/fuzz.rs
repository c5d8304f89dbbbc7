//! A long run of random and mutated frames through the classifier in the kernel and its build for the host. The test suite has a short one.

use clap::Args;

use crate::Result;
use crate::command::{self, cargo};

/// What `cargo xtask fuzz` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How many frames
    #[arg(long, default_value_t = 10_000_000)]
    frames: u64,
    /// Repeat an earlier run: the number that it printed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds for release and runs it.
pub fn run(arguments: &Arguments) -> Result {
    if !command::is_root() {
        return Err("loading the classifier needs root: sudo cargo xtask fuzz".to_owned());
    }
    let mut test = cargo();
    test.args([
        "test",
        "--release",
        "--package",
        "netwatch",
        "--lib",
        "meter::kernel::tests::fuzz",
        "--",
        "--nocapture",
    ]);
    test.env("NETWATCH_FUZZ_FRAMES", arguments.frames.to_string());
    if let Some(seed) = arguments.seed {
        test.env("NETWATCH_FUZZ_SEED", seed.to_string());
    }
    command::run(&mut test)
}
