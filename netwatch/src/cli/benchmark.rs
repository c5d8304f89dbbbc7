//! The command lines of `netwatch bench` and `netwatch compare`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint, value_parser};

use super::source::run_settings;
use crate::error::{Error, Result};
use crate::format::benchmark::BenchmarkFormat;
use crate::settings::value::{TEXT, format_of_file};
use crate::settings::{BenchSettings, BenchmarkOutput, CompareSettings, Compared, Repetition, RunSettings};

#[derive(Debug, Args)]
#[command(after_help = AFTER_BENCH)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    repetition: RepetitionArgs,

    /// Command to run, with its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_COMPARE)]
pub(super) struct CompareArgs {
    #[command(flatten)]
    output: OutputArgs,

    /// A and B are commands, which sh runs in turn
    #[arg(short = 'x', long)]
    exec: bool,

    #[command(flatten)]
    repetition: RepetitionArgs,

    /// Runs of the first side by number, id or file; with --exec, a command
    ///
    /// Captures are replayed, JSON reports are read.
    #[arg(required = true, value_name = "A", value_hint = ValueHint::FilePath)]
    a: Vec<String>,

    /// Runs of the second side; with --exec, a command
    #[arg(required = true, last = true, value_name = "B", value_hint = ValueHint::FilePath)]
    b: Vec<String>,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Output format [default: by the extension of FILE, else text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatArg>,

    /// Write the result to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RepetitionArgs {
    /// Number of measured runs, of each command
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u16).range(1..))]
    runs: u16,

    /// Number of runs before them that are not measured, of each command
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u16,

    /// Run this shell command before each run, outside of the measurement
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    prepare: Option<OsString>,

    /// Continue when a run of the command fails
    #[arg(short, long)]
    ignore_failure: bool,

    /// Write the output of the command to standard error instead of discarding it
    #[arg(long)]
    show_output: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Text for a terminal
    Text,
    /// JSON for programs
    Json,
    /// One row per run and metric
    Csv,
    /// Markdown for a pull request
    #[value(alias = "md")]
    Markdown,
    /// A page with box plots
    Html,
}

const AFTER_BENCH: &str = "\
Examples:
  sudo netwatch bench -- curl -sS https://app.example/          ten runs, after one warm-up
  sudo netwatch bench -n 30 --prepare 'rm -rf .cache' -- npm ci
  sudo netwatch bench --format html -o bench.html -- ./client   a page with box plots

Each measured run is recorded: `netwatch history` lists them, `netwatch report` works on each, and
`netwatch compare` compares them. The variables NETWATCH_* set the options of the runs.

Exit code: 0 on success, 1 if a run of the command failed, 2 on error, 130 if ^C ended it.
`netwatch help benchmark` is the manual.";

const AFTER_COMPARE: &str = "\
Examples:
  sudo netwatch compare -x 'curl -s http://a.example/' -- 'curl -s --http3 http://a.example/'
  netwatch compare 10 9 8 7 6 -- 5 4 3 2 1                the newest five runs with the five before
  netwatch compare old/*.netwatch -- new/*.netwatch --format markdown

The order of commands alternates. A verdict on duration, CPU times, bytes and connections needs five
runs of each side, one on all metrics seven. Recorded runs are compared in the order of their start.

Exit code: 0 on success, also if there are differences; 1 if a run of a command failed, 2 on error,
130 if ^C ended it.
`netwatch help benchmark` is the manual.";

impl BenchArgs {
    pub(super) fn settings(self) -> Result<BenchSettings> {
        let run = run_settings(self.command)?;
        Ok(BenchSettings { run, repetition: self.repetition.into(), output: self.output.settings()? })
    }
}

impl CompareArgs {
    pub(super) fn settings(self) -> Result<CompareSettings> {
        let compared = match self.exec {
            true => {
                let sides = Box::new([shell_command(&self.a)?, shell_command(&self.b)?]);
                Compared::Commands { sides, repetition: self.repetition.into() }
            }
            false => Compared::Recorded([self.a, self.b]),
        };
        Ok(CompareSettings { compared, output: self.output.settings()? })
    }
}

/// A side is one argument, as in `sh -c`.
fn shell_command(words: &[String]) -> Result<RunSettings> {
    match words {
        [command] => run_settings(vec!["sh".into(), "-c".into(), command.into()]),
        _ => {
            let error = Error::other("compare", words.join(" "), "with --exec, each side is one argument");
            Err(error.hint("quote the command: netwatch compare -x 'COMMAND A' -- 'COMMAND B'"))
        }
    }
}

impl From<RepetitionArgs> for Repetition {
    fn from(arguments: RepetitionArgs) -> Self {
        Self {
            runs: arguments.runs.into(),
            warmup: arguments.warmup.into(),
            prepare: arguments.prepare,
            ignore_failure: arguments.ignore_failure,
            show_output: arguments.show_output,
        }
    }
}

impl FormatArg {
    fn of_file(path: &Path) -> Result<Option<Self>> {
        let formats: [(&[&str], _); 5] = [
            (&TEXT, Self::Text),
            (&["json"], Self::Json),
            (&["csv"], Self::Csv),
            (&["md", "markdown"], Self::Markdown),
            (&["html", "htm"], Self::Html),
        ];
        format_of_file(path, &formats)
    }
}

impl OutputArgs {
    fn settings(self) -> Result<BenchmarkOutput> {
        let by_extension = || self.output.as_deref().map(FormatArg::of_file).transpose();
        let named = self.format.map_or_else(|| by_extension().map(Option::flatten), |format| Ok(Some(format)))?;
        let format = match named.unwrap_or(FormatArg::Text) {
            FormatArg::Text => BenchmarkFormat::Text,
            FormatArg::Json => BenchmarkFormat::Json,
            FormatArg::Csv => BenchmarkFormat::Csv,
            FormatArg::Markdown => BenchmarkFormat::Markdown,
            FormatArg::Html => BenchmarkFormat::Html,
        };
        Ok(BenchmarkOutput { format, file: self.output })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CompareCommand {
        #[command(flatten)]
        arguments: CompareArgs,
    }

    fn settings(words: &[&str]) -> Result<CompareSettings> {
        let words = std::iter::once(&"compare").chain(words);
        CompareCommand::try_parse_from(words).expect("valid flags").arguments.settings()
    }

    #[test]
    fn two_dashes_separate_the_sides() {
        let compared = settings(&["3", "2", "--", "1", "x.json"]).expect("valid").compared;
        let sides = [["3", "2"], ["1", "x.json"]].map(|side| side.map(str::to_owned).to_vec());
        assert_eq!(compared, Compared::Recorded(sides));
    }

    #[test]
    fn the_extension_of_the_file_selects_the_format() {
        let format =
            |words: &[&str]| settings(&[words, &["2", "--", "1"]].concat()).map(|settings| settings.output.format);
        assert_eq!(format(&["-o", "a.csv"]).expect("known"), BenchmarkFormat::Csv);
        assert_eq!(format(&["-o", "a.pdf", "--format", "json"]).expect("named"), BenchmarkFormat::Json);
        assert!(
            format(&["-o", "a.pdf"]).expect_err("unknown").to_string().contains("no format has the extension .pdf")
        );
    }

    #[test]
    fn commands_are_one_argument_each() {
        let compared = settings(&["-x", "-n", "5", "curl a", "--", "curl b"]).expect("valid").compared;
        let Compared::Commands { sides, repetition } = compared else { panic!("commands") };
        let commands = sides.map(|side| side.command);
        assert_eq!(commands, [["sh", "-c", "curl a"], ["sh", "-c", "curl b"]]);
        assert_eq!((repetition.runs, repetition.warmup), (5, 1));
        let error = settings(&["-x", "curl", "a", "--", "curl b"]).expect_err("two arguments").to_string();
        assert!(error.contains("each side is one argument"), "{error}");
    }
}
