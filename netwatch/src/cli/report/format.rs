//! The formats of `netwatch report`: a line each in every table here.

use std::io;
use std::path::Path;

use clap::ValueEnum;

use super::source::Source;
use crate::error::{Error, Result};
use crate::policy;
use crate::report::Report;
use crate::sink::{csv, html, json, markdown, summary};

/// How to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// As after a run
    Text,
    /// One JSON document
    Json,
    /// One JSON object on each line
    #[value(alias = "jsonl")]
    Ndjson,
    /// The flows, for spreadsheets
    Csv,
    /// Network requirements, for a README or a pull request
    #[value(alias = "md")]
    Markdown,
    /// One page with pictures, tables and a search; needs no network
    Html,
    /// Firewall rules for `nft -f`
    Nft,
    /// Firewall rules: a script for iptables and ip6tables
    Iptables,
    /// Firewall rules: a script for ufw
    Ufw,
    /// Firewall rules: a script for firewalld
    Firewalld,
    /// A NetworkPolicy of Kubernetes
    K8s,
    /// A CiliumNetworkPolicy, by name
    Cilium,
    /// Permissions of an AWS security group
    AwsSg,
    /// A drop-in for a systemd service
    Systemd,
    /// What must be open, as a plain table for a manual
    Ports,
}

impl Format {
    /// Those that are firewall rules.
    pub const RULES: &[Self] = &[
        Self::Nft,
        Self::Iptables,
        Self::Ufw,
        Self::Firewalld,
        Self::K8s,
        Self::Cilium,
        Self::AwsSg,
        Self::Systemd,
        Self::Ports,
    ];

    /// The rules that it is, if it is rules.
    pub fn rules(self) -> Option<policy::Format> {
        Some(match self {
            Self::Text | Self::Json | Self::Ndjson | Self::Csv | Self::Markdown | Self::Html => return None,
            Self::Nft => policy::Format::Nft,
            Self::Iptables => policy::Format::Iptables,
            Self::Ufw => policy::Format::Ufw,
            Self::Firewalld => policy::Format::Firewalld,
            Self::K8s => policy::Format::K8s,
            Self::Cilium => policy::Format::Cilium,
            Self::AwsSg => policy::Format::AwsSg,
            Self::Systemd => policy::Format::Systemd,
            Self::Ports => policy::Format::Ports,
        })
    }

    /// The format that a file's name stands for.
    pub fn of_file(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Self::Text,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "csv" => Self::Csv,
            "md" | "markdown" => Self::Markdown,
            "html" | "htm" => Self::Html,
            "nft" => Self::Nft,
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
            Self::Nft => "nft",
            Self::Iptables | Self::Ufw | Self::Firewalld => "sh",
            Self::K8s | Self::Cilium => "yaml",
            Self::AwsSg => "json",
            Self::Systemd => "conf",
            Self::Ports => "txt",
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
        let written = match self.rules() {
            Some(format) => {
                let reports: Vec<&Report> = sources.iter().map(|source| &source.report).collect();
                policy::write(format, &reports, rules, &mut text)
            }
            None => self.write(sources, look, &mut text),
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
                _ => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
        Ok(())
    }
}
