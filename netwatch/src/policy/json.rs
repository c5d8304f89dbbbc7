//! Required ports as one JSON document; docs/ports.md describes its keys.

use serde::Serialize;

use super::header;
use super::rows::{Row, rows};
use super::{Requirements, RuleOptions, SourceRun, UnresolvedName};
use crate::flow::Direction;
use crate::format::json::escaped;
use crate::format::rfc3339;

/// Version of the keys. It rises when a key is renamed, removed or changes its meaning.
const SCHEMA: u32 = 1;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let rows = rows(requirements, options);
    escaped::to_text(&JsonPorts {
        schema: SCHEMA,
        title: header::table_title(requirements),
        runs: requirements.sources.iter().map(JsonSource::from).collect(),
        ports: rows.iter().map(JsonRow::from).collect(),
        unresolved: requirements.unresolved.iter().map(JsonUnresolved::from).collect(),
        left_out: &requirements.left_out,
        incomplete: &requirements.gaps,
    })
}

#[derive(Serialize)]
struct JsonPorts<'a> {
    schema: u32,
    title: String,
    runs: Vec<JsonSource<'a>>,
    ports: Vec<JsonRow<'a>>,
    unresolved: Vec<JsonUnresolved<'a>>,
    left_out: &'a [String],
    incomplete: &'a [String],
}

#[derive(Serialize)]
struct JsonSource<'a> {
    id: &'a str,
    programs: &'a [String],
    started: String,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    direction: &'static str,
    protocols: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    port: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    purpose: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    purpose_evidence: &'static str,
    need: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    failures: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_attempts: Vec<JsonFailures>,
    programs: Vec<&'a str>,
    addresses: Vec<JsonAddress<'a>>,
}

#[derive(Serialize)]
struct JsonUnresolved<'a> {
    name: &'a str,
    responses: Vec<&'a str>,
    programs: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonFailures {
    cause: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct JsonAddress<'a> {
    address: &'a str,
    used: bool,
    attempted: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    failures: &'a str,
}

impl<'a> From<&'a UnresolvedName> for JsonUnresolved<'a> {
    fn from(unresolved: &'a UnresolvedName) -> Self {
        Self {
            name: &unresolved.name,
            responses: unresolved.responses.iter().map(String::as_str).collect(),
            programs: unresolved.programs.iter().map(String::as_str).collect(),
        }
    }
}

impl<'a> From<&'a SourceRun> for JsonSource<'a> {
    fn from(source: &'a SourceRun) -> Self {
        Self { id: &source.id, programs: &source.programs, started: rfc3339(source.started_ns) }
    }
}

impl<'a> From<&'a Row> for JsonRow<'a> {
    fn from(row: &'a Row) -> Self {
        let address = |address: &'a super::rows::RowAddress| JsonAddress {
            address: &address.address,
            used: address.is_used(),
            attempted: address.is_attempted(),
            failures: &address.failures,
        };
        Self {
            direction: if row.direction == Direction::Egress { "out" } else { "in" },
            protocols: row.protocol.split(", ").collect(),
            port: &row.port,
            name: &row.name,
            purpose: &row.purpose.label,
            purpose_evidence: row.purpose.evidence(),
            need: row.need(),
            failures: &row.failures,
            failed_attempts: row.causes.iter().map(|&(cause, count)| JsonFailures { cause, count }).collect(),
            programs: row.programs.iter().map(String::as_str).collect(),
            addresses: row.addresses.iter().map(address).collect(),
        }
    }
}
