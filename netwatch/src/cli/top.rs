//! The command line of `netwatch top`.

use clap::Args;

use super::ColorArgs;
use crate::settings::TopSettings;

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct TopArgs {
    /// The beginning of the run's id [default: the only run in progress]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    #[command(flatten)]
    color: ColorArgs,
}

const AFTER: &str = "\
Examples:
  sudo netwatch top          the run in progress: endpoints, connections, processes, failures
  sudo netwatch top 3f2a     the run whose id begins like this

Keys: ? lists them. The run continues when you quit. The user who started a run may watch it without
sudo. Exit code: 0; 2 if netwatch failed.";

impl TopArgs {
    pub(super) fn settings(self) -> TopSettings {
        TopSettings { run: self.run, color: self.color.into() }
    }
}
