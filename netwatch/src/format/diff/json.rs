//! For programs: one JSON document.

use serde::Serialize;

use super::notes;
use crate::diff::{Change, ComparedPort, ComparedRun, Comparison, Measure, Subject, ValueRange};
use crate::format::json::escaped;
use crate::format::rfc3339;

/// Raised when a key changes its meaning or goes away; new keys may come at any time.
pub const SCHEMA: u32 = 1;

pub(super) fn text(difference: &Comparison) -> String {
    escaped::to_text(&Document::from(difference))
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    same: bool,
    old: Vec<Run<'a>>,
    new: Vec<Run<'a>>,
    threshold: Threshold,
    compared: serde_json::Map<String, serde_json::Value>,
    changes: Vec<Entry<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    command: &'a [String],
    started: String,
    complete: bool,
}

#[derive(Serialize)]
struct Threshold {
    factor: f64,
    min_bytes: u64,
    min_count: u64,
}

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    how: &'static str,
    #[serde(flatten)]
    subject: What<'a>,
    measures: serde_json::Map<String, serde_json::Value>,
}

/// The parts of a subject that it has.
#[derive(Serialize, Default)]
struct What<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

impl<'a> From<&'a Comparison> for Document<'a> {
    fn from(difference: &'a Comparison) -> Self {
        let options = &difference.options;
        Self {
            schema: SCHEMA,
            same: difference.is_same(),
            old: difference.old.iter().map(run).collect(),
            new: difference.new.iter().map(run).collect(),
            threshold: Threshold { factor: options.factor, min_bytes: options.min_bytes, min_count: options.min_count },
            compared: difference.compared.iter().map(|(kind, count)| (kind.name().into(), (*count).into())).collect(),
            changes: difference.changes.iter().map(entry).collect(),
            notes: notes(difference),
        }
    }
}

fn run(side: &ComparedRun) -> Run<'_> {
    let complete = side.gaps.is_empty();
    Run { run: &side.from, command: &side.command, started: rfc3339(side.started_ns), complete }
}

fn entry(change: &Change) -> Entry<'_> {
    Entry {
        kind: change.subject.kind().name(),
        how: change.kind.name(),
        subject: what(&change.subject),
        measures: change.measures.iter().map(|measure| (measure.name.into(), numbers(measure))).collect(),
    }
}

fn numbers(measure: &Measure) -> serde_json::Value {
    let range =
        |range: Option<ValueRange>| range.map(|ValueRange { min, max }| serde_json::json!({ "min": min, "max": max }));
    serde_json::json!({ "old": range(measure.old), "new": range(measure.new), "changed": measure.is_changed })
}

fn what(subject: &Subject) -> What<'_> {
    let number = |port: &ComparedPort| match port {
        ComparedPort::None => None,
        ComparedPort::Number(port) => Some((*port).into()),
        ComparedPort::Ephemeral => Some("ephemeral".into()),
    };
    let nothing = What::default();
    match subject {
        Subject::Endpoint { direction, protocol, port, remote } => What {
            direction: Some(direction.of_flow()),
            protocol: Some(protocol.to_string()),
            port: number(port),
            remote: Some(remote),
            ..nothing
        },
        Subject::Port { direction, protocol, port } => What {
            direction: Some(direction.of_flow()),
            protocol: Some(protocol.to_string()),
            port: number(port),
            ..nothing
        },
        Subject::Protocol { protocol, application } => {
            What { protocol: Some(protocol.to_string()), application: application.as_deref(), ..nothing }
        }
        Subject::Name(name) => What { name: Some(name), ..nothing },
        Subject::Process(program) => What { program: Some(program), ..nothing },
        Subject::Failure { target, protocol, cause } => What {
            protocol: protocol.map(|protocol| protocol.to_string()),
            target: Some(target),
            cause: Some(cause),
            ..nothing
        },
    }
}
