//! Failed attempts: the name that the program looked up, the service, how it failed, and the
//! program.

use std::collections::BTreeMap;

use super::line::{Line, Style};
use super::text::{cut, width as width_of};
use super::units::count;
use crate::format::escape;
use crate::process::{Attempt, AttemptTarget};
use crate::report::{AttemptNames, Failure, Report};

/// Rows listed; further ones are counted.
const MAX_ROWS: usize = 10;

/// Attempts with the same row, in the order of their first time.
type FailedRows = Vec<([String; 4], u64)>;

/// The block with its title; nothing if nothing failed.
pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    let rows = rows(report);
    if rows.is_empty() {
        return Vec::new();
    }
    let cells: Vec<[String; 4]> = rows.iter().take(MAX_ROWS).map(|(row, times)| with_times(row, *times)).collect();
    let column = |at: usize| cells.iter().map(|row| width_of(&row[at])).max().unwrap_or(0);
    let widths = [column(0), column(1), column(2)];
    let mut lines = vec![Line::new(Style::Bad, "FAILED")];
    for row in &cells {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        let text = format!("  {}   {}", padded.join("   "), row[3]);
        lines.push(Line::new(Style::Plain, cut(text.trim_end(), width)));
    }
    if rows.len() > MAX_ROWS {
        lines.push(Line::new(Style::Plain, format!("  and {} more", count((rows.len() - MAX_ROWS) as u64))));
    }
    lines.push(Line::default());
    lines
}

/// Number of failures, without those on local sockets.
pub(in crate::format) fn number(report: &Report) -> u64 {
    report.failures().iter().map(|failure| failure.count).sum()
}

fn rows(report: &Report) -> FailedRows {
    let names = AttemptNames::of(report);
    let mut rows: FailedRows = Vec::new();
    let mut places: BTreeMap<[String; 4], usize> = BTreeMap::new();
    for Failure { attempt, count } in report.failures() {
        let row = row(report, &names, attempt);
        let place = *places.entry(row).or_insert_with_key(|row| {
            rows.push((row.clone(), 0));
            rows.len() - 1
        });
        rows[place].1 += count;
    }
    rows
}

fn row(report: &Report, names: &AttemptNames<'_>, attempt: &Attempt) -> [String; 4] {
    let address = match &attempt.target {
        AttemptTarget::Address(end) => end.ip().to_string(),
        AttemptTarget::Name(name, _) => name.clone(),
        AttemptTarget::LocalSocket(path) => path.clone(),
    };
    let target = names.name(attempt).map_or(address, str::to_owned);
    let service = match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Name(..), _) => "DNS".to_owned(),
        (AttemptTarget::Address(end), Some(protocol)) if end.port() > 0 => format!("{protocol}/{}", end.port()),
        (_, Some(protocol)) => protocol.to_string(),
        (AttemptTarget::Address(end), None) => format!("port {}", end.port()),
        (AttemptTarget::LocalSocket(_), None) => String::new(),
    };
    let program = attempt.process.and_then(|id| report.processes.get(id)).map(|process| process.program());
    // The cause may be from a recording, which is untrusted.
    let cause = escape(&attempt.cause.word()).into_owned();
    [escape(&target).into_owned(), service, cause, escape(program.unwrap_or_default()).into_owned()]
}

fn with_times(row: &[String; 4], times: u64) -> [String; 4] {
    let [target, service, cause, program] = row.clone();
    let cause = if times > 1 { format!("{cause} ({}×)", count(times)) } else { cause };
    [target, service, cause, program]
}
