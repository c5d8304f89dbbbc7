//! The bench of the engine, a separate program: it contains the library that it measures, built for
//! release after the classifier. `cargo xtask bench engine` builds and starts it; docs/bench.md
//! explains its numbers.
//!
//! Useful commands for work on the classifier:
//!
//! ```text
//! cargo xtask bench engine --part micro                # sizes, then ns per packet for every case
//! cargo xtask bench engine --part micro --case 256     # only cases whose name contains this
//! cargo xtask bench engine --gate                      # exits 1 if the hot path is too slow
//! cargo xtask bench engine --part micro --object FILE --program NAME \
//!     [--tail-calls STAGES=account,sample]             # another classifier next to netwatch's
//! ```

mod cpu;
mod drain;
mod end_to_end;
mod frames;
mod micro;
mod reference;
mod scene;
mod sender;
mod situ;
mod sockets;
mod stats;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use reference::Reference;
use subject::OtherClassifier;

/// The result of a part; the error is a message for the user.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Measures the kernel flow engine
#[derive(Parser)]
#[command(name = "cargo xtask bench engine")]
struct EngineCli {
    #[command(subcommand)]
    inside: Option<SelfCommand>,
    /// The object of the reference programs
    #[arg(long, hide = true)]
    reference: Option<PathBuf>,
    /// Only this part (repeatable)
    #[arg(long)]
    part: Vec<Part>,
    /// Only check the speed of the hot path: exit code 1 if it is too slow
    #[arg(long)]
    gate: bool,
    /// Rounds of every case
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of every measurement with real traffic
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only cases of the part `micro` whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Object of another classifier to measure
    #[arg(long, requires = "program")]
    object: Option<PathBuf>,
    /// Program in that object
    #[arg(long, requires = "object")]
    program: Option<String>,
    /// Programs that it continues in: MAP=PROGRAM,PROGRAM…
    #[arg(long, requires = "object")]
    tail_calls: Vec<String>,
}

/// Subcommands for which the bench starts itself.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum SelfCommand {
    /// Send datagrams
    #[command(hide = true)]
    Send(sender::Send),
}

/// The parts of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds per packet, by test runs
    Micro,
    /// Reading the tables: time, losses, CPU and memory of a run
    Drain,
    /// Nanoseconds per packet on a link
    Situ,
    /// Programs that follow processes: ns per connection, message and other call
    Sockets,
    /// Rates compared with other programs
    EndToEnd,
}

/// Measures and prints a part.
type PartRunner = fn(&EngineOptions) -> Result;

/// Options of all parts.
pub struct EngineOptions {
    /// Rounds of every case.
    pub rounds: usize,
    /// Seconds of every measurement with real traffic.
    pub seconds: f64,
    /// Only cases whose name contains this.
    pub case: Option<String>,
    /// The reference programs.
    pub reference: Reference,
    /// Another classifier to measure.
    pub foreign: Option<OtherClassifier>,
}

fn main() -> ExitCode {
    match run(EngineCli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: EngineCli) -> Result {
    let EngineCli { inside, reference, part, gate, rounds, seconds, case, object, program, tail_calls } = cli;
    if let Some(SelfCommand::Send(send)) = inside {
        return sender::run(&send);
    }
    let foreign = object.zip(program).map(|(object, program)| OtherClassifier { object, program, tail_calls });
    let reference =
        reference.ok_or("cannot find the reference programs\nhint: start the bench by `cargo xtask bench engine`")?;
    let options = EngineOptions { rounds: rounds.max(1), seconds, case, reference: Reference(reference), foreign };
    if gate {
        return cpu::pinned(|| micro::gate::run(&options));
    }
    let parts: [(Part, PartRunner); 5] = [
        (Part::Micro, |options| cpu::pinned(|| micro::run(options))),
        (Part::Drain, drain::run),
        (Part::Situ, situ::run),
        (Part::Sockets, |options| cpu::pinned(|| sockets::run(options))),
        (Part::EndToEnd, end_to_end::run),
    ];
    let wanted = |one: Part| part.is_empty() || part.contains(&one);
    parts.into_iter().filter(|(one, _)| wanted(*one)).try_for_each(|(_, run)| run(&options))
}
