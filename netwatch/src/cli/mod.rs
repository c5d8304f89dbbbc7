//! What was typed. One file per subcommand; what it means is decided elsewhere.

mod clean;
mod completions;
mod diff;
mod doctor;
mod export;
mod history;
mod list;
mod replay;
mod report;
mod run;
mod size;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exit::Exit;

pub use run::{By, ColorChoice, Linger, RunArgs};

/// What does this program talk to? Every packet of one command, counted in the kernel and reconciled to the last byte.
#[derive(Debug, Parser)]
#[command(name = "netwatch", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

const EXAMPLES: &str = "\
Examples:
  sudo netwatch run -- curl -sS https://app.example/     what does this download talk to?
  sudo netwatch run -- bash                              watch a whole shell, until you leave it
  sudo netwatch run -j -o net.json -- cargo test         the exact answer as JSON, for CI
  sudo netwatch run --publish 8080:80 -- nginx           a server that can be reached from outside
  netwatch replay trace.pcapng                           the same answer for a capture
  netwatch report --open                                 the newest run as a page with pictures
  netwatch history                                       the runs that were kept, for reports of any kind
  netwatch export -o flows.parquet                       the flows of the newest run, for DuckDB and others
  netwatch report --format nft                           firewall rules for the users of that program
  netwatch diff 2 1                                      what differs from the run before?
  sudo netwatch doctor                                   can this machine do it, and what is missing?

More: `netwatch help run`, README.md and docs/.";

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run a command in a network of its own and say what it talked to
    Run(Box<RunArgs>),
    /// Count the packets of a capture file as a run would have
    Replay(replay::ReplayArgs),
    /// Say again what a run talked to, as text, JSON, CSV, Markdown, a page with pictures, or firewall rules
    Report(Box<report::ReportArgs>),
    /// Say what differs between runs, as a gate for releases
    Diff(Box<diff::DiffArgs>),
    /// Say whether this machine can run netwatch, and what to do where it cannot
    Doctor,
    /// List the runs that are alive
    List(list::ListArgs),
    /// List, show and remove the runs that were recorded
    History(history::HistoryArgs),
    /// Write flows or the series of recorded runs as Parquet or CSV
    Export(export::ExportArgs),
    /// Undo what runs that were killed left behind
    Clean,
    /// Print a completion script for your shell
    Completions(completions::CompletionsArgs),
    /// The steps at which a build for the tests can be made to fail
    #[cfg(feature = "faults")]
    #[command(name = "__faults", hide = true)]
    Faults,
}

/// Parses the command line and does what it says. `words` includes the program's name.
pub fn main(words: Vec<OsString>) -> Exit {
    let for_run = words.get(1).is_some_and(|word| word == "run");
    let cli = match Cli::command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return mistyped(&error, for_run),
    };
    match cli.command {
        Subcommands::Run(arguments) => run::main(*arguments),
        Subcommands::Replay(arguments) => replay::main(&arguments),
        Subcommands::Report(arguments) => report::main(&arguments),
        Subcommands::Diff(arguments) => diff::main(&arguments),
        Subcommands::Doctor => doctor::main(),
        Subcommands::List(arguments) => list::main(&arguments),
        Subcommands::History(arguments) => history::main(&arguments),
        Subcommands::Export(arguments) => export::main(&arguments),
        Subcommands::Clean => clean::main(),
        Subcommands::Completions(arguments) => completions::main(&arguments),
        #[cfg(feature = "faults")]
        Subcommands::Faults => crate::faults::list(),
    }
}

/// `--help` and `--version` are no mistakes. A mistyped `run` must not look like the command's own failure: 125.
fn mistyped(error: &clap::Error, for_run: bool) -> Exit {
    // A closed standard error changes nothing.
    let _ = error.print();
    match (error.use_stderr(), for_run) {
        (false, _) => Exit::Success,
        (true, true) => Exit::Failed,
        (true, false) => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
