//! What netwatch costs: set-up time, memory, throughput. Everything is measured in namespaces made here, beside what it is compared with.
//! The engine has a bench of its own, a program in the folder `engine`; here it is only built and started.

mod memory;
mod set_up;
mod throughput;

use clap::{Args, Subcommand};
use netwatch_tests::{Internet, Shape};

use crate::command::{self, cargo, target_dir};
use crate::{Result, programs, setup};

/// What is typed behind `cargo xtask bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum What {
    /// All of the following
    All,
    /// Set-up time, memory and throughput of `netwatch run` (the default)
    Run(Run),
    /// The kernel flow engine: ns per packet, drain, end to end; `-- --help` for its flags
    Engine {
        /// Flags of the bench, as `bench engine -- --help` shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// What a name costs: one ClientHello, one answer of DNS
    Names,
}

#[derive(Args)]
struct Run {
    /// Repetitions of each short command
    #[arg(short = 'c', long, default_value_t = 20)]
    count: usize,
}

/// Measures what was asked for.
pub fn bench(what: Bench) -> Result {
    setup::run()?;
    if let Some(why) = netwatch_tests::missing() {
        return Err(format!("cannot measure here: {why}"));
    }
    crate::build_object()?;
    match what.what {
        None => run(what.run.count),
        Some(What::Run(Run { count })) => run(count),
        Some(What::Engine { flags }) => engine(&flags),
        Some(What::Names) => names(),
        Some(What::All) => run(what.run.count).and_then(|()| engine(&[])).and_then(|()| names()),
    }
}

fn names() -> Result {
    command::run(cargo().args(["bench", "--package", "netwatch", "--bench", "names"]))
}

/// Builds the engine's bench and runs it. Not part of xtask itself, which would hold the classifier of before the build.
fn engine(flags: &[String]) -> Result {
    let reference = crate::build::reference(command::root()).map_err(|error| error.to_string())?;
    // Both at once: apart, cargo would compile the dependencies twice, for two sets of their features.
    let bench = ["--package", "xtask", "--features", "xtask/engine", "--bin", "bench-engine"];
    command::run(cargo().args(["build", "--release", "--package", "netwatch", "--bin", "netwatch"]).args(bench))?;
    let netwatch = target_dir().join("release/netwatch");
    let mut bench = std::process::Command::new(target_dir().join("release/bench-engine"));
    bench.arg("--reference").arg(reference).args(flags).env("NETWATCH_BIN", netwatch);
    command::run(&mut bench)
}

/// Measures a run and prints it with the ratios.
fn run(count: usize) -> Result {
    let netwatch = programs::netwatch()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let mut net = Internet::start(Shape::default());
    set_up::measure(&net, count)?;
    memory::measure(&net)?;
    net.start_iperf();
    throughput::measure(&net)
}

/// The middle of the values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
