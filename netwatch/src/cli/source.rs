//! The runs that `ports`, `learn` and `check` are about: recorded ones, or a command to run first.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, ValueHint};

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
    let arguments = parsed.map_err(|error| unusable(&error))?.arguments;
    let variable = arguments.output().map(|file| format!("NETWATCH_OUTPUT={}", file.display()));
    // Only the name of this file can be wrong.
    arguments.settings().map_err(|error| match variable {
        Some(variable) => Error::other("use", variable, "the report of a run is text or JSON")
            .hint("use a name that ends in .txt or .json"),
        None => error,
    })
}

/// The error of a variable: all values of these flags are from the environment.
fn unusable(error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    // Only flags of a command that was built can be displayed.
    let mut command = RunWords::command();
    command.build();
    let flag = text(ContextKind::InvalidArg).and_then(|shown| {
        let mut flags = command.get_arguments();
        flags.find(|flag| flag.to_string() == *shown)
    });
    let variable = flag.and_then(|flag| flag.get_env()).map(OsStr::to_string_lossy);
    match (variable, text(ContextKind::InvalidValue), error.source()) {
        (Some(variable), Some(value), Some(cause)) => {
            Error::other("use", format!("{variable}={value}"), cause.to_string())
        }
        _ => Error::other("run", "the command", error.to_string()),
    }
}

/// The command line of `netwatch run`, for the defaults and variables of its options.
#[derive(Parser)]
struct RunWords {
    #[command(flatten)]
    arguments: RunArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_variable_names_it() {
        let error = |words: &[&str]| {
            let parsed = RunWords::try_parse_from(["run", "--quiet"].iter().chain(words));
            unusable(&parsed.err().expect("invalid")).to_string()
        };
        let of_value = error(&["--duration", "abc", "--", "true"]);
        assert!(of_value.starts_with("cannot use NETWATCH_DURATION=abc: expected number"), "{of_value}");
        assert!(error(&["--color", "red", "--", "true"]).starts_with("cannot run the command: error: invalid value"));
    }
}
