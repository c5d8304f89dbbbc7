//! The command line of `netwatch history`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueHint};

use super::ColorArgs;
use crate::settings::HistorySettings;

#[derive(Debug, Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    action: Option<HistoryAction>,

    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum HistoryAction {
    /// List the recorded runs, newest first
    List(ListArgs),
    /// Print the summary of a run
    Show(ShowArgs),
    /// Remove runs
    Rm(RemoveArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Write one JSON document instead of a table
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Write one JSON document instead of the summary
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    #[command(flatten)]
    color: ColorArgs,

    /// Number, id or file of the run [default: the newest run]
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    run: Option<String>,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// Remove all recorded runs except those in progress
    #[arg(long)]
    all: bool,

    /// Numbers, ids or files of the runs
    #[arg(
        value_name = "RUN",
        required_unless_present = "all",
        conflicts_with = "all",
        value_hint = ValueHint::FilePath
    )]
    runs: Vec<String>,
}

const AFTER: &str = "\
Examples:
  netwatch history                   list the recorded runs, newest first
  netwatch history show 2            print the summary of the second newest run
  netwatch report --open 3f2a91bc    open a report of the run with this id
  netwatch history rm 7 8            remove two runs

Needs no root. `netwatch run` keeps the newest 50 runs (--keep) of the caller of sudo in
$XDG_STATE_HOME/netwatch/runs or ~/.local/state/netwatch/runs. Exit code: 0; 2 if netwatch failed.";

impl HistoryArgs {
    pub(super) fn settings(self) -> HistorySettings {
        match self.action.unwrap_or(HistoryAction::List(self.list)) {
            HistoryAction::List(ListArgs { json }) => HistorySettings::List { json },
            HistoryAction::Show(ShowArgs { json, color, run }) => {
                HistorySettings::Show { json, color: color.into(), run }
            }
            HistoryAction::Rm(RemoveArgs { all: true, .. }) => HistorySettings::RemoveAll,
            HistoryAction::Rm(RemoveArgs { runs, .. }) => HistorySettings::Remove(runs),
        }
    }
}
