//! The runs that `ports`, `learn` and `check` are about: recorded ones, or a command to run first.

use std::ffi::OsString;

use clap::{Args, Parser, ValueHint};

use super::run::RunArgs;
use crate::error::{Error, Result};
use crate::settings::{RunSettings, RunSource};

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Runs by number, id or file; captures, JSON reports [default: the newest run]
    ///
    /// Several runs are combined.
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath, conflicts_with = "command")]
    runs: Vec<String>,

    /// Run this command first, as `netwatch run` does, and use that run
    ///
    /// Its standard output is written to standard error. The variables NETWATCH_* set the options
    /// of the run.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl SourceArgs {
    pub(super) fn source(self) -> Result<RunSource> {
        if self.command.is_empty() {
            return Ok(RunSource::Recorded(self.runs));
        }
        run_settings(self.command).map(|run| RunSource::Command(Box::new(run)))
    }
}

/// The settings of a quiet run of this command, from defaults and variables.
pub(super) fn run_settings(command: Vec<OsString>) -> Result<RunSettings> {
    let mut words: Vec<OsString> = vec!["run".into(), "--quiet".into(), "--".into()];
    words.extend(command);
    let parsed = RunWords::try_parse_from(words);
    parsed.map_err(|error| Error::other("run", "the command", error.to_string()))?.arguments.settings()
}

/// The command line of `netwatch run`, for the defaults and variables of its options.
#[derive(Parser)]
struct RunWords {
    #[command(flatten)]
    arguments: RunArgs,
}
