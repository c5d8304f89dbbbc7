//! The command line of `netwatch diff`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::diff::{ChangeKind, DiffOptions, SubjectKind};
use crate::error::Result;
use crate::format::diff::DiffFormat;
use crate::settings::DiffSettings;
use crate::settings::value::{TEXT, format_of_file, parse_ratio};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct DiffArgs {
    /// Output format [default: by the extension of FILE, else text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<DiffFormatArg>,

    /// Write JSON: the same as --format json
    #[arg(short, long, conflicts_with = "format")]
    json: bool,

    /// Write the result to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Print nothing; the exit code is the result, and files are still written
    #[arg(short, long)]
    quiet: bool,

    /// Minimum ratio for a change to be reported
    ///
    /// The change must also reach --min-bytes or --min-count.
    #[arg(long, value_name = "RATIO", default_value_t = 2.0, value_parser = parse_ratio)]
    threshold: f64,

    /// Minimum difference in bytes on the wire
    #[arg(long, value_name = "BYTES", default_value_t = 10_000)]
    min_bytes: u64,

    /// Minimum difference in connections, queries, processes or attempts
    #[arg(long, value_name = "N", default_value_t = 10)]
    min_count: u64,

    /// Fail only on new endpoints: the check for CI
    ///
    /// The same as --only endpoints --ignore vanished,changed.
    #[arg(long, conflicts_with_all = ["only", "ignore"])]
    gate: bool,

    /// Compare only these
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    only: Vec<KindArg>,

    /// Ignore these changes
    #[arg(long, value_enum, value_name = "CHANGE", value_delimiter = ',')]
    ignore: Vec<ChangeArg>,

    /// Baseline runs by number, id or file
    ///
    /// Captures are replayed, JSON reports are read. Several runs, separated by commas, are
    /// combined: what varies among them is not a change.
    #[arg(value_name = "OLD[,OLD…]", value_hint = ValueHint::FilePath)]
    old: String,

    /// Runs to compare with the baseline
    #[arg(value_name = "NEW[,NEW…]", value_hint = ValueHint::FilePath)]
    new: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DiffFormatArg {
    /// Text for a terminal
    Text,
    /// Markdown for a pull request
    #[value(alias = "md")]
    Markdown,
    /// JSON for programs
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArg {
    Endpoints,
    Ports,
    Protocols,
    Names,
    Processes,
    Failures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChangeArg {
    Appeared,
    Vanished,
    Changed,
}

const AFTER: &str = "\
Examples:
  netwatch diff 2 1                                   compare the newest run with the one before
  netwatch diff base.netwatch 1 --format markdown     for a pull request
  netwatch diff 4,3,2 1                               tolerate run-to-run variation
  netwatch diff --gate base.json 1                    in CI: fail on new endpoints

Exit code: 0 if nothing changed, 1 if something changed, 2 on error. Different addresses of one name
and different ephemeral ports are not changes. `netwatch help differences` describes the comparison.";

impl DiffArgs {
    pub(super) fn settings(self) -> Result<DiffSettings> {
        Ok(DiffSettings {
            format: if self.json { DiffFormat::Json } else { self.format()? },
            options: self.options(),
            output: self.output,
            quiet: self.quiet,
            old: self.old,
            new: self.new,
        })
    }

    fn format(&self) -> Result<DiffFormat> {
        if let Some(format) = self.format {
            return Ok(format.into());
        }
        let formats: [(&[&str], _); 3] =
            [(&TEXT, DiffFormat::Text), (&["json"], DiffFormat::Json), (&["md", "markdown"], DiffFormat::Markdown)];
        let by_extension = self.output.as_deref().map(|path| format_of_file(path, &formats)).transpose()?;
        Ok(by_extension.flatten().unwrap_or(DiffFormat::Text))
    }

    fn options(&self) -> DiffOptions {
        let mut only: Vec<SubjectKind> = self.only.iter().copied().map(SubjectKind::from).collect();
        let mut ignored: Vec<ChangeKind> = self.ignore.iter().copied().map(ChangeKind::from).collect();
        if self.gate {
            only = vec![SubjectKind::Endpoints];
            ignored = vec![ChangeKind::Vanished, ChangeKind::Changed];
        }
        DiffOptions {
            factor: self.threshold,
            min_bytes: self.min_bytes,
            min_count: self.min_count,
            kinds: if only.is_empty() { SubjectKind::ALL.into() } else { only },
            changes: ChangeKind::ALL.into_iter().filter(|change| !ignored.contains(change)).collect(),
        }
    }
}

impl From<DiffFormatArg> for DiffFormat {
    fn from(format: DiffFormatArg) -> Self {
        match format {
            DiffFormatArg::Text => Self::Text,
            DiffFormatArg::Markdown => Self::Markdown,
            DiffFormatArg::Json => Self::Json,
        }
    }
}

impl From<KindArg> for SubjectKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Endpoints => Self::Endpoints,
            KindArg::Ports => Self::Ports,
            KindArg::Protocols => Self::Protocols,
            KindArg::Names => Self::Names,
            KindArg::Processes => Self::Processes,
            KindArg::Failures => Self::Failures,
        }
    }
}

impl From<ChangeArg> for ChangeKind {
    fn from(change: ChangeArg) -> Self {
        match change {
            ChangeArg::Appeared => Self::Appeared,
            ChangeArg::Vanished => Self::Vanished,
            ChangeArg::Changed => Self::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct DiffCommand {
        #[command(flatten)]
        arguments: DiffArgs,
    }

    #[test]
    fn the_gate_fails_on_new_endpoints_only() {
        let words = ["diff", "--gate", "base.json", "1"];
        let options =
            DiffCommand::try_parse_from(words).expect("valid flags").arguments.settings().expect("valid").options;
        assert_eq!(options.kinds, [SubjectKind::Endpoints]);
        assert_eq!(options.changes, [ChangeKind::Appeared], "more bytes of a known endpoint are no failure");
        assert!(DiffCommand::try_parse_from(["diff", "--gate", "--only", "names", "2", "1"]).is_err());
    }
}
