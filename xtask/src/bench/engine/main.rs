//! The bench of the engine, as a program of its own: it holds the library that it measures, built
//! for release after the classifier. `cargo xtask bench engine` builds and starts it; docs/bench.md
//! says what its numbers mean.
//!
//! For work on the classifier, the quick way:
//!
//! ```text
//! cargo xtask bench engine --part micro                  # sizes, then ns per packet for every case
//! cargo xtask bench engine --part micro --case 256       # only cases whose name contains this
//! cargo xtask bench engine --gate                        # exits 1 if the hot path is too slow
//! cargo xtask bench engine --part micro --object FILE --program NAME [--tail-calls STAGES=account,sample]
//!                                                        # any other classifier beside netwatch's
//! ```

mod cpu;
mod drain;
mod end_to_end;
mod frames;
mod goal;
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
use subject::Foreign;

/// What a part gives back: a failure is one sentence.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Measures the kernel flow engine
#[derive(Parser)]
#[command(name = "cargo xtask bench engine")]
struct Cli {
    #[command(subcommand)]
    inside: Option<Inside>,
    /// The object of the reference programs
    #[arg(long, hide = true)]
    reference: Option<PathBuf>,
    /// Only this part; may be given again
    #[arg(long)]
    part: Vec<Part>,
    /// Only check that the hot path is fast enough: exit code 1 if it is not
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
    /// Another classifier's object, measured beside
    #[arg(long, requires = "program")]
    object: Option<PathBuf>,
    /// The program in it
    #[arg(long, requires = "object")]
    program: Option<String>,
    /// Programs that it continues in: MAP=PROGRAM,PROGRAM…
    #[arg(long, requires = "object")]
    tail_calls: Vec<String>,
}

/// What the bench starts itself for.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Inside {
    /// Send datagrams
    #[command(hide = true)]
    Send(sender::Send),
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds per packet, by test runs
    Micro,
    /// Reading the tables: time, losses, CPU and memory of a run
    Drain,
    /// Nanoseconds per packet on a link
    Situ,
    /// Programs that tell of processes: ns per connection, per message, per other call
    Sockets,
    /// Rates beside other programs
    EndToEnd,
}

/// How a part is measured and printed.
type Measure = fn(&Options) -> Result;

/// What all parts need to know.
pub struct Options {
    /// Rounds of every case.
    pub rounds: usize,
    /// Seconds of every measurement with real traffic.
    pub seconds: f64,
    /// Only cases whose name contains this.
    pub case: Option<String>,
    /// Our own small programs.
    pub reference: Reference,
    /// A classifier to measure beside netwatch's.
    pub foreign: Option<Foreign>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result {
    let Cli { inside, reference, part, gate, rounds, seconds, case, object, program, tail_calls } = cli;
    if let Some(Inside::Send(send)) = inside {
        return sender::run(&send);
    }
    let foreign = object.zip(program).map(|(object, program)| Foreign { object, program, tail_calls });
    let reference = reference.ok_or("start it by `cargo xtask bench engine`, which builds what it needs")?;
    let options = Options { rounds: rounds.max(1), seconds, case, reference: Reference(reference), foreign };
    if gate {
        return cpu::pinned(|| micro::gate::run(&options));
    }
    let parts: [(Part, Measure); 5] = [
        (Part::Micro, |options| cpu::pinned(|| micro::run(options))),
        (Part::Drain, drain::run),
        (Part::Situ, situ::run),
        (Part::Sockets, |options| cpu::pinned(|| sockets::run(options))),
        (Part::EndToEnd, end_to_end::run),
    ];
    let wanted = |one: Part| part.is_empty() || part.contains(&one);
    parts.into_iter().filter(|(one, _)| wanted(*one)).try_for_each(|(_, run)| run(&options))
}
