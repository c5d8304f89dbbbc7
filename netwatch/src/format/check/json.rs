//! A verdict as JSON. docs/check.md describes every key.

use std::net::IpAddr;

use serde::Serialize;

use super::{CheckedPolicy, words};
use crate::allow::{AllowRule, CheckedRun, EvidentName, Violation};
use crate::format::json::escaped;
use crate::format::rfc3339;

/// Version of the keys. It rises when a key is renamed, removed or changes its meaning.
pub const SCHEMA: u32 = 1;

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let rules = |indexes: &[usize]| checked.rules(indexes).map(json_rule).collect();
    escaped::to_text(&JsonVerdict {
        schema: SCHEMA,
        passed: !verdict.fails(),
        policy: checked.file,
        runs: verdict.runs.iter().map(json_run).collect(),
        checked: JsonExtent { connections: verdict.checked, lookups: verdict.lookups, rules: checked.list.rules.len() },
        violations: verdict.violations.iter().map(|violation| json_violation(checked, violation)).collect(),
        uncertain: &verdict.uncertain,
        uncertain_allowed: verdict.allows_uncertain,
        expired_rules: rules(&verdict.expired),
        unused_rules: rules(&verdict.unused),
        notes: &verdict.notes,
    })
}

#[derive(Serialize)]
struct JsonVerdict<'a> {
    schema: u32,
    passed: bool,
    policy: &'a str,
    runs: Vec<JsonCheckedRun<'a>>,
    checked: JsonExtent,
    violations: Vec<JsonViolation<'a>>,
    uncertain: &'a [String],
    uncertain_allowed: bool,
    expired_rules: Vec<JsonRule>,
    unused_rules: Vec<JsonRule>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct JsonCheckedRun<'a> {
    id: &'a str,
    programs: &'a [String],
    started: String,
}

#[derive(Serialize)]
struct JsonExtent {
    connections: usize,
    lookups: usize,
    rules: usize,
}

#[derive(Serialize)]
struct JsonRule {
    line: usize,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Serialize)]
struct JsonViolation<'a> {
    direction: &'static str,
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    remote: &'a str,
    addresses: Vec<IpAddr>,
    names: Vec<JsonEvidentName<'a>>,
    programs: Vec<&'a str>,
    count: u64,
    only_failed: bool,
    run_ids: Vec<&'a str>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_rule: Option<JsonRule>,
    add: &'a str,
}

#[derive(Serialize)]
struct JsonEvidentName<'a> {
    name: &'a str,
    source: &'static str,
}

fn json_run(run: &CheckedRun) -> JsonCheckedRun<'_> {
    JsonCheckedRun { id: &run.id, programs: &run.programs, started: rfc3339(run.started_ns) }
}

fn json_rule(rule: &AllowRule) -> JsonRule {
    JsonRule {
        line: rule.line,
        rule: rule.to_string(),
        why: rule.why.clone(),
        until: rule.until.map(|until| until.to_string()),
    }
}

fn json_violation<'a>(checked: &CheckedPolicy<'_>, violation: &'a Violation) -> JsonViolation<'a> {
    let nearest = violation.nearest.as_ref().and_then(|nearest| checked.list.rules.get(nearest.rule));
    JsonViolation {
        direction: violation.direction.of_flow(),
        protocol: &violation.protocol,
        port: violation.port,
        remote: &violation.remote,
        addresses: violation.addresses.iter().copied().collect(),
        names: violation.asked.iter().chain(&violation.claimed).map(json_name).collect(),
        programs: violation.programs.iter().map(String::as_str).collect(),
        count: violation.count,
        only_failed: violation.only_failed,
        run_ids: violation.runs.iter().map(String::as_str).collect(),
        reason: words::reason(violation),
        nearest_rule: nearest.map(json_rule),
        add: &violation.add,
    }
}

fn json_name(known: &EvidentName) -> JsonEvidentName<'_> {
    JsonEvidentName { name: known.name.as_str(), source: known.source.name() }
}
