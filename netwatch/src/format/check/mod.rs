//! The verdict of `netwatch check` in each format: for people, for CI systems and for programs.

pub(super) mod github;
mod json;
mod junit;
mod markdown;
mod sarif;
mod text;
pub(in crate::format) mod words;

use std::io::{self, Write};

use crate::allow::{AllowList, AllowRule, PolicyVerdict};

pub use json::SCHEMA;

/// Output format of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFormat {
    /// Plain text.
    Text,
    /// For programs; docs/check.md describes every key.
    Json,
    /// Test results, which most CI systems display.
    Junit,
    /// Static analysis results (SARIF 2.1.0).
    Sarif,
    /// Commands of GitHub Actions, which become annotations.
    Github,
    /// Markdown for a pull request or a job summary.
    Markdown,
}

impl CheckFormat {
    /// Every format, in the order of the manual.
    pub const ALL: [Self; 6] = [Self::Text, Self::Json, Self::Junit, Self::Sarif, Self::Github, Self::Markdown];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Junit => "junit",
            Self::Sarif => "sarif",
            Self::Github => "github",
            Self::Markdown => "markdown",
        }
    }
}

/// A verdict and the policy that it is about.
#[derive(Debug, Clone, Copy)]
pub struct CheckedPolicy<'a> {
    /// The file of the policy, as it was named.
    pub file: &'a str,
    /// Its rules.
    pub list: &'a AllowList,
    /// The verdict.
    pub verdict: &'a PolicyVerdict,
}

impl CheckedPolicy<'_> {
    /// Rules by their index, without indexes of other lists.
    pub(in crate::format) fn rules<'s>(&'s self, indexes: &'s [usize]) -> impl Iterator<Item = &'s AllowRule> {
        indexes.iter().filter_map(|index| self.list.rules.get(*index))
    }
}

/// Writes the verdict with a single call.
pub fn write(checked: &CheckedPolicy<'_>, format: CheckFormat, out: &mut dyn Write) -> io::Result<()> {
    let text = match format {
        CheckFormat::Text => text::text(checked),
        CheckFormat::Json => json::text(checked),
        CheckFormat::Junit => junit::text(checked),
        CheckFormat::Sarif => sarif::text(checked),
        CheckFormat::Github => github::text(checked),
        CheckFormat::Markdown => markdown::text(checked),
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}
