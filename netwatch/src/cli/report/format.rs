//! The formats of `netwatch report`: a line each in every table here.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::source::Source;
use crate::error::{Error, Result};
use crate::format::{csv, html, json, markdown, summary};
use crate::policy;
use crate::report::Report;

/// How to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    Ndjson,
    Csv,
    Markdown,
    Html,
    /// Firewall rules.
    Rules(policy::Format),
}

/// What is no rules.
const REPORTS: [Format; 6] = [Format::Text, Format::Json, Format::Ndjson, Format::Csv, Format::Markdown, Format::Html];

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Format>> =
            LazyLock::new(|| REPORTS.into_iter().chain(policy::Format::ALL.map(Format::Rules)).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = |name, about| PossibleValue::new(name).help(about);
        Some(match self {
            Self::Text => value("text", "As after a run"),
            Self::Json => value("json", "One JSON document"),
            Self::Ndjson => value("ndjson", "One JSON object on each line").alias("jsonl"),
            Self::Csv => value("csv", "The flows, for spreadsheets"),
            Self::Markdown => value("markdown", "Network requirements, for a README or a pull request").alias("md"),
            Self::Html => value("html", "One page with pictures, tables and a search; needs no network"),
            Self::Rules(format) => value(format.name(), about(*format)),
        })
    }
}

fn about(format: policy::Format) -> &'static str {
    match format {
        policy::Format::Nft => "Firewall rules for `nft -f`",
        policy::Format::Iptables => "Firewall rules: a script for iptables and ip6tables",
        policy::Format::Ufw => "Firewall rules: a script for ufw",
        policy::Format::Firewalld => "Firewall rules: a script for firewalld",
        policy::Format::K8s => "A NetworkPolicy of Kubernetes",
        policy::Format::Cilium => "A CiliumNetworkPolicy, by name",
        policy::Format::AwsSg => "Permissions of an AWS security group",
        policy::Format::Systemd => "A drop-in for a systemd service",
        policy::Format::Ports => "What must be open, as a plain table for a manual",
    }
}

impl Format {
    /// The format that a file's name stands for.
    pub fn of_file(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Self::Text,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "csv" => Self::Csv,
            "md" | "markdown" => Self::Markdown,
            "html" | "htm" => Self::Html,
            "nft" => Self::Rules(policy::Format::Nft),
            _ => return None,
        })
    }

    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Markdown => "md",
            Self::Html => "html",
            Self::Rules(format) => match format {
                policy::Format::Nft => "nft",
                policy::Format::Iptables | policy::Format::Ufw | policy::Format::Firewalld => "sh",
                policy::Format::K8s | policy::Format::Cilium => "yaml",
                policy::Format::AwsSg => "json",
                policy::Format::Systemd => "conf",
                policy::Format::Ports => "txt",
            },
        }
    }

    /// As it is typed.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether one file can say it of several runs.
    pub fn holds_several(self) -> bool {
        !matches!(self, Self::Json | Self::Html)
    }

    /// All of it. `look` is for text, `rules` for firewall rules.
    pub fn text(self, sources: &[Source], look: &summary::Options, rules: &policy::Options) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let written = match self {
            Self::Rules(format) => {
                let reports: Vec<&Report> = sources.iter().map(|source| &source.report).collect();
                policy::write(format, &reports, rules, &mut text)
            }
            _ => self.write(sources, look, &mut text),
        };
        written.map_err(|error| Error::os("write", self.name(), error))?;
        Ok(text)
    }

    fn write(self, sources: &[Source], look: &summary::Options, out: &mut Vec<u8>) -> io::Result<()> {
        if self == Self::Csv {
            csv::write_header(out)?;
        }
        for (at, Source { report, series }) in sources.iter().enumerate() {
            if at > 0 && matches!(self, Self::Text | Self::Markdown) {
                out.push(b'\n');
            }
            match self {
                Self::Text => summary::write(report, look, out)?,
                Self::Json => json::write(report, out)?,
                Self::Ndjson => json::lines::write(report, series, out)?,
                Self::Csv => csv::write(report, out)?,
                Self::Markdown => markdown::write(report, out)?,
                Self::Html => html::write(report, series, out)?,
                // Rules are one document of all sources.
                Self::Rules(_) => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
        Ok(())
    }
}
