//! The settings of the subcommands that read recorded runs and captures, except `report`.

use std::path::PathBuf;
use std::time::Duration;

use super::{ColorChoice, FilterOption, RunSource, ViewSettings};
use crate::{diff, export, format};

/// What `netwatch replay` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaySettings {
    /// Which frames are counted.
    pub filter: Option<FilterOption>,
    /// File for the report.
    pub output: Option<PathBuf>,
    /// Report as JSON instead of text.
    pub json: bool,
    /// Print no report and no progress.
    pub quiet: bool,
    /// When the summary is colored.
    pub color: ColorChoice,
    /// Addresses and networks of the target; without any, the initiator of each flow is the target.
    pub local: Vec<String>,
    /// Count with the classifier in the kernel.
    pub kernel: bool,
    /// Maximum number of flows counted individually.
    pub max_flows: u32,
    /// A flow without packets for this time ends, except for TCP.
    pub idle_timeout: Duration,
    /// Look up names of addresses without one.
    pub resolve: bool,
    /// What happens to the packets.
    pub view: ViewSettings,
    /// The capture; `-` is standard input.
    pub file: PathBuf,
}

/// What `netwatch diff` does.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffSettings {
    /// Format of the result.
    pub format: format::diff::DiffFormat,
    /// File for the result; standard output by default.
    pub output: Option<PathBuf>,
    /// Print nothing.
    pub quiet: bool,
    /// What counts as a difference.
    pub options: diff::DiffOptions,
    /// Baseline: runs, separated by commas, or the name of a file.
    pub old: String,
    /// Runs to compare with the baseline, likewise.
    pub new: String,
}

/// What `netwatch check` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSettings {
    /// The policy.
    pub policy: PathBuf,
    /// Its name in the verdict; its path by default.
    pub shown_as: Option<String>,
    /// Format of the verdict.
    pub format: format::check::CheckFormat,
    /// File for the verdict; standard output by default.
    pub output: Option<PathBuf>,
    /// Print no verdict.
    pub quiet: bool,
    /// Lost observations do not fail the check, whatever the policy requests.
    pub allow_uncertain: bool,
    /// The runs.
    pub source: RunSource,
}

/// What `netwatch learn` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnSettings {
    /// The policy to which missing rules are added.
    pub update: Option<PathBuf>,
    /// File for a new policy; standard output by default.
    pub output: Option<PathBuf>,
    /// The runs.
    pub source: RunSource,
}

/// What `netwatch export` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// Format of the table.
    pub format: export::ExportFormat,
    /// Which table.
    pub table: export::ExportTable,
    /// File for the table; standard output by default.
    pub output: Option<PathBuf>,
    /// Runs by number, id or file; the newest run if empty.
    pub runs: Vec<String>,
}

/// What `netwatch history` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistorySettings {
    /// List the recorded runs, newest first.
    List {
        /// Write JSON instead of a table.
        json: bool,
    },
    /// Print the summary of a run.
    Show {
        /// Write JSON instead of the summary.
        json: bool,
        /// When the summary is colored.
        color: ColorChoice,
        /// Number, id or file of the run; the newest run by default.
        run: Option<String>,
    },
    /// Remove runs by number, id or file.
    Remove(Vec<String>),
    /// Remove all runs that have ended.
    RemoveAll,
}
