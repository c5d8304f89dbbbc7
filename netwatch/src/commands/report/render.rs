//! Renders runs in a report format.

use std::io;

use super::page::PageContext;
use crate::commands::load::LoadedRun;
use crate::error::{Error, Result};
use crate::format::{csv, json, markdown, summary};
use crate::policy;
use crate::report::Report;
use crate::settings::{ReportFormat, ReportSettings};

/// The whole report. `options` are for text, `context` is for a page.
pub(super) fn render(
    settings: &ReportSettings,
    runs: &[LoadedRun],
    options: &summary::SummaryOptions,
    context: &PageContext,
) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let (format, rules) = (settings.format, &settings.rules);
    let written = match format {
        ReportFormat::Rules(format) => {
            let reports: Vec<&Report> = runs.iter().map(|run| &run.report).collect();
            policy::write(format, &reports, rules, &mut text)
        }
        ReportFormat::Html => runs.iter().try_for_each(|run| context.write(run, rules, &mut text)),
        _ => write_each(format, runs, options, &mut text),
    };
    written.map_err(|error| Error::os("write", format.name(), error))?;
    Ok(text)
}

fn write_each(
    format: ReportFormat,
    runs: &[LoadedRun],
    options: &summary::SummaryOptions,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    if format == ReportFormat::Csv {
        csv::write_header(out)?;
    }
    for (index, LoadedRun { report }) in runs.iter().enumerate() {
        if index > 0 && matches!(format, ReportFormat::Text | ReportFormat::Markdown) {
            out.push(b'\n');
        }
        match format {
            ReportFormat::Text => summary::write(report, options, out)?,
            ReportFormat::Json => json::write(report, out)?,
            ReportFormat::Ndjson => json::lines::write(report, out)?,
            ReportFormat::Csv => csv::write(report, out)?,
            ReportFormat::Markdown => markdown::write(report, out)?,
            // Firewall rules are one document for all runs, and a page needs more than a run.
            ReportFormat::Html | ReportFormat::Rules(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
    }
    Ok(())
}
