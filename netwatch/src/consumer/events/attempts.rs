//! Failed attempts of which no flow has an event: calls that failed before a packet was sent, and
//! lookups. Sessions send all so far; this finds those that are new.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use super::queriers::LiveQueriers;
use crate::flow::{Direction, Protocol};
use crate::name::Lookup;
use crate::process::{Attempt, AttemptCause, AttemptTarget, ProcessId, ProcessNumber};
use crate::report::Report;
use crate::session::FlowRecord;
use crate::wire::Application;

/// Maximum number of remotes of which it is known that they answered by an ICMP error.
const MAX_REJECTED: usize = 1 << 16;

/// What attempts are added up by. Lookups have no process here: a report may know another one.
type WrittenAttemptKey = (AttemptTarget, Option<Protocol>, AttemptCause, Option<ProcessNumber>);

/// How often an attempt was written.
#[derive(Debug, Default)]
struct WrittenCount {
    count: u64,
    /// The time of the last packet then.
    until_ns: u64,
}

/// How many attempts were written. There are as many sums as a session has.
#[derive(Debug, Default)]
pub(super) struct WrittenAttempts {
    counts: HashMap<WrittenAttemptKey, WrittenCount>,
    queriers: LiveQueriers,
    /// Destinations that answered flows by an ICMP error, and the processes that sent there.
    rejected: HashSet<(Protocol, SocketAddr, ProcessNumber)>,
    /// The time of the last packet so far: about that of a lookup that failed again.
    last_packet_ns: u64,
}

impl WrittenAttempts {
    /// Remembers what this flow explains.
    pub(super) fn note_flow(&mut self, record: &FlowRecord) {
        let flow = &record.flow;
        self.queriers.note_flow(record);
        self.last_packet_ns = self.last_packet_ns.max(flow.last_seen_ns);
        if flow.icmp_error.is_some() && self.rejected.len() < MAX_REJECTED {
            let remote = SocketAddr::new(flow.key.remote.addr, flow.key.remote.port);
            let of_user = |process| (Protocol(flow.key.protocol), remote, process);
            self.rejected.extend(record.usages.iter().map(|usage| of_user(usage.process)));
        }
    }

    /// The new ones of all calls that failed so far. Processes are named by their number.
    pub(super) fn new_calls(&mut self, all: &[Attempt]) -> Vec<Attempt> {
        let calls = all.iter().filter(|call| call.target.is_remote());
        let calls: Vec<_> = calls.map(|call| (call, call.process.map(|number| number.0))).collect();
        let is_explained = |call: &Attempt, process: Option<ProcessNumber>| match (&call.target, call.protocol, process)
        {
            (AttemptTarget::Address(remote), Some(protocol), Some(process)) => {
                call.cause.name() == "no_route" && self.rejected.contains(&(protocol, *remote, process))
            }
            _ => false,
        };
        let calls = calls.into_iter().filter(|(call, process)| !is_explained(call, *process)).collect();
        self.added(calls)
    }

    /// The new ones of a lookup: responses with an error. Queries may still be answered. Processes
    /// are named by their number.
    pub(super) fn new_of_lookup(&mut self, lookup: &Lookup) -> Vec<Attempt> {
        if lookup.queried_by != Direction::Egress || lookup.application != Application::Dns {
            return Vec::new();
        }
        let first_ns = lookup.first_seen_ns;
        let failed: Vec<_> = lookup
            .errors()
            .map(|(code, count, packets)| Attempt {
                first_ns,
                last_ns: first_ns,
                count,
                packets,
                target: AttemptTarget::Name(lookup.question.name.to_string(), lookup.question.kind.to_string()),
                protocol: None,
                cause: AttemptCause::of_lookup(code.to_string().to_ascii_lowercase()),
                process: None,
            })
            .map(|attempt| Attempt { process: self.querier(lookup, &attempt).map(ProcessId), ..attempt })
            .collect();
        self.added(failed.iter().map(|attempt| (attempt, None)).collect())
    }

    /// The process of a lookup that failed: that of all flows to servers at the time of the only
    /// query, or since the first one, or since it failed before.
    fn querier(&self, lookup: &Lookup, failed: &Attempt) -> Option<ProcessNumber> {
        let first_ns = lookup.first_seen_ns;
        match self.counts.get(&written_key(failed, None)) {
            Some(before) => self.queriers.only(before.until_ns..=u64::MAX),
            None if lookup.queries <= 1 => self.queriers.only(first_ns..=first_ns),
            None => self.queriers.only(first_ns..=u64::MAX),
        }
    }

    /// The new ones of a final report.
    pub(super) fn new_of_report(&mut self, report: &Report) -> Vec<Attempt> {
        let is_of_flow = |attempt: &Attempt| {
            use AttemptCause::{Icmp, Refused, Reset, Timeout};
            matches!(attempt.cause, Timeout | Refused | Reset | Icmp(_))
        };
        let attempts = report.attempts.iter().filter(|attempt| attempt.target.is_remote() && !is_of_flow(attempt));
        let number = |attempt: &Attempt| {
            let process = attempt.process.and_then(|id| report.processes.get(id));
            process.filter(|_| !matches!(attempt.target, AttemptTarget::Name(..))).map(|process| process.number)
        };
        self.added(attempts.map(|attempt| (attempt, number(attempt))).collect())
    }

    /// The attempts that exceed those that were written, in the order of their time.
    fn added(&mut self, attempts: Vec<(&Attempt, Option<ProcessNumber>)>) -> Vec<Attempt> {
        let mut sums: BTreeMap<WrittenAttemptKey, Attempt> = BTreeMap::new();
        for (attempt, process) in attempts {
            let sum =
                sums.entry(written_key(attempt, process)).or_insert_with(|| Attempt { count: 0, ..attempt.clone() });
            sum.count += attempt.count;
            sum.last_ns = sum.last_ns.max(attempt.last_ns);
        }
        let mut new = Vec::new();
        for (key, sum) in sums {
            let is_lookup = matches!(key.0, AttemptTarget::Name(..));
            let written = self.counts.entry(key).or_default();
            if sum.count > written.count {
                // Of lookups, only the first time is known.
                let is_again = is_lookup && written.count > 0;
                let last_ns = if is_again { sum.last_ns.max(self.last_packet_ns) } else { sum.last_ns };
                new.push(Attempt { count: sum.count - written.count, last_ns, ..sum });
                *written = WrittenCount { count: sum.count, until_ns: self.last_packet_ns };
            }
        }
        new.sort_by_key(|attempt| attempt.last_ns);
        new
    }
}

fn written_key(attempt: &Attempt, process: Option<ProcessNumber>) -> WrittenAttemptKey {
    (attempt.target.clone(), attempt.protocol, attempt.cause.clone(), process)
}
