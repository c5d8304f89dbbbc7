//! A long comparison of the classifier in the kernel with its build for the host, on random and
//! mutated frames. The test suite has a short one.

use clap::Args;

use crate::Result;
use crate::command::{self, cargo};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArguments {
    /// Number of frames
    #[arg(long, default_value_t = 10_000_000)]
    frames: u64,
    /// Repeat the run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the tests for release and runs the comparison.
pub fn run(arguments: &FuzzArguments) -> Result {
    if !command::is_root() {
        return Err("cannot load the classifier: not root\nhint: sudo cargo xtask fuzz".to_owned());
    }
    let mut test = cargo();
    test.args(["test", "--release", "--package", "netwatch", "--lib", "meter::kernel::tests::fuzz"]);
    test.args(["--", "--nocapture"]).env("NETWATCH_FUZZ_FRAMES", arguments.frames.to_string());
    if let Some(seed) = arguments.seed {
        test.env("NETWATCH_FUZZ_SEED", seed.to_string());
    }
    command::run(&mut test)
}
