//! A benchmark or a comparison of two as text, JSON, CSV, Markdown or HTML.

mod csv;
mod html;
mod json;
mod markdown;
mod plot;
mod text;
mod words;

use std::io::{self, Write};

use crate::benchmark::Analysis;

pub use json::SCHEMA;

/// Output format of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchmarkFormat {
    /// Plain text for a terminal.
    Text,
    /// For programs; docs/benchmark.md describes every key.
    Json,
    /// One row per run and metric.
    Csv,
    /// For a pull request (CommonMark with GitHub's tables).
    Markdown,
    /// A page with box plots.
    Html,
}

/// Writes the analysis with a single call.
pub fn write(analysis: &Analysis, format: BenchmarkFormat, out: &mut dyn Write) -> io::Result<()> {
    let text = match format {
        BenchmarkFormat::Text => text::text(analysis),
        BenchmarkFormat::Json => json::text(analysis),
        BenchmarkFormat::Csv => csv::text(analysis)?,
        BenchmarkFormat::Markdown => markdown::text(analysis),
        BenchmarkFormat::Html => html::text(analysis),
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}
