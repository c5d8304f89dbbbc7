//! Long comparisons with random input: the classifier in the kernel with its build for the host, on
//! frames, and filters in all their forms with libpcap, on packets. The test suite has short ones.

use clap::Args;

use crate::Result;
use crate::command::{self, cargo};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArguments {
    /// Number of frames for the classifier
    #[arg(long, default_value_t = 10_000_000)]
    frames: u64,
    /// Number of packets for each of 200 filter expressions
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// Only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Repeat the run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
}

const TESTS: [&str; 2] = ["meter::kernel::tests::fuzz", "capture::expression::fuzz"];

/// Builds the tests for release and runs the comparisons.
pub fn run(arguments: &FuzzArguments) -> Result {
    if !command::is_root() {
        return Err("cannot load the classifier: not root\nhint: sudo cargo xtask fuzz".to_owned());
    }
    let is_wanted = |name: &&&str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let tests: Vec<&str> = TESTS.iter().filter(is_wanted).copied().collect();
    if tests.is_empty() {
        return Err(format!("no such test; there are {}", TESTS.join(" and ")));
    }
    let mut test = cargo();
    test.args(["test", "--release", "--package", "netwatch", "--lib", "--", "--nocapture"]).args(tests);
    test.env("NETWATCH_FUZZ_FRAMES", arguments.frames.to_string());
    test.env("NETWATCH_FUZZ_PACKETS", arguments.packets.to_string());
    if let Some(seed) = arguments.seed {
        test.env("NETWATCH_FUZZ_SEED", seed.to_string());
    }
    command::run(&mut test)
}
