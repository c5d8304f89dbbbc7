//! The table of failures: failed attempts that packets show, those that failed before a packet was
//! sent, and failed DNS lookups.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Cell, Column, SharedNames};
use crate::dashboard::model::{LiveEndpoint, Model, RemoteKey};
use crate::dashboard::update::{AttemptFacts, DNS, FlowUpdate};
use crate::process::AttemptCause;
use crate::wire::port;

pub const COLUMNS: &[Column] = &[
    Column::text("TARGET", 0, 0),
    Column::text("SERVICE", 9, 0),
    Column::text("CAUSE", 20, 0),
    Column::number("COUNT", 6, 0),
    Column::text("PROCESS", 18, 100),
    Column::number("LAST", 8, 0),
];
/// The last ones first.
pub const DEFAULT_SORT: (usize, bool) = (5, false);

/// Packets are counted a moment before or after they are read for names.
const CLOCK_SLACK_NS: u64 = 10_000_000;

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRow {
    target: String,
    service: String,
    cause: String,
    count: u64,
    process: Option<u32>,
    /// `None` if only the first time is known.
    last_ns: Option<u64>,
    pub endpoint: Option<RemoteKey>,
}

pub fn failures(model: &Model, shared: &SharedNames<'_>) -> Vec<FailureRow> {
    // What remotes attempted is not a failure of the command.
    let has_failed = |(key, endpoint): &(&RemoteKey, &LiveEndpoint)| key.out && endpoint.failed > 0;
    let endpoints = model.endpoints.iter().filter(has_failed).map(|(key, endpoint)| FailureRow {
        target: shared.remote(endpoint, key),
        service: key.service(),
        cause: endpoint.causes.clone(),
        count: endpoint.failed,
        process: endpoint.processes.first().copied(),
        last_ns: Some(endpoint.last_ns),
        endpoint: Some(*key),
    });
    let attempts = model.attempts.iter().map(|attempt| FailureRow {
        target: name_of(model, attempt),
        service: attempt.service.clone(),
        cause: attempt.cause.clone(),
        count: attempt.count,
        process: attempt.process,
        last_ns: Some(attempt.last_ns),
        endpoint: None,
    });
    let mut failures: Vec<FailureRow> = endpoints.chain(attempts).chain(lookups(model)).collect();
    failures.sort_by(|a, b| (&a.target, &a.service, &a.cause).cmp(&(&b.target, &b.service, &b.cause)));
    failures
}

/// One row for the queries of a name for several record types.
fn lookups(model: &Model) -> impl Iterator<Item = FailureRow> {
    let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let mut times: HashMap<&str, Vec<u64>> = HashMap::new();
    for lookup in model.lookups.values().filter(|lookup| lookup.facts.is_own) {
        times.entry(&lookup.facts.name).or_default().push(lookup.facts.first_ns);
        let unanswered = lookup.unanswered(model.now.time_ns);
        let errors = lookup.facts.errors.iter().map(|(code, count)| (code.to_uppercase(), *count));
        for (cause, count) in errors.chain((unanswered > 0).then(|| (AttemptCause::TIMEOUT.to_owned(), unanswered))) {
            let most = counts.entry((&lookup.facts.name, cause)).or_default();
            *most = count.max(*most);
        }
    }
    let flows = model.flows.values().map(|flow| &flow.facts);
    let to_servers: Vec<&FlowUpdate> = flows.filter(|flow| flow.out && flow.remote.port() == port::DNS).collect();
    counts.into_iter().map(move |((name, cause), count)| FailureRow {
        target: name.to_owned(),
        service: DNS.to_owned(),
        cause,
        count,
        process: querier(&to_servers, times.get(name).map_or(&[], Vec::as_slice)),
        last_ns: None,
        endpoint: None,
    })
}

/// The process that sent the queries of these times: that of the connections to DNS servers then,
/// if it is only one.
fn querier(to_servers: &[&FlowUpdate], times: &[u64]) -> Option<u32> {
    let queried = |flow: &&&FlowUpdate| {
        let first_ns = flow.first_ns.saturating_sub(CLOCK_SLACK_NS);
        times.iter().any(|time| (first_ns..=flow.last_ns.saturating_add(CLOCK_SLACK_NS)).contains(time))
    };
    let flows = to_servers.iter().filter(queried);
    let processes: BTreeSet<u32> = flows.filter_map(|flow| Some(flow.processes.first()?.0)).collect();
    if processes.len() == 1 { processes.first().copied() } else { None }
}

/// The name that the program looked up last before the attempt, else the address.
fn name_of(model: &Model, attempt: &AttemptFacts) -> String {
    let lookups = model.lookups.values().map(|lookup| &lookup.facts);
    let led_there = lookups
        .filter(|facts| facts.is_own && facts.first_ns <= attempt.last_ns && facts.addresses.contains(&attempt.target));
    led_there.max_by_key(|facts| facts.first_ns).map_or_else(|| attempt.target.clone(), |facts| facts.name.clone())
}

pub fn cell(model: &Model, failure: &FailureRow, column: usize) -> Cell {
    match column {
        0 => Cell::Text(failure.target.clone()),
        1 => Cell::Text(failure.service.clone()),
        2 => Cell::Text(failure.cause.clone()),
        3 => Cell::Count(failure.count),
        4 => Cell::Text(failure.process.map(|number| model.process_label(number)).unwrap_or_default()),
        _ => Cell::time(failure.last_ns.map(|last_ns| model.now.time_ns.saturating_sub(last_ns))),
    }
}
