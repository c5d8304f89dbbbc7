//! The command line of `netwatch learn`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::source::SourceArgs;
use crate::error::Result;
use crate::settings::LearnSettings;
use crate::settings::value::{TEXT, format_of_file};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct LearnArgs {
    /// Add what is missing to this policy, and keep the rest as it is
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "output")]
    update: Option<PathBuf>,

    /// Write the policy to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,
}

const AFTER: &str = "\
Examples:
  netwatch learn > netwatch.toml                   the smallest policy that allows the newest run
  sudo netwatch learn -- npm ci                    run a program, then print the policy for it
  netwatch learn --update netwatch.toml 2 1        add what two runs need beside

Exit code: 0; 2 if there is no such run, or netwatch failed; with a COMMAND, those of `netwatch run`.
`netwatch help policy` describes policies.";

impl LearnArgs {
    pub(super) fn settings(self) -> Result<LearnSettings> {
        if let Some(path) = &self.output {
            let known = format_of_file(path, &[(&["toml"], ()), (&TEXT, ())]);
            known.map_err(|error| error.hint("a policy is TOML: use .toml"))?;
        }
        let source = self.source.source()?;
        Ok(LearnSettings { update: self.update, output: self.output, source })
    }
}
