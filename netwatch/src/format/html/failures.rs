//! Failed attempts, each with its cause and what to do about it.

use std::collections::BTreeMap;

use super::remedy::remedy;
use super::table::{ColumnKind, HtmlCell, HtmlTable, column, detail};
use super::tables::{listed, start_ns};
use crate::format::words;
use crate::process::{Attempt, AttemptTarget};
use crate::report::{Failure, Report};

/// Attempts with the same target, service, cause and program.
struct FailureGroup<'a> {
    target: String,
    service: String,
    cause: String,
    program: String,
    failures: Vec<Failure<'a>>,
    count: u64,
}

/// In the order of their first attempt.
fn groups(report: &Report) -> Vec<FailureGroup<'_>> {
    let mut groups: Vec<FailureGroup<'_>> = Vec::new();
    let mut places: BTreeMap<[String; 4], usize> = BTreeMap::new();
    for failure in report.failures() {
        let attempt = failure.attempt;
        let program = attempt.process.and_then(|id| report.processes.get(id)).map(|process| process.program());
        let [target, service] = [target(&failure), service(attempt)];
        let (cause, program) = (attempt.cause.word(), program.unwrap_or_default().to_owned());
        let key = [target.clone(), service.clone(), cause.clone(), program.clone()];
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(FailureGroup { target, service, cause, program, failures: Vec::new(), count: 0 });
            groups.len() - 1
        });
        groups[place].count += failure.count;
        groups[place].failures.push(failure);
    }
    groups
}

/// The name that the program looked up, otherwise the address.
fn target(failure: &Failure<'_>) -> String {
    match (&failure.attempt.target, failure.name) {
        (AttemptTarget::Address(_), Some(name)) => name.to_owned(),
        (AttemptTarget::Address(end), None) => end.ip().to_string(),
        (AttemptTarget::Name(name, _), _) => name.clone(),
        (AttemptTarget::LocalSocket(path), _) => path.clone(),
    }
}

fn service(attempt: &Attempt) -> String {
    match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Name(..), _) => "DNS".to_owned(),
        (AttemptTarget::Address(end), Some(protocol)) if protocol.has_ports() => format!("{protocol}/{}", end.port()),
        (_, Some(protocol)) => protocol.to_string(),
        (AttemptTarget::Address(end), None) => format!("port {}", end.port()),
        (AttemptTarget::LocalSocket(_), None) => String::new(),
    }
}

/// `app.example tcp/443: refused`, one for each row of the table.
pub(super) fn targets(report: &Report) -> Vec<String> {
    groups(report).iter().map(|group| format!("{} {}: {}", group.target, group.service, group.cause)).collect()
}

/// Whether anything failed.
pub(super) fn has_any(report: &Report) -> bool {
    !report.failures().is_empty()
}

/// The failures.
pub(super) fn table(report: &Report) -> HtmlTable {
    HtmlTable {
        id: "failures-table",
        caption: "Failures",
        columns: vec![
            column("Target", ColumnKind::Text, "the name that the program looked up, or the address"),
            column("Port", ColumnKind::Code, "protocol and port"),
            column("Cause", ColumnKind::Bad, ""),
            column("What to do", ColumnKind::Prose, ""),
            column("Attempts", ColumnKind::Count, ""),
            column("Program", ColumnKind::Text, ""),
            column("First", ColumnKind::At, "since the start of the run"),
            detail("Last", ColumnKind::At, "since the start of the run"),
            detail("Addresses", ColumnKind::Code, ""),
            detail("Details", ColumnKind::Text, ""),
        ],
        rows: groups(report).iter().map(|group| row(report, group)).collect(),
        empty: "Nothing failed.",
        ..HtmlTable::default()
    }
}

fn row(report: &Report, group: &FailureGroup<'_>) -> Vec<HtmlCell> {
    let start_ns = start_ns(report);
    let FailureGroup { target, service, cause, program, failures, count } = group;
    let addresses: Vec<String> = failures
        .iter()
        .filter_map(|failure| match &failure.attempt.target {
            AttemptTarget::Address(end) => Some(end.to_string()),
            AttemptTarget::Name(..) | AttemptTarget::LocalSocket(_) => None,
        })
        .collect();
    let mut causes: Vec<String> = failures.iter().map(words::cause).collect();
    causes.dedup();
    let first = failures.iter().map(|failure| failure.first_ns).min().unwrap_or_default();
    let last = failures.iter().map(|failure| failure.last_ns).max().unwrap_or_default();
    vec![
        HtmlCell::text(target),
        HtmlCell::text(service),
        HtmlCell::text(cause),
        HtmlCell::text(failures.first().map(|failure| remedy(report, failure.attempt)).unwrap_or_default()),
        HtmlCell::Number(*count),
        HtmlCell::text(program),
        HtmlCell::Number(first.saturating_sub(start_ns)),
        HtmlCell::Number(last.saturating_sub(start_ns)),
        HtmlCell::text(listed(addresses.iter().map(String::as_str))),
        HtmlCell::text(listed(causes.iter().map(String::as_str))),
    ]
}
