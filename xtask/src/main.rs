//! Development tasks of netwatch, as `cargo xtask TASK`. Each task has a file or folder.

mod accuracy;
mod bench;
mod build;
mod check;
mod command;
mod demo;
mod dependencies;
mod dist;
mod fuzz;
mod screenshot;
mod setup;
mod storm;
mod test;
mod test_vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The result of a task; the error is a message for the user.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Development tasks of netwatch
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct XtaskCli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the requirements of building, testing and the demo
    ///
    /// Uses apt, rustup, cargo and pip on Debian as root. On other systems it lists what to
    /// install.
    Setup,
    /// Build the eBPF objects from source, then netwatch
    Build {
        /// Build the eBPF objects only
        #[arg(long)]
        object: bool,
    },
    /// Check module dependencies, sizes, comments, documents and the eBPF objects
    Check(check::CheckArguments),
    /// Check licenses, bans and sources of dependencies, and find unused ones
    Dependencies,
    /// Set up, build from source, and run every test
    Test {
        /// Only run tests whose name contains this
        filter: Option<String>,
    },
    /// Compare the classifier with its host build, and filters with libpcap, at random
    Fuzz(fuzz::FuzzArguments),
    /// Kill runs and fail their system calls at random moments
    Storm(storm::StormArguments),
    /// Send ten million connections through a session in simulated time
    Soak,
    /// Boot other kernels in emulation and test the classifier on them
    TestVm(test_vm::TestVmArguments),
    /// Measure set-up time, memory and throughput of a run, or the engine
    Bench(bench::BenchArguments),
    /// Compare what netwatch counts with an independent count, and print a table
    Accuracy {
        /// Only scenarios whose name contains this
        filter: Option<String>,
    },
    /// Build a static program, a tarball, a Debian package, an SBOM and checksums
    ///
    /// Minutes, and with --reproduce or --verify twice as long, so it is not part of `.ci/run`.
    Dist(dist::DistArguments),
    /// Make the picture of the README from real output in the simulated internet
    Screenshot,
    /// Set up, build, and demonstrate netwatch in a simulated internet
    Demo,
}

fn main() -> ExitCode {
    let done = match XtaskCli::parse().task {
        Task::Setup => setup::run(),
        Task::Build { object: true } => build::objects(),
        Task::Build { object: false } => build::objects().and_then(|()| build::netwatch()).map(drop),
        Task::Check(arguments) => check::run(&arguments),
        Task::Dependencies => dependencies::run(),
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Storm(arguments) => storm::run(&arguments),
        Task::Soak => test::soak(),
        Task::TestVm(arguments) => test_vm::run(&arguments),
        Task::Bench(arguments) => bench::run(arguments),
        Task::Accuracy { filter } => accuracy::run(filter.as_deref()),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Screenshot => screenshot::run(),
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
