//! netwatch's own tasks, as `cargo xtask TASK`. One file each; this one only chooses.

mod bench;
mod build;
mod check;
mod command;
mod demo;
mod fuzz;
mod programs;
mod python;
mod setup;
mod skipped;
mod test;
mod test_vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a task gives back: a failure is one sentence.
pub type Result<T = ()> = std::result::Result<T, String>;

/// netwatch's own tasks
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and the demo need (Debian, as root; elsewhere: say what to install)
    Setup,
    /// Build the eBPF object from source, then netwatch
    Build {
        /// The object only
        #[arg(long)]
        object: bool,
    },
    /// Check the architecture: who uses whom, sizes, documents, the checked-in eBPF object
    Check(check::CheckArguments),
    /// Set up, build from source, and run every test
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Send random and mutated frames through the classifier in the kernel and on the host, and compare
    Fuzz(fuzz::Arguments),
    /// Boot other kernels in emulation and test the classifier on them
    TestVm(test_vm::Arguments),
    /// Measure set-up time, memory and throughput of a run, or the engine
    Bench(bench::Bench),
    /// Set up, build, and show netwatch at work in a small internet of namespaces
    Demo,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Build { object: true } => build_object(),
        Task::Build { object: false } => build_object().and_then(|()| programs::netwatch()).map(drop),
        Task::Check(arguments) => check::run(&arguments),
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::TestVm(arguments) => test_vm::run(&arguments),
        Task::Bench(what) => bench::bench(what),
        Task::Demo => demo::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The eBPF object, from source.
pub fn build_object() -> Result {
    build::run(command::root()).map_err(|error| error.to_string())
}

/// The checked-in eBPF object is what its sources give.
pub fn check_object() -> Result {
    build::check(command::root()).map_err(|error| error.to_string())
}
