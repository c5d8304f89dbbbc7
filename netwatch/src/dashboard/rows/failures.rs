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
    let led_to = led_to(model);
    let attempts = model.attempts.iter().map(|attempt| FailureRow {
        target: name_of(&led_to, attempt),
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
    for lookup in model.lookups.values().filter(|lookup| lookup.facts.is_own) {
        let unanswered = lookup.unanswered(model.now.time_ns);
        let errors = lookup.facts.errors.iter().map(|(code, count)| (code.to_uppercase(), *count));
        for (cause, count) in errors.chain((unanswered > 0).then(|| (AttemptCause::TIMEOUT.to_owned(), unanswered))) {
            let most = counts.entry((&lookup.facts.name, cause)).or_default();
            *most = count.max(*most);
        }
    }
    let queriers = queriers(model);
    counts.into_iter().map(move |((name, cause), count)| FailureRow {
        target: name.to_owned(),
        service: DNS.to_owned(),
        cause,
        count,
        process: queriers.get(name).filter(|of| of.len() == 1).and_then(|of| of.first().copied()),
        last_ns: None,
        endpoint: None,
    })
}

/// What happens at a moment; of several things at one, in this order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum QueryMoment<'a> {
    /// A connection of a process to a DNS server begins.
    Begin(u32),
    /// A name is queried.
    Query(&'a str),
    End(u32),
}

/// The processes that may have sent the queries of each name: those with a connection to a DNS
/// server then. Of several processes at a moment, only two are listed.
fn queriers(model: &Model) -> HashMap<&str, BTreeSet<u32>> {
    let to_servers = model.flows.values().map(|flow| &flow.facts);
    let to_servers = to_servers.filter(|flow| flow.out && flow.remote.port() == port::DNS);
    let of_flow = |flow: &FlowUpdate| {
        let process = flow.processes.first()?.0;
        let (first_ns, last_ns) = (flow.first_ns, flow.last_ns.saturating_add(CLOCK_SLACK_NS));
        Some([
            (first_ns.saturating_sub(CLOCK_SLACK_NS), QueryMoment::Begin(process)),
            (last_ns, QueryMoment::End(process)),
        ])
    };
    let mut moments: Vec<(u64, QueryMoment<'_>)> = to_servers.filter_map(of_flow).flatten().collect();
    let own = model.lookups.values().map(|lookup| &lookup.facts).filter(|facts| facts.is_own);
    moments.extend(own.map(|facts| (facts.first_ns, QueryMoment::Query(&facts.name))));
    moments.sort_unstable();
    let mut queriers: HashMap<&str, BTreeSet<u32>> = HashMap::new();
    // The number of connections of each process.
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (_, moment) in moments {
        match moment {
            QueryMoment::Begin(process) => *open.entry(process).or_default() += 1,
            QueryMoment::Query(name) => queriers.entry(name).or_default().extend(open.keys().take(2)),
            QueryMoment::End(process) => {
                let count = open.entry(process).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    open.remove(&process);
                }
            }
        }
    }
    queriers
}

/// The names that the program looked up, with the times, by the addresses of failed attempts.
fn led_to(model: &Model) -> HashMap<&str, Vec<(u64, &str)>> {
    let mut names: HashMap<&str, Vec<(u64, &str)>> =
        model.attempts.iter().map(|attempt| (&*attempt.target, Vec::new())).collect();
    if names.is_empty() {
        return names;
    }
    for facts in model.lookups.values().map(|lookup| &lookup.facts).filter(|facts| facts.is_own) {
        for address in &facts.addresses {
            if let Some(names) = names.get_mut(&**address) {
                names.push((facts.first_ns, &*facts.name));
            }
        }
    }
    names.values_mut().for_each(|names| names.sort_by_key(|(first_ns, _)| *first_ns));
    names
}

/// The name that the program looked up last before the attempt, else the address.
fn name_of(led_to: &HashMap<&str, Vec<(u64, &str)>>, attempt: &AttemptFacts) -> String {
    let names = led_to.get(&*attempt.target).map_or(&[][..], Vec::as_slice);
    let before = names.partition_point(|(first_ns, _)| *first_ns <= attempt.last_ns);
    names[..before].last().map_or_else(|| attempt.target.clone(), |(_, name)| (*name).to_owned())
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
