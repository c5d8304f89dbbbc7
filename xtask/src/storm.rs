//! The long storm: a thousand runs that are killed at random moments, a hundred in parallel, and
//! hundreds whose system calls fail, with and without cgroup v2. The test suite has a short one
//! (`tests/src/storm.rs` is shared).

use std::path::Path;
use std::time::Instant;

use clap::Args;
use netwatch_tests::storm::{self, Latencies, Storm};
use netwatch_tests::{InternetShape, TestInternet};

use crate::{Result, build, setup};

/// The latency that DNS queries may gain while other runs start or are undone, microseconds.
const MAX_ADDED_LATENCY: u64 = 20_000;

/// With fewer queries, one that the scheduler delays decides.
const MIN_QUERIES: u64 = 500;

/// Arguments of `cargo xtask storm`.
#[derive(Debug, Args)]
pub struct StormArguments {
    /// Number of runs that are killed
    #[arg(short = 'c', long, default_value_t = 1000)]
    count: usize,
    /// Number of runs in which a system call fails
    #[arg(long, default_value_t = 400)]
    calls: usize,
    /// Number of runs at the same time
    #[arg(long, default_value_t = 100)]
    parallel: usize,
    /// Number of starts, and of dead runs to undo, beside DNS queries
    #[arg(long, num_args = 2, default_values_t = [30, 20], value_names = ["STARTS", "DEAD"])]
    latency: Vec<usize>,
    /// Repeat the storm that printed this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Use this netwatch instead of a new build for release
    #[arg(long, value_name = "FILE")]
    binary: Option<std::path::PathBuf>,
}

/// Builds netwatch and runs the storm.
pub fn run(arguments: &StormArguments) -> Result {
    if let Err(failure) = setup::run() {
        eprintln!("xtask: {failure}");
    }
    if let Some(reason) = netwatch_tests::missing() {
        return Err(format!("cannot run here: {reason}"));
    }
    let netwatch = arguments.binary.clone().map_or_else(build::netwatch, Ok)?;
    let traffic = build::test_program("traffic")?;
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let seed = arguments.seed.unwrap_or_else(seed);
    println!("seed {seed}");
    for has_cgroups in [true, false] {
        let net = TestInternet::start(InternetShape::default());
        if !has_cgroups {
            net.host.forbid_cgroups();
        }
        println!("{} cgroup v2", if has_cgroups { "with" } else { "without" });
        one_host(arguments, &Storm::new(&net, seed), &traffic)?;
    }
    Ok(())
}

/// Half of each, on one host.
fn one_host(arguments: &StormArguments, storm: &Storm<'_>, traffic: &Path) -> Result {
    step("runs killed", arguments.count / 2, storm, |count| storm::kill_runs(storm, count));
    step("runs with a failed system call", arguments.calls / 2, storm, |count| storm::fail_calls(storm, count));
    step("runs in parallel", arguments.parallel, storm, |count| storm::run_in_parallel(storm, count));
    let (starts, dead) = (arguments.latency[0], arguments.latency[1]);
    latency(&format!("{starts} starts"), storm::dns_latencies(storm, traffic, starts, 0))?;
    latency(&format!("clean of {dead} dead runs"), storm::dns_latencies(storm, traffic, 0, dead))
}

/// Panics when something is left or forwarded.
fn step(what: &str, count: usize, storm: &Storm<'_>, work: impl FnOnce(usize)) {
    let (started, before) = (Instant::now(), storm.probes());
    work(count);
    let (took, probes) = (started.elapsed().as_secs(), storm.probes() - before);
    println!("  {count} {what} in {took} s: left behind 0, forwarded 0 of {probes} probes");
}

fn latency(during: &str, [inside, outside]: [Latencies; 2]) -> Result {
    let added = inside.p99.saturating_sub(outside.p99);
    println!("  DNS queries during {during}, microseconds");
    for (place, Latencies { count, median, p99, max }) in [("in a run", inside), ("outside", outside)] {
        println!("    {place:8} {count:6} queries   median {median:6}   99 % {p99:6}   longest {max:6}");
    }
    if inside.count < MIN_QUERIES {
        println!("    too few queries for a verdict");
        return Ok(());
    }
    if added <= MAX_ADDED_LATENCY {
        return Ok(());
    }
    Err(format!("a run adds {added} µs to 99 % of DNS queries during {during}, more than {MAX_ADDED_LATENCY}"))
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}
