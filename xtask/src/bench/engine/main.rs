//! The bench of the engine, as a program of its own: it holds the library that it measures, built for release after the
//! classifier. `cargo xtask bench engine` builds and starts it; docs/bench.md says what its numbers mean.
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

mod bpf;
mod frames;
mod micro;
mod reference;
mod stats;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use reference::Reference;
use subject::Foreign;

/// What a part gives back: a failure is one sentence.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Measures the kernel flow engine
#[derive(Parser)]
#[command(name = "cargo xtask bench engine")]
struct Cli {
    /// The object of the reference programs
    #[arg(long, hide = true)]
    reference: PathBuf,
    /// Only this part; may be given again
    #[arg(long)]
    part: Vec<Part>,
    /// Only check that the hot path is fast enough: exit code 1 if it is not
    #[arg(long)]
    gate: bool,
    /// Rounds of every case
    #[arg(long, default_value_t = 9)]
    rounds: usize,
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

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds per packet, by test runs
    Micro,
}

/// What all parts need to know.
pub struct Options {
    /// Rounds of every case.
    pub rounds: usize,
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
    let Cli { reference, part, gate, rounds, case, object, program, tail_calls } = cli;
    let foreign = object.zip(program).map(|(object, program)| Foreign { object, program, tail_calls });
    let options = Options { rounds: rounds.max(1), case, reference: Reference(reference), foreign };
    let wanted = |one: Part| part.is_empty() || part.contains(&one);
    if gate {
        return pinned(|| micro::gate::run(&options));
    }
    if wanted(Part::Micro) {
        pinned(|| micro::run(&options))?;
    }
    Ok(())
}

/// Does it on the last CPU, which has the fewest interrupts, then goes back to all.
fn pinned(work: impl FnOnce() -> Result) -> Result {
    let me = Pid::from_raw(0);
    let failed = |error: nix::Error| format!("cannot choose a CPU: {error}");
    let all = nix::sched::sched_getaffinity(me).map_err(failed)?;
    let last = (0..CpuSet::count()).rev().find(|cpu| all.is_set(*cpu) == Ok(true)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(last).map_err(failed)?;
    sched_setaffinity(me, &one).map_err(failed)?;
    let done = work();
    sched_setaffinity(me, &all).map_err(failed)?;
    done
}
