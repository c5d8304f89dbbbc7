//! A comparison as JSON. docs/diff.md describes every key.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::notes;
use crate::diff::{Change, ComparedPort, ComparedRun, Comparison, Measure, Subject, ValueRange};
use crate::format::json::escaped;
use crate::format::rfc3339;

/// Version of the keys. It rises when a key is renamed, removed or changes its meaning.
pub const SCHEMA: u32 = 2;

pub(super) fn text(difference: &Comparison) -> String {
    escaped::to_text(&JsonComparison::from(difference))
}

#[derive(Serialize)]
struct JsonComparison<'a> {
    schema: u32,
    same: bool,
    old: Vec<JsonComparedRun<'a>>,
    new: Vec<JsonComparedRun<'a>>,
    threshold: JsonThreshold,
    compared: BTreeMap<&'static str, usize>,
    changes: Vec<JsonChange<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct JsonComparedRun<'a> {
    run_id: &'a str,
    command: &'a [String],
    started: String,
    complete: bool,
}

#[derive(Serialize)]
struct JsonThreshold {
    min_ratio: f64,
    min_bytes: u64,
    min_count: u64,
}

#[derive(Serialize)]
struct JsonChange<'a> {
    kind: &'static str,
    change: &'static str,
    #[serde(flatten)]
    subject: JsonSubject<'a>,
    /// Of a failure.
    #[serde(skip_serializing_if = "is_empty")]
    programs: &'a BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    measures: BTreeMap<&'static str, JsonMeasure>,
}

#[derive(Serialize)]
struct JsonMeasure {
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<JsonRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<JsonRange>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    changed: bool,
}

#[derive(Serialize)]
struct JsonRange {
    min: u64,
    max: u64,
}

/// The parts that identify a subject; which ones depends on its kind.
#[derive(Serialize, Default)]
struct JsonSubject<'a> {
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
    cause: Option<String>,
}

impl<'a> From<&'a Comparison> for JsonComparison<'a> {
    fn from(difference: &'a Comparison) -> Self {
        let options = &difference.options;
        Self {
            schema: SCHEMA,
            same: difference.is_same(),
            old: difference.old.iter().map(run).collect(),
            new: difference.new.iter().map(run).collect(),
            threshold: JsonThreshold {
                min_ratio: options.factor,
                min_bytes: options.min_bytes,
                min_count: options.min_count,
            },
            compared: difference.compared.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            changes: difference.changes.iter().map(entry).collect(),
            notes: notes(difference),
        }
    }
}

fn run(side: &ComparedRun) -> JsonComparedRun<'_> {
    let complete = side.gaps.is_empty();
    JsonComparedRun { run_id: &side.from, command: &side.command, started: rfc3339(side.started_ns), complete }
}

fn is_empty(programs: &&BTreeSet<String>) -> bool {
    programs.is_empty()
}

fn entry(change: &Change) -> JsonChange<'_> {
    JsonChange {
        kind: change.subject.kind().name(),
        change: change.kind.name(),
        subject: json_subject(&change.subject),
        programs: &change.programs,
        measures: change.measures.iter().map(|measure| (measure_key(measure), JsonMeasure::from(measure))).collect(),
    }
}

/// The name of a measure in the words of the report.
fn measure_key(measure: &Measure) -> &'static str {
    match measure.name {
        "sent_bytes" => "egress_wire_bytes",
        "received_bytes" => "ingress_wire_bytes",
        "times" => "count",
        name => name,
    }
}

impl From<&Measure> for JsonMeasure {
    fn from(measure: &Measure) -> Self {
        let range = |range: Option<ValueRange>| range.map(|ValueRange { min, max }| JsonRange { min, max });
        Self { old: range(measure.old), new: range(measure.new), changed: measure.is_changed }
    }
}

fn json_subject(subject: &Subject) -> JsonSubject<'_> {
    let number = |port: &ComparedPort| match port {
        ComparedPort::None => None,
        ComparedPort::Number(port) => Some((*port).into()),
        ComparedPort::Ephemeral => Some("ephemeral".into()),
    };
    let empty = JsonSubject::default();
    match subject {
        Subject::Endpoint { direction, protocol, port, remote } => JsonSubject {
            direction: Some(direction.of_flow()),
            protocol: Some(protocol.to_string()),
            port: number(port),
            remote: Some(remote),
            ..empty
        },
        Subject::Port { direction, protocol, port } => JsonSubject {
            direction: Some(direction.of_flow()),
            protocol: Some(protocol.to_string()),
            port: number(port),
            ..empty
        },
        Subject::Protocol { protocol, application } => {
            JsonSubject { protocol: Some(protocol.to_string()), application: application.as_deref(), ..empty }
        }
        Subject::Name(name) => JsonSubject { name: Some(name), ..empty },
        Subject::Process(program) => JsonSubject { program: Some(program), ..empty },
        Subject::Failure { target, protocol, cause } => JsonSubject {
            protocol: protocol.map(|protocol| protocol.to_string()),
            target: Some(target),
            // As the report has it: `no_route`, and of a lookup its response code.
            cause: Some(cause.to_lowercase().replace(' ', "_")),
            ..empty
        },
    }
}
