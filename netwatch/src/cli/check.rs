//! The command line of `netwatch check`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum, ValueHint};

use super::source::SourceArgs;
use crate::error::Result;
use crate::format::check::CheckFormat;
use crate::settings::CheckSettings;
use crate::settings::value::{TEXT, format_of_file};

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct CheckArgs {
    /// The policy
    #[arg(long, value_name = "FILE", default_value = "netwatch.toml", value_hint = ValueHint::FilePath)]
    policy: PathBuf,

    /// Name of the policy in the verdict [default: its path]
    ///
    /// For a CI system that checks a private copy of the policy: annotations and test results then
    /// name the file in the repository.
    #[arg(long, value_name = "PATH")]
    shown_as: Option<String>,

    /// Output format [default: by the extension of FILE, else text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<CheckFormatArg>,

    /// Write the verdict to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Print no verdict: only the exit code, and the files of -o and of GitHub Actions
    #[arg(short, long)]
    quiet: bool,

    /// Pass although lost observations could hide a violation
    #[arg(long)]
    allow_uncertain: bool,

    #[command(flatten)]
    source: SourceArgs,
}

/// A [`CheckFormat`] for clap.
#[derive(Debug, Clone, Copy)]
struct CheckFormatArg(CheckFormat);

impl ValueEnum for CheckFormatArg {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<CheckFormatArg>> = LazyLock::new(|| CheckFormat::ALL.map(CheckFormatArg).into());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.0.name()).help(describe(self.0));
        Some(if self.0 == CheckFormat::Markdown { value.alias("md") } else { value })
    }
}

fn describe(format: CheckFormat) -> &'static str {
    match format {
        CheckFormat::Text => "Text for a terminal",
        CheckFormat::Json => "JSON for programs",
        CheckFormat::Junit => "Test results as JUnit XML",
        CheckFormat::Sarif => "Static analysis results (SARIF 2.1.0)",
        CheckFormat::Github => "Annotations of GitHub Actions",
        CheckFormat::Markdown => "Markdown for a pull request",
    }
}

/// The format that the name of a file asks for.
fn of_file(file: Option<&Path>) -> Result<CheckFormat> {
    let formats: [(&[&str], _); 5] = [
        (&TEXT, CheckFormat::Text),
        (&["json"], CheckFormat::Json),
        (&["xml"], CheckFormat::Junit),
        (&["sarif"], CheckFormat::Sarif),
        (&["md", "markdown"], CheckFormat::Markdown),
    ];
    let by_extension = file.map(|path| format_of_file(path, &formats)).transpose()?;
    Ok(by_extension.flatten().unwrap_or(CheckFormat::Text))
}

const AFTER: &str = "\
Examples:
  sudo netwatch check -- cargo test                    run a program, then check what it reached
  netwatch check                                       check the newest run
  netwatch check --policy ci/net.toml 3 2 1            three runs, another policy
  netwatch check --format junit -o net.xml run.json    a run of another machine, for a CI system
  netwatch learn > netwatch.toml                       begin with what a run needs

Exit code: 0 if everything is allowed, 1 if something is not or could be hidden by lost observations,
2 on error. With a COMMAND that fails although everything is allowed, its own exit code. In GitHub
Actions, annotations and the summary of the job are written too. `netwatch help checking` is the
manual.";

impl CheckArgs {
    pub(super) fn settings(self) -> Result<CheckSettings> {
        let source = self.source.source()?;
        Ok(CheckSettings {
            policy: self.policy,
            shown_as: self.shown_as,
            format: self.format.map_or_else(|| of_file(self.output.as_deref()), |format| Ok(format.0))?,
            output: self.output,
            quiet: self.quiet,
            allow_uncertain: self.allow_uncertain,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RunSource;
    use clap::Parser;

    #[derive(Parser)]
    struct CheckCommand {
        #[command(flatten)]
        arguments: CheckArgs,
    }

    fn settings(words: &[&str]) -> CheckSettings {
        let words = std::iter::once(&"check").chain(words);
        CheckCommand::try_parse_from(words).expect("valid flags").arguments.settings().expect("valid settings")
    }

    #[test]
    fn the_policy_is_in_the_working_directory_by_default() {
        let defaults = settings(&[]);
        assert_eq!(defaults.policy, PathBuf::from("netwatch.toml"));
        assert_eq!((defaults.format, defaults.source), (CheckFormat::Text, RunSource::Recorded(vec![])));
        assert_eq!(settings(&["--policy", "a.toml", "--format", "sarif"]).format, CheckFormat::Sarif);
        assert_eq!(settings(&["-o", "net.xml"]).format, CheckFormat::Junit);
        assert_eq!(settings(&["-o", "net.xml", "--format", "text"]).format, CheckFormat::Text);
        assert!(settings(&["-q"]).quiet && !defaults.quiet);
        assert!(of_file(Some(Path::new("net.pdf"))).is_err());
    }

    #[test]
    fn words_after_two_dashes_are_a_command() {
        let RunSource::Command(run) = settings(&["--", "curl", "--policy", "x"]).source else { panic!("a command") };
        assert_eq!(run.command, ["curl", "--policy", "x"]);
    }
}
