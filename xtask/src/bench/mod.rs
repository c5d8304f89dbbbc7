//! Measures the cost of netwatch: set-up time, memory, throughput. Everything is measured in
//! namespaces of the bench, next to what it is compared with. The bench of the engine is a separate
//! program in the folder `engine`, which is built and started here.

mod capture;
mod memory;
mod services;
mod set_up;
mod throughput;

use clap::{Args, Subcommand};
use netwatch_tests::{InternetShape, TestInternet};

use crate::command::{self, cargo, target_dir};
use crate::{Result, build, setup};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArguments {
    #[command(subcommand)]
    suite: Option<Suite>,
    #[command(flatten)]
    run: Repetitions,
}

#[derive(Subcommand)]
enum Suite {
    /// Run all of the following
    All,
    /// Set-up time, memory and throughput of `netwatch run` (the default)
    Run(Repetitions),
    /// The kernel flow engine: ns per packet, drain, end to end
    ///
    /// `cargo xtask bench engine -- --help` lists its flags.
    Engine {
        /// Flags of the bench, as `bench engine -- --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Services with short connections: rates, CPU time, memory, lost observations
    Services(services::ServicesArguments),
    /// Captures of packets beside tcpdump: seen, lost, CPU time, traffic
    Capture(capture::CaptureArguments),
    /// The cost of a name: one ClientHello, one DNS response
    Names,
    /// The cost of a new connection in user space: CPU time, memory
    Session,
    /// Consumers at 20,000 connections a second: losses, CPU time, memory, bytes
    Export {
        /// How long each consumer is fed
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Only consumers whose name contains this
        #[arg(long, default_value = "")]
        consumer: String,
    },
}

#[derive(Args)]
struct Repetitions {
    /// Repetitions of each short command
    #[arg(short = 'c', long, default_value_t = 20)]
    count: usize,
}

/// Runs the selected suite.
pub fn run(arguments: BenchArguments) -> Result {
    setup::run()?;
    if let Some(reason) = netwatch_tests::missing() {
        return Err(format!("cannot measure here: {reason}"));
    }
    build::objects()?;
    match arguments.suite {
        None => measure_run(arguments.run.count),
        Some(Suite::Run(Repetitions { count })) => measure_run(count),
        Some(Suite::Engine { flags }) => engine(&flags),
        Some(Suite::Services(arguments)) => services::run(arguments),
        Some(Suite::Capture(arguments)) => capture::run(arguments),
        Some(Suite::Names) => of_library("names", &[]),
        Some(Suite::Session) => of_library("session", &[]),
        Some(Suite::Export { seconds, consumer }) => export(seconds, &consumer),
        Some(Suite::All) => measure_run(arguments.run.count)
            .and_then(|()| engine(&[]))
            .and_then(|()| of_library("names", &[]))
            .and_then(|()| of_library("session", &[]))
            .and_then(|()| export(60, ""))
            .and_then(|()| services::run(services::ServicesArguments::all()))
            .and_then(|()| capture::run(capture::CaptureArguments::all())),
    }
}

/// Runs a bench of the library, which needs no kernel.
fn of_library(name: &str, arguments: &[&str]) -> Result {
    command::run(cargo().args(["bench", "--package", "netwatch", "--bench", name, "--"]).args(arguments))
}

fn export(seconds: u64, consumer: &str) -> Result {
    of_library("export", &["--seconds", &seconds.to_string(), "--consumer", consumer])
}

/// Builds the bench of the engine and runs it. It is not part of xtask itself, which would contain
/// the classifier from before the build.
fn engine(flags: &[String]) -> Result {
    let reference = build::reference_object()?;
    // One build of both: cargo would otherwise compile dependencies twice, with different features.
    let bench = ["--package", "xtask", "--features", "xtask/engine", "--bin", "bench-engine"];
    command::run(cargo().args(["build", "--release", "--package", "netwatch", "--bin", "netwatch"]).args(bench))?;
    let netwatch = target_dir().join("release/netwatch");
    let mut bench = std::process::Command::new(target_dir().join("release/bench-engine"));
    bench.arg("--reference").arg(reference).args(flags).env("NETWATCH_BIN", netwatch);
    command::run(&mut bench)
}

/// Measures `netwatch run` and prints the ratios.
fn measure_run(count: usize) -> Result {
    let netwatch = build::netwatch()?;
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let mut net = TestInternet::start(InternetShape::default());
    set_up::measure(&net, count)?;
    memory::measure(&net)?;
    net.start_iperf();
    throughput::measure(&net)
}

/// The median; of an even number of values the higher middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
