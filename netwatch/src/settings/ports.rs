//! The settings of `netwatch ports`, and where `ports`, `learn` and `check` get their runs.

use std::path::{Path, PathBuf};

use super::RunSettings;
use super::value::extension;
use crate::error::{Error, Result};
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
    /// The format that the extension of a file name stands for; `None` without an extension. An
    /// extension of another format is an error: a table in `ports.xlsx` would surprise.
    pub fn of_file(path: &Path) -> Result<Option<Self>> {
        Ok(Some(match extension(path).as_str() {
            "" => return Ok(None),
            "txt" => Self::Table,
            "md" | "markdown" => Self::Markdown,
            "csv" => Self::Csv,
            "json" => Self::Json,
            "nft" => Self::Nft,
            other => {
                let cause = format!("no format has the extension .{other}");
                return Err(Error::other("write", path.display().to_string(), cause)
                    .hint("name the format with --format, or use .txt, .md, .csv, .json or .nft"));
            }
        }))
    }
}
