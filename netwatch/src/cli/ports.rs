//! The command line of `netwatch ports`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum, ValueHint};

use super::rules::RulesArgs;
use super::source::SourceArgs;
use crate::error::Result;
use crate::policy::RuleFormat;
use crate::settings::PortsSettings;

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct PortsArgs {
    /// Output format [default: by the extension of FILE, else table]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<RuleFormatArg>,

    /// Write the list to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    rules: RulesArgs,
}

/// A [`RuleFormat`] for clap.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleFormatArg(pub RuleFormat);

impl ValueEnum for RuleFormatArg {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<RuleFormatArg>> = LazyLock::new(|| RuleFormat::ALL.map(RuleFormatArg).into());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.0.name()).help(describe(self.0));
        Some(if self.0 == RuleFormat::Markdown { value.alias("md") } else { value })
    }
}

fn describe(format: RuleFormat) -> &'static str {
    match format {
        RuleFormat::Table => "A plain table for a manual or a ticket",
        RuleFormat::Markdown => "A table in Markdown",
        RuleFormat::Csv => "One row per address, for spreadsheets",
        RuleFormat::Json => "One JSON document",
        RuleFormat::Nft => "Firewall rules for `nft -f`",
        RuleFormat::Iptables => "Firewall rules: a script for iptables and ip6tables",
        RuleFormat::Ufw => "Firewall rules: a script for ufw",
        RuleFormat::Firewalld => "Firewall rules: a script for firewalld",
        RuleFormat::K8s => "A Kubernetes NetworkPolicy",
        RuleFormat::Cilium => "A CiliumNetworkPolicy with DNS names",
        RuleFormat::AwsSg => "AWS security group permissions",
        RuleFormat::Systemd => "A drop-in for a systemd service",
    }
}

const AFTER: &str = "\
Examples:
  netwatch ports                                  what does the newest run need?
  sudo netwatch ports -- ./shop.py --self-test    run a program, then print what it needs
  netwatch ports 3 2 1 -o ports.md                one list of three runs, for a manual
  netwatch ports lab.json office.netwatch         runs of other machines
  netwatch ports --format nft -o rules.nft        firewall rules
  netwatch ports --format k8s --generalize        a NetworkPolicy with address prefixes

Exit code: 0; 2 if there is no such run, or netwatch failed; with a COMMAND, those of `netwatch run`.
File extensions that select a format: .txt, .md, .csv, .json, .nft.
`netwatch help firewall` is the manual.";

impl PortsArgs {
    pub(super) fn settings(self) -> Result<PortsSettings> {
        let by_extension = || self.output.as_deref().map(RuleFormat::of_file);
        let format = match self.format {
            Some(format) => format.0,
            None => by_extension().transpose()?.flatten().unwrap_or(RuleFormat::Table),
        };
        let rules = self.rules.options(Some(format), format.name())?;
        let source = self.source.source()?;
        Ok(PortsSettings { format, output: self.output, source, rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RunSource;
    use clap::Parser;

    #[derive(Parser)]
    struct PortsCommand {
        #[command(flatten)]
        arguments: PortsArgs,
    }

    fn settings(words: &[&str]) -> Result<PortsSettings> {
        let words = std::iter::once(&"ports").chain(words);
        PortsCommand::try_parse_from(words).expect("valid flags").arguments.settings()
    }

    #[test]
    fn the_format_follows_from_the_flags() {
        let format = |words| settings(words).expect("valid settings").format;
        assert_eq!(format(&[]), RuleFormat::Table);
        assert_eq!(format(&["-o", "ports.MD"]), RuleFormat::Markdown);
        assert_eq!(format(&["-o", "rules.nft"]), RuleFormat::Nft);
        assert_eq!(format(&["-o", "ports.md", "--format", "csv"]), RuleFormat::Csv);
        assert_eq!(format(&["-o", "ports"]), RuleFormat::Table);
    }

    #[test]
    fn a_file_extension_of_another_format_is_refused() {
        let error = settings(&["-o", "ports.xlsx"]).expect_err("no such format").to_string();
        assert!(error.contains("xlsx") && error.contains("--format"), "{error}");
    }

    #[test]
    fn words_after_two_dashes_are_a_command() {
        let RunSource::Command(run) = settings(&["--", "curl", "-s", "x"]).expect("valid settings").source else {
            panic!("a command");
        };
        assert_eq!(run.command, ["curl", "-s", "x"]);
        assert!(run.session.quiet);
        let both = PortsCommand::try_parse_from(["ports", "3", "--", "curl"]);
        assert!(both.is_err(), "either runs or a command");
    }
}
