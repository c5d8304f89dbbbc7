//! A comparison of runs as text, Markdown or JSON.

mod json;
mod markdown;
mod text;

use std::io::{self, Write};

use super::summary::text::command;
use super::summary::units::{bytes, count};
use crate::diff::{Change, ChangeKind, ComparedRun, Comparison, Measure, SubjectKind, ValueRange};

pub use json::SCHEMA;

/// Output format of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffFormat {
    /// Plain text for a terminal.
    Text,
    /// For a pull request (CommonMark with GitHub's tables).
    Markdown,
    /// For programs; docs/diff.md describes every key.
    Json,
}

/// Writes the comparison with a single call.
pub fn write(difference: &Comparison, format: DiffFormat, out: &mut dyn Write) -> io::Result<()> {
    let text = match format {
        DiffFormat::Text => text::text(difference),
        DiffFormat::Markdown => markdown::text(difference),
        DiffFormat::Json => json::text(difference),
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// `run 3f2a (curl -sS https://app.example/)`.
pub(in crate::format) fn side(side: &ComparedRun) -> String {
    match side.command.is_empty() {
        true => format!("capture {}", super::escape(&side.from)),
        false => format!("run {} ({})", super::escape(&side.from), command(&side.command)),
    }
}

/// `12.3 kB`, `9.10 kB to 12.3 kB`.
fn number(measure: &Measure, range: ValueRange) -> String {
    let one = |value| if measure.name.ends_with("_bytes") { bytes(value) } else { count(value) };
    if range.min == range.max { one(range.min) } else { format!("{} to {}", one(range.min), one(range.max)) }
}

/// The word for a measure.
fn word(measure: &Measure, kind: SubjectKind) -> &'static str {
    match (measure.name, kind) {
        ("sent_bytes", _) => "sent",
        ("received_bytes", _) => "received",
        ("times", SubjectKind::Names) => "queries",
        ("times", SubjectKind::Processes) => "processes",
        ("times", _) => "attempts",
        (name, _) => name,
    }
}

/// The values of a subject on one side: `sent 12.3 kB, connections 3`. Of a changed subject, those
/// that changed.
pub(in crate::format) fn values(change: &Change, pick: fn(&Measure) -> Option<ValueRange>) -> String {
    let value = |measure: &Measure| {
        let range = pick(measure)?;
        let matters = change.kind != ChangeKind::Changed || measure.is_changed;
        matters.then(|| format!("{} {}", word(measure, change.subject.kind()), number(measure, range)))
    };
    change.measures.iter().filter_map(value).collect::<Vec<_>>().join(", ")
}

/// The subject, and of a failure the programs: `tcp app.example:81: refused (curl)`.
pub(in crate::format) fn subject(change: &Change) -> String {
    let subject = change.subject.to_string();
    match change.programs.is_empty() {
        true => subject,
        false => format!("{subject} ({})", change.programs.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// `nothing differs: 3 endpoints, …` or `2 appeared, 1 vanished`.
pub(in crate::format) fn verdict(difference: &Comparison) -> String {
    let number = |how: ChangeKind| difference.changes.iter().filter(|change| change.kind == how).count();
    let parts: Vec<String> = ChangeKind::ALL
        .into_iter()
        .filter(|how| number(*how) > 0)
        .map(|how| format!("{} {}", count(number(how) as u64), how.name()))
        .collect();
    if !parts.is_empty() {
        return parts.join(", ");
    }
    let compared: Vec<String> = difference
        .compared
        .iter()
        .map(|(kind, many)| format!("{} {}", count(*many as u64), noun(*kind, *many)))
        .collect();
    format!("nothing differs: {}", compared.join(", "))
}

fn noun(kind: SubjectKind, many: usize) -> &'static str {
    match (kind, many) {
        (SubjectKind::Endpoints, 1) => "endpoint",
        (SubjectKind::Ports, 1) => "port",
        (SubjectKind::Protocols, 1) => "protocol",
        (SubjectKind::Names, 1) => "name",
        (SubjectKind::Processes, 1) => "process",
        (SubjectKind::Failures, 1) => "failure",
        (kind, _) => kind.name(),
    }
}

/// Gaps of the runs, and what was not compared, a sentence each.
pub(in crate::format) fn notes(difference: &Comparison) -> Vec<String> {
    let of = |name: &'static str, sides: &[ComparedRun]| -> Vec<String> {
        let gaps =
            |side: &ComparedRun| side.gaps.iter().map(|gap| format!("{name} {}: {gap}", side.from)).collect::<Vec<_>>();
        sides.iter().flat_map(gaps).collect()
    };
    let mut notes = [of("old", &difference.old), of("new", &difference.new)].concat();
    notes.extend(difference.notes.iter().cloned());
    notes
}

/// The threshold in words.
pub(in crate::format) fn threshold(difference: &Comparison) -> String {
    let options = &difference.options;
    format!(
        "numbers differ when they are more than {} times apart, and by at least {} or {} in count",
        options.factor,
        bytes(options.min_bytes),
        count(options.min_count)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_counted_in_queries_as_in_the_summary() {
        let measure = |name| Measure { name, old: None, new: None, is_changed: false };
        assert_eq!(word(&measure("times"), SubjectKind::Names), "queries");
        assert_eq!(word(&measure("times"), SubjectKind::Failures), "attempts");
    }
}
