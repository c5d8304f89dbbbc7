//! The settings of `netwatch ports`, and where `ports`, `learn` and `check` get their runs.

use std::path::{Path, PathBuf};

use super::RunSettings;
use super::value::{TEXT, format_of_file};
use crate::error::Result;
use crate::policy::{RuleFormat, RuleOptions};

/// What `netwatch ports` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortsSettings {
    /// Format of the list.
    pub format: RuleFormat,
    /// File for the list; standard output by default.
    pub output: Option<PathBuf>,
    /// The runs.
    pub source: RunSource,
    /// What is listed.
    pub rules: RuleOptions,
}

/// The runs of a subcommand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunSource {
    /// Runs by number, id or file; the newest run if empty.
    Recorded(Vec<String>),
    /// A command that is run first.
    Command(Box<RunSettings>),
}

impl RunSource {
    /// The runs as they are named, some by file.
    pub fn inputs(&self) -> &[String] {
        match self {
            Self::Recorded(runs) => runs,
            Self::Command(_) => &[],
        }
    }
}

impl RuleFormat {
    /// The format that the extension of a file name stands for; `None` without an extension.
    pub fn of_file(path: &Path) -> Result<Option<Self>> {
        let formats: [(&[&str], _); 5] = [
            (&TEXT, Self::Table),
            (&["md", "markdown"], Self::Markdown),
            (&["csv"], Self::Csv),
            (&["json"], Self::Json),
            (&["nft"], Self::Nft),
        ];
        format_of_file(path, &formats)
    }
}
