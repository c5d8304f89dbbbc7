//! Failed attempts: the name that the program looked up, the service, how it failed, and the
//! program.

use std::collections::BTreeMap;

use super::line::{Line, Style};
use super::text::{cut, width as width_of, wrap};
use super::units::count;
use crate::format::escape;
use crate::process::AttemptTarget;
use crate::report::{Failure, Report};

/// Rows listed; further ones are counted.
const MAX_ROWS: usize = 10;
/// Before each row, and between its columns.
const INDENT: &str = "  ";
const GAP: &str = "   ";
/// Names up to this width, that of an IPv4 address, are always in their row.
const MIN_NAME: usize = 15;

/// Attempts with the same row, in the order of their first time.
type FailedRows = Vec<([String; 4], u64)>;

/// The block with its title; nothing if nothing failed.
pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    let rows = rows(report);
    if rows.is_empty() {
        return Vec::new();
    }
    let cells: Vec<[String; 4]> = rows.iter().take(MAX_ROWS).map(|(row, times)| with_times(row, *times)).collect();
    let mut lines = vec![Line::new(Style::Bad, "FAILED")];
    lines.extend(table(cells, width));
    if rows.len() > MAX_ROWS {
        lines.push(Line::new(Style::Plain, format!("  and {} more", count((rows.len() - MAX_ROWS) as u64))));
    }
    lines.push(Line::default());
    lines
}

/// The rows. A long name does not move the other columns out of sight.
fn table(cells: Vec<[String; 4]>, width: usize) -> Vec<Line> {
    let column = |at: usize| cells.iter().map(|row| width_of(&row[at])).max().unwrap_or(0);
    let others = [column(1), column(2), column(3)];
    let room = width.saturating_sub(INDENT.len() + GAP.len() * others.len() + others.iter().sum::<usize>());
    let room = room.max(MIN_NAME);
    let name = cells.iter().map(|row| width_of(&row[0])).filter(|name| *name <= room).max().unwrap_or(0);
    let widths = [name, others[0], others[1]];
    cells.into_iter().flat_map(|row| row_lines(row, widths, width)).collect()
}

/// A row; a name that is wider than its column has lines of its own above, as in the table of
/// hosts.
fn row_lines(mut row: [String; 4], widths: [usize; 3], width: usize) -> Vec<Line> {
    let line = |text: &str| Line::new(Style::Plain, cut(&format!("{INDENT}{}", text.trim_end()), width));
    let mut lines = Vec::new();
    if width_of(&row[0]) > widths[0] {
        let name = std::mem::take(&mut row[0]);
        lines.extend(wrap(&name, width.saturating_sub(INDENT.len())).iter().map(|part| line(part)));
    }
    let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
    lines.push(line(&format!("{}{GAP}{}", padded.join(GAP), row[3])));
    lines
}

/// Number of failures, without those on local sockets.
pub(in crate::format) fn number(report: &Report) -> u64 {
    report.failures().iter().map(|failure| failure.count).sum()
}

fn rows(report: &Report) -> FailedRows {
    let mut rows: FailedRows = Vec::new();
    let mut places: BTreeMap<[String; 4], usize> = BTreeMap::new();
    for failure in report.failures() {
        let row = row(report, &failure);
        let place = *places.entry(row).or_insert_with_key(|row| {
            rows.push((row.clone(), 0));
            rows.len() - 1
        });
        rows[place].1 += failure.count;
    }
    rows
}

fn row(report: &Report, failure: &Failure<'_>) -> [String; 4] {
    let attempt = failure.attempt;
    let address = match &attempt.target {
        AttemptTarget::Address(end) => end.ip().to_string(),
        AttemptTarget::Name(name, _) => name.clone(),
        AttemptTarget::LocalSocket(path) => path.clone(),
    };
    let target = failure.name.map_or(address, str::to_owned);
    let service = match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Name(..), _) => "DNS".to_owned(),
        (AttemptTarget::Address(end), Some(protocol)) if protocol.has_ports() => format!("{protocol}/{}", end.port()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_hides_no_cause() {
        let long = format!("{}.example", "a".repeat(102));
        let row = |name: &str, cause: &str| [name, "DNS", cause, "curl"].map(str::to_owned);
        let cells = vec![row("app.example", "NXDOMAIN"), row(&long, "NXDOMAIN (2×)")];
        let text = |width| {
            table(cells.clone(), width).iter().map(|line| line.paint(false).trim_end().to_owned()).collect::<Vec<_>>()
        };
        let below = "                DNS   NXDOMAIN (2×)   curl";
        let short = "  app.example   DNS   NXDOMAIN        curl";
        let (start, end) = long.split_at(78);
        assert_eq!(text(80), [short.to_owned(), format!("  {start}"), format!("  {end}"), below.to_owned()]);
        assert_eq!(text(200)[1], format!("  {long}   DNS   NXDOMAIN (2×)   curl"));
        assert!(text(30).iter().all(|line| width_of(line) <= 30));
    }
}
