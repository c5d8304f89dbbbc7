//! The command line of `netwatch report`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::{FalseyValueParser, PossibleValue};
use clap::{Args, ValueEnum, ValueHint, value_parser};

use super::rules::RulesArgs;
use super::{ByArg, ColorArgs};
use crate::error::Result;
use crate::policy::RuleFormat;
use crate::settings::{ReportFormat, ReportSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ReportArgs {
    /// Output format [default: by the extension of FILE, else text]
    ///
    /// With --open and without -o, the default is html.
    #[arg(long, value_enum, value_name = "FORMAT", env = "NETWATCH_FORMAT")]
    format: Option<ReportFormatArg>,

    /// Write the report to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_REPORT_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Open the report in the default application
    ///
    /// Without -o the report is written to netwatch-RUN.html in the working directory.
    #[arg(long)]
    open: bool,

    /// Width of the text in columns [default: the terminal's width]
    ///
    /// Files and pipes get 100 columns by default.
    #[arg(long, value_name = "COLUMNS", value_parser = value_parser!(u16).range(40..), env = "NETWATCH_WIDTH")]
    width: Option<u16>,

    /// Group the traffic in the text by endpoint or by process
    #[arg(long, value_name = "WHAT", default_value = "endpoint", env = "NETWATCH_BY")]
    by: ByArg,

    /// Add diagnostics to the text: addresses, packets, the balance in numbers
    #[arg(short, long, env = "NETWATCH_VERBOSE", value_parser = FalseyValueParser::new())]
    verbose: bool,

    #[command(flatten)]
    color: ColorArgs,

    /// Print only errors on standard error
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    /// Runs by number, id or file; captures are replayed [default: the newest run]
    ///
    /// JSON and HTML reports describe one run; other formats can hold several.
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    runs: Vec<String>,

    /// html: compare with an earlier run, by number, id or file
    #[arg(long, value_name = "RUN", value_hint = ValueHint::FilePath)]
    baseline: Option<String>,

    /// html: show the verdict of this policy, as `netwatch check` does
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Option<PathBuf>,

    #[command(flatten)]
    rules: RulesArgs,
}

/// A [`ReportFormat`] for clap.
#[derive(Debug, Clone, Copy)]
struct ReportFormatArg(ReportFormat);

impl ValueEnum for ReportFormatArg {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<ReportFormatArg>> =
            LazyLock::new(|| ReportFormat::all().map(ReportFormatArg).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.0.name()).help(describe(self.0));
        Some(match self.0 {
            ReportFormat::Rules(RuleFormat::Table) => value.alias("table").hide(true),
            ReportFormat::Rules(_) => value.hide(true),
            ReportFormat::Ndjson => value.alias("jsonl"),
            ReportFormat::Markdown => value.alias("md"),
            _ => value,
        })
    }
}

fn describe(format: ReportFormat) -> &'static str {
    match format {
        ReportFormat::Text => "The summary that `run` prints",
        ReportFormat::Json => "One JSON document",
        ReportFormat::Ndjson => "One JSON object per line",
        ReportFormat::Csv => "One row per flow, for spreadsheets",
        ReportFormat::Markdown => "The traffic as tables, for a pull request",
        ReportFormat::Html => "One self-contained page with charts, tables and search",
        ReportFormat::Rules(_) => "Moved to `netwatch ports`",
    }
}

const AFTER: &str = "\
Examples:
  netwatch report                                        the summary of the newest run
  netwatch report --open                                 an HTML page in your browser
  netwatch report -o run.html 7                          run 7 as one self-contained file
  netwatch report -o run.html --baseline 2 1             the same, compared with the run before
  netwatch report --open --policy netwatch.toml          with the verdict of a policy
  netwatch ports --format markdown 7 >> README.md        its network requirements
  netwatch report -o flows.csv trace.pcapng              the flows in a capture, for a spreadsheet

Exit code: 0; 2 if there is no such run, or netwatch failed. File extensions that select a format:
.txt, .json, .ndjson, .jsonl, .csv, .md, .html, .nft. `netwatch help reports` describes the formats.
`netwatch ports` writes firewall rules.";

impl ReportArgs {
    pub(super) fn settings(self) -> Result<ReportSettings> {
        let format = self.format()?;
        ReportSettings {
            format,
            output: self.output,
            open: self.open,
            width: self.width,
            by: self.by.into(),
            verbose: self.verbose,
            color: self.color.into(),
            quiet: self.quiet,
            runs: self.runs,
            policy: self.policy,
            baseline: self.baseline,
            rules: self.rules.options(format.rules(), format.name())?,
        }
        .validate()
    }

    fn format(&self) -> Result<ReportFormat> {
        if let Some(format) = self.format {
            return Ok(format.0);
        }
        let default = if self.open && self.output.is_none() { ReportFormat::Html } else { ReportFormat::Text };
        let by_extension = self.output.as_deref().map(ReportFormat::of_file).transpose()?;
        Ok(by_extension.flatten().unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct ReportCommand {
        #[command(flatten)]
        arguments: ReportArgs,
    }

    fn settings(words: &[&str]) -> Result<ReportSettings> {
        let words = std::iter::once(&"report").chain(words);
        ReportCommand::try_parse_from(words).expect("valid flags").arguments.settings()
    }

    #[test]
    fn the_format_follows_from_the_flags() {
        let format = |words| settings(words).expect("valid settings").format;
        assert_eq!(format(&[]), ReportFormat::Text);
        assert_eq!(format(&["--open"]), ReportFormat::Html);
        assert_eq!(format(&["-o", "a.md"]), ReportFormat::Markdown);
        assert_eq!(format(&["-o", "a.md", "--open"]), ReportFormat::Markdown);
        assert_eq!(format(&["-o", "a.JSONL"]), ReportFormat::Ndjson);
        assert_eq!(format(&["-o", "report"]), ReportFormat::Text);
        assert_eq!(format(&["-o", "a.md", "--format", "csv"]), ReportFormat::Csv);
        assert_eq!(format(&["-o", "a.pdf", "--format", "html"]), ReportFormat::Html);
        let error = settings(&["-o", "a.pdf"]).expect_err("no such format").to_string();
        assert!(error.contains("a.pdf") && error.contains("--format"), "{error}");
    }

    #[test]
    fn rejects_several_runs_in_a_format_for_one() {
        let error = settings(&["--format", "html", "1", "2"]).expect_err("a page describes one run").to_string();
        assert!(error.contains("html") && error.contains("ndjson"), "{error}");
        assert!(settings(&["--format", "csv", "1", "2"]).is_ok());
    }

    #[test]
    fn only_a_page_has_a_verdict_and_a_comparison() {
        for flag in ["--policy", "--baseline"] {
            assert!(settings(&["-o", "a.html", flag, "x"]).is_ok());
            let error = settings(&["-o", "a.json", flag, "x"]).expect_err("not in JSON").to_string();
            assert!(error.contains(flag) && error.contains("--format html"), "{error}");
        }
    }
}
