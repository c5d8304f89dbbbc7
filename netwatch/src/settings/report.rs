//! The settings of `netwatch report`, and the formats it can write.

use std::path::{Path, PathBuf};

use super::ColorChoice;
use super::value::{TEXT, format_of_file};
use crate::error::{Error, Result};
use crate::format::summary;
use crate::policy;

/// What `netwatch report` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSettings {
    /// Format of the report.
    pub format: ReportFormat,
    /// File for the report; standard output by default, or with `open` a file in the working
    /// directory.
    pub output: Option<PathBuf>,
    /// Open the report in the default application.
    pub open: bool,
    /// Width of the text in columns; the terminal's by default.
    pub width: Option<u16>,
    /// How the text groups traffic.
    pub by: summary::GroupBy,
    /// Also diagnostics in the text.
    pub verbose: bool,
    /// When the text is colored.
    pub color: ColorChoice,
    /// Print only errors on standard error.
    pub quiet: bool,
    /// Runs by number, id or file; the newest run if empty.
    pub runs: Vec<String>,
    /// What the firewall formats write.
    pub rules: policy::RuleOptions,
    /// A policy whose verdict the page shows.
    pub policy: Option<PathBuf>,
    /// An earlier run that the page compares with, by number, id or file.
    pub baseline: Option<String>,
}

impl ReportSettings {
    /// Fails if the format cannot hold several runs and several are named, or if only a page has
    /// what is requested.
    pub fn validate(self) -> Result<Self> {
        let flags = [("--policy", self.policy.is_some()), ("--baseline", self.baseline.is_some())];
        if self.format != ReportFormat::Html
            && let Some((flag, _)) = flags.into_iter().find(|(_, is_given)| *is_given)
        {
            let cause = format!("the flag does not apply to format {}", self.format.name());
            let hint = "use it with --format html; `netwatch check` and `netwatch diff` write text";
            return Err(Error::other("use", flag, cause).hint(hint));
        }
        if self.runs.len() > 1 && !self.format.holds_several() {
            let cause = format!("a report in format {} describes one run", self.format.name());
            return Err(Error::other("write", "several runs", cause).hint("name one run, or use --format ndjson"));
        }
        Ok(self)
    }
}

/// A format of `netwatch report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// The summary.
    Text,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// One row per flow.
    Csv,
    /// The traffic, for a pull request.
    Markdown,
    /// A page with charts.
    Html,
    /// A format of `netwatch ports`.
    Rules(policy::RuleFormat),
}

impl ReportFormat {
    /// The formats that are not firewall rules.
    const REPORTS: [Self; 6] = [Self::Text, Self::Json, Self::Ndjson, Self::Csv, Self::Markdown, Self::Html];

    /// Every format, in the order of the help text.
    pub fn all() -> impl Iterator<Item = Self> {
        let rules = policy::RuleFormat::ALL.into_iter().filter(|format| !Self::has_own(*format));
        Self::REPORTS.into_iter().chain(rules.map(Self::Rules))
    }

    /// The name in `--format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Rules(policy::RuleFormat::Table) => "ports",
            Self::Rules(format) => format.name(),
        }
    }

    /// The format of firewall rules.
    pub fn rules(self) -> Option<policy::RuleFormat> {
        if let Self::Rules(format) = self { Some(format) } else { None }
    }

    /// Formats of `netwatch ports` that have the name of a report here.
    fn has_own(format: policy::RuleFormat) -> bool {
        matches!(format, policy::RuleFormat::Markdown | policy::RuleFormat::Csv | policy::RuleFormat::Json)
    }

    /// The format that the extension of a file name stands for; `None` without an extension.
    pub fn of_file(path: &Path) -> Result<Option<Self>> {
        let formats: [(&[&str], _); 7] = [
            (&TEXT, Self::Text),
            (&["json"], Self::Json),
            (&["ndjson", "jsonl"], Self::Ndjson),
            (&["csv"], Self::Csv),
            (&["md", "markdown"], Self::Markdown),
            (&["html", "htm"], Self::Html),
            (&["nft"], Self::Rules(policy::RuleFormat::Nft)),
        ];
        format_of_file(path, &formats)
    }

    /// The file name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Markdown => "md",
            Self::Html => "html",
            Self::Rules(format) => match format {
                policy::RuleFormat::Nft => "nft",
                policy::RuleFormat::Iptables | policy::RuleFormat::Ufw | policy::RuleFormat::Firewalld => "sh",
                policy::RuleFormat::K8s | policy::RuleFormat::Cilium => "yaml",
                policy::RuleFormat::AwsSg | policy::RuleFormat::Json => "json",
                policy::RuleFormat::Systemd => "conf",
                policy::RuleFormat::Table => "txt",
                policy::RuleFormat::Markdown => "md",
                policy::RuleFormat::Csv => "csv",
            },
        }
    }

    /// Whether one report can hold several runs.
    pub fn holds_several(self) -> bool {
        !matches!(self, Self::Json | Self::Html)
    }
}
