//! Failed attempts from all sources: failed calls, packets, and DNS.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use super::model::ReportFlow;
use crate::flow::{Direction, Flow, FlowKey, Protocol};
use crate::name::{Lookup, QueryFlows};
use crate::process::{Attempt, AttemptCause, AttemptTarget, ProcessId, Processes};
use crate::wire::port;

/// What attempts are added up by.
pub(super) type AttemptKey = (AttemptTarget, Option<Protocol>, AttemptCause, Option<ProcessId>);

/// Lookups, and the flows of their queries.
#[derive(Debug)]
pub(super) struct Queries<'a> {
    pub lookups: &'a [Lookup],
    /// The flows of each lookup; empty if they are not known.
    pub flows: &'a [QueryFlows],
    /// Whether no flow of the session was folded.
    pub are_all_flows_listed: bool,
    /// The processes of the report.
    pub processes: &'a Processes,
}

/// Adds up attempts by target, protocol, cause and process, in the order of their first time.
pub(super) fn all(
    calls: impl Iterator<Item = Attempt>,
    folded: impl Iterator<Item = Attempt>,
    link: &[ReportFlow],
    loopback: &[ReportFlow],
    queries: &Queries<'_>,
) -> Vec<Attempt> {
    let mut sums: BTreeMap<AttemptKey, Attempt> = BTreeMap::new();
    let of_flows = link.iter().chain(loopback).flat_map(of_flow);
    let queriers = Queriers::of(link.iter().chain(loopback), queries.processes, queries.are_all_flows_listed);
    let flows_of = queries.flows.iter().map(Some).chain(std::iter::repeat(None));
    let of_lookups = queries
        .lookups
        .iter()
        .zip(flows_of)
        .flat_map(|(lookup, flows)| of_lookup(lookup, queriers.process(lookup.first_seen_ns, flows)));
    let rejected = rejected_by_icmp(link.iter().chain(loopback));
    let calls = calls.filter(|call| !is_listed_with_flow(call, &rejected));
    for attempt in calls.chain(of_flows).chain(folded).chain(of_lookups) {
        sums.entry(key(&attempt)).and_modify(|sum| add(sum, &attempt)).or_insert(attempt);
    }
    let mut attempts: Vec<Attempt> = sums.into_values().collect();
    attempts.sort_by_key(|attempt| attempt.first_ns);
    attempts
}

/// Destinations that answered flows with an ICMP error, and the processes that sent there.
type RejectedByIcmp = HashSet<(Protocol, SocketAddr, ProcessId)>;

fn rejected_by_icmp<'a>(flows: impl Iterator<Item = &'a ReportFlow>) -> RejectedByIcmp {
    let of_flow = |known: &'a ReportFlow| {
        let key = &known.flow.key;
        let remote = SocketAddr::new(key.remote.addr, key.remote.port);
        known.users.iter().map(move |user| (Protocol(key.protocol), remote, user.process))
    };
    flows.filter(|known| known.flow.icmp_error.is_some()).flat_map(of_flow).collect()
}

/// Whether a failed call returned the pending ICMP error of its socket, which is already listed
/// with the flow. The same errno also means a missing route, but then there is no flow.
fn is_listed_with_flow(call: &Attempt, rejected: &RejectedByIcmp) -> bool {
    const ENETUNREACH: i32 = 101;
    const EHOSTUNREACH: i32 = 113;
    match (&call.cause, call.protocol, &call.target, call.process) {
        (
            AttemptCause::Errno(ENETUNREACH | EHOSTUNREACH),
            Some(protocol),
            AttemptTarget::Address(address),
            Some(process),
        ) => rejected.contains(&(protocol, *address, process)),
        _ => false,
    }
}

/// What an attempt is added up by.
pub(super) fn key(attempt: &Attempt) -> AttemptKey {
    (attempt.target.clone(), attempt.protocol, attempt.cause.clone(), attempt.process)
}

pub(super) fn add(sum: &mut Attempt, other: &Attempt) {
    sum.first_ns = sum.first_ns.min(other.first_ns);
    sum.last_ns = sum.last_ns.max(other.last_ns);
    sum.count += other.count;
    sum.packets += other.packets;
}

/// Whether the packets of a flow show failed attempts of the target.
pub(super) fn has_failed(flow: &Flow) -> bool {
    flow.opened_by == Direction::Egress && flow.failed().attempts() > 0
}

/// Failed attempts that the packets of a flow show, if the target opened it.
pub(super) fn of_flow(known: &ReportFlow) -> Vec<Attempt> {
    let flow = &known.flow;
    let failed = flow.failed();
    if !has_failed(flow) {
        return Vec::new();
    }
    let attempt = |count, packets, cause| Attempt {
        first_ns: flow.first_seen_ns,
        last_ns: flow.last_seen_ns,
        count,
        packets,
        target: AttemptTarget::Address((flow.key.remote.addr, flow.key.remote.port).into()),
        protocol: Some(Protocol(flow.key.protocol)),
        cause,
        process: known.users.first().map(|user| user.process),
    };
    let icmp = flow.icmp_error.map(|error| attempt(failed.unreachable, failed.unreachable, AttemptCause::Icmp(error)));
    let tcp = [
        attempt(failed.unanswered, failed.unanswered_tries, AttemptCause::Timeout),
        attempt(failed.refused, failed.refused, AttemptCause::Refused),
        attempt(failed.reset, failed.reset, AttemptCause::Reset),
    ];
    tcp.into_iter().chain(icmp).filter(|attempt| attempt.count > 0).collect()
}

/// The processes of DNS queries.
struct Queriers<'a> {
    programs: Programs<'a>,
    /// The flows of all queries that are listed.
    flows: Vec<&'a ReportFlow>,
    /// Their process; `None` if there are several programs.
    only: Option<ProcessId>,
    /// The process of each flow; `None` without one, and if two programs had flows with one key.
    by_key: HashMap<FlowKey, Option<ProcessId>>,
    /// Made for the first lookup whose flows are not known.
    by_time: OnceCell<QueriersByTime>,
    are_all_listed: bool,
}

/// The programs of processes: a script that calls curl three times is one program that failed.
#[derive(Debug, Clone, Copy)]
struct Programs<'a>(&'a Processes);

/// The process that sent the queries of a time: from each of these times on, until the next. `None`
/// without one, and if there are several programs.
struct QueriersByTime(Vec<(u64, Option<ProcessId>)>);

impl<'a> Queriers<'a> {
    fn of(flows: impl Iterator<Item = &'a ReportFlow>, processes: &'a Processes, are_all_listed: bool) -> Self {
        let programs = Programs(processes);
        let is_query =
            |known: &&ReportFlow| known.flow.opened_by == Direction::Egress && known.flow.key.remote.port == port::DNS;
        let flows: Vec<&ReportFlow> = flows.filter(is_query).collect();
        let mut by_key = HashMap::new();
        for known in &flows {
            let process = user(known);
            let found = by_key.entry(known.flow.key).or_insert(process);
            *found = programs.only([*found, process].into_iter());
        }
        let only = programs.only(flows.iter().map(|known| user(known)));
        Self { programs, flows, only, by_key, by_time: OnceCell::new(), are_all_listed }
    }

    /// The process that sent the queries of a lookup, the first at this time, if there is only one
    /// program: lookups are added up by name, not by process.
    fn process(&self, time_ns: u64, flows: Option<&QueryFlows>) -> Option<ProcessId> {
        let Some(queries) = flows else { return self.only.or_else(|| self.process_at(time_ns)) };
        let are_listed = !queries.has_more && queries.flows.iter().all(|key| self.by_key.contains_key(key));
        match are_listed {
            true => self.programs.only(queries.flows.iter().map(|key| self.by_key.get(key).copied().flatten())),
            false => self.only.filter(|_| self.are_all_listed),
        }
    }

    fn process_at(&self, time_ns: u64) -> Option<ProcessId> {
        self.by_time.get_or_init(|| QueriersByTime::of(&self.flows, self.programs)).process_at(time_ns)
    }
}

impl QueriersByTime {
    /// A resolver library opens a socket for each lookup, so that the flows of a time are those of
    /// the lookups of that time.
    fn of(flows: &[&ReportFlow], programs: Programs<'_>) -> Self {
        let ends = |known: &&ReportFlow| {
            let (first, last, process) = (known.flow.first_seen_ns, known.flow.last_seen_ns, user(known));
            let after = last.saturating_add(CLOCK_TOLERANCE_NS + 1);
            [(first.saturating_sub(CLOCK_TOLERANCE_NS), true, process), (after, false, process)]
        };
        let mut changes: Vec<_> = flows.iter().flat_map(ends).collect();
        changes.sort_by_key(|(time_ns, ..)| *time_ns);
        let mut flows_of: BTreeMap<Option<ProcessId>, usize> = BTreeMap::new();
        let mut processes: Vec<(u64, Option<ProcessId>)> = Vec::with_capacity(changes.len());
        for (time_ns, begins, process) in changes {
            let count = flows_of.entry(process).or_default();
            *count = if begins { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                flows_of.remove(&process);
            }
            processes.pop_if(|(last_ns, _)| *last_ns == time_ns);
            processes.push((time_ns, programs.only(flows_of.keys().copied())));
        }
        Self(processes)
    }

    fn process_at(&self, time_ns: u64) -> Option<ProcessId> {
        let later = self.0.partition_point(|(from_ns, _)| *from_ns <= time_ns);
        self.0.get(later.checked_sub(1)?)?.1
    }
}

fn user(known: &ReportFlow) -> Option<ProcessId> {
    known.users.first().map(|user| user.process)
}

impl Programs<'_> {
    /// The first process of several flows, if all of them run its program.
    fn only(self, mut users: impl Iterator<Item = Option<ProcessId>>) -> Option<ProcessId> {
        let first = users.next()??;
        users.all(|other| other.is_some_and(|other| self.is_same(first, other))).then_some(first)
    }

    fn is_same(self, one: ProcessId, other: ProcessId) -> bool {
        let program = |id| self.0.get(id).map(|process| (process.program(), process.exe.as_deref()));
        one == other || program(one).is_some_and(|first| program(other) == Some(first))
    }
}

/// The kernel dates most packets by a clock that advances with its timer interrupt, samples by a
/// precise one.
const CLOCK_TOLERANCE_NS: u64 = 10_000_000;

/// Lookups of the target that failed or got no response.
fn of_lookup(lookup: &Lookup, querier: Option<ProcessId>) -> Vec<Attempt> {
    // A multicast query needs no response.
    if lookup.queried_by == Direction::Ingress || lookup.application != crate::wire::Application::Dns {
        return Vec::new();
    }
    let attempt = |count: u64, packets: u64, cause: String| Attempt {
        first_ns: lookup.first_seen_ns,
        last_ns: lookup.first_seen_ns,
        count,
        packets,
        target: AttemptTarget::Name(lookup.question.name.to_string(), lookup.question.kind.to_string()),
        protocol: None,
        cause: AttemptCause::Dns(cause),
        process: querier,
    };
    let failed = lookup.errors();
    let failed = failed.map(|(rcode, count, queries)| attempt(count, queries, rcode.to_string().to_ascii_lowercase()));
    let unanswered = attempt(lookup.unanswered_lookups(), lookup.unanswered(), AttemptCause::TIMEOUT.into());
    failed.chain([unanswered]).filter(|attempt| attempt.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Flow, IcmpError, ObservationPoint, Payload, PerDirection, TransportAddress};
    use crate::process::{Attribution, Evidence, FlowUser, Process, ProcessLosses};

    const UDP: u8 = 17;
    const NO_PROCESSES: &Processes = &Processes {
        attribution: Attribution::On,
        list: Vec::new(),
        local_sockets: Vec::new(),
        lost: ProcessLosses { events: 0, sockets: 0, gone: 0, unreadable: 0, unknown: 0, beyond: 0 },
    };
    const NO_QUERIES: Queries<'_> =
        Queries { lookups: &[], flows: &[], are_all_flows_listed: true, processes: NO_PROCESSES };

    fn known(port: u16, icmp_error: Option<IcmpError>) -> ReportFlow {
        let end = |last: u8, port| TransportAddress { addr: [198, 51, 100, last].into(), port };
        let key = FlowKey {
            point: ObservationPoint::Link,
            protocol: UDP,
            fragment: false,
            local: end(1, 4000),
            remote: end(2, port),
        };
        let flow = Flow {
            key,
            counters: PerDirection::default(),
            payload: Payload::default(),
            first_seen_ns: 1,
            last_seen_ns: 1,
            opened_by: Direction::Egress,
            connections: 0,
            tcp: None,
            icmp_error,
            epoch: 0,
            serial: 0,
            ended: None,
        };
        let user = FlowUser { process: ProcessId(0), evidence: Evidence::Socket, is_maker: true };
        ReportFlow { flow, naming: None, users: vec![user] }
    }

    fn call(port: u16, errno: i32) -> Attempt {
        Attempt {
            first_ns: 2,
            last_ns: 2,
            count: 1,
            packets: 0,
            target: AttemptTarget::Address(([198, 51, 100, 2], port).into()),
            protocol: Some(Protocol(UDP)),
            cause: AttemptCause::Errno(errno),
            process: Some(ProcessId(0)),
        }
    }

    #[test]
    fn a_failed_lookup_has_the_process_that_queried_at_that_time() {
        let query = |process: u32, first_seen_ns: u64| {
            let mut flow = known(port::DNS, None);
            flow.flow.first_seen_ns = first_seen_ns;
            flow.flow.last_seen_ns = first_seen_ns + 5;
            flow.users[0].process = ProcessId(process);
            flow
        };
        let second = 1_000_000_000;
        let flows = [query(1, second), query(2, 3 * second), query(2, 5 * second), query(3, 5 * second)];
        let queriers = Queriers::of(flows.iter(), NO_PROCESSES, true);
        let at = |time_ns| queriers.process_at(time_ns);
        assert_eq!(at(second + 2), Some(ProcessId(1)));
        assert_eq!(at(3 * second + 9_000_000), Some(ProcessId(2)));
        assert_eq!(at(5 * second), None, "two processes at the same time");
        assert_eq!((at(0), at(2 * second), at(9 * second)), (None, None, None));
        assert_eq!(Queriers::of(flows[1..3].iter(), NO_PROCESSES, true).only, Some(ProcessId(2)), "there is no other");
        let mut long = query(4, 2 * second);
        long.flow.last_seen_ns = 20 * second;
        let with_long = Queriers::of(flows.iter().chain([&long]), NO_PROCESSES, true);
        assert_eq!(with_long.process_at(10 * second), Some(ProcessId(4)), "an earlier flow that lasts");
        assert_eq!(with_long.process_at(3 * second), None, "and another one");
        assert_eq!(with_long.process_at(second), Some(ProcessId(1)));
    }

    #[test]
    fn a_failed_lookup_has_the_process_of_the_flows_of_its_queries() {
        let flow = |process: u32, local: u16| {
            let mut flow = known(port::DNS, None);
            flow.flow.key.local.port = local;
            flow.users[0].process = ProcessId(process);
            flow
        };
        // All at the same time.
        let flows = [flow(1, 4001), flow(2, 4002), flow(2, 4003)];
        let queriers = Queriers::of(flows.iter(), NO_PROCESSES, true);
        let process = |places: &[usize], has_more| {
            let flows = places.iter().map(|place| flows[*place].flow.key).collect();
            queriers.process(1, Some(&QueryFlows { flows, has_more }))
        };
        assert_eq!(process(&[0], false), Some(ProcessId(1)));
        assert_eq!(process(&[1, 2], false), Some(ProcessId(2)));
        assert_eq!(process(&[0, 1], false), None, "two processes asked the same");
        assert_eq!(process(&[1], true), None, "not all flows are known");
        assert_eq!(queriers.process(1, None), None, "two processes at the same time");
        let lone = |are_all_listed| Queriers::of(flows[1..].iter(), NO_PROCESSES, are_all_listed);
        let elsewhere = QueryFlows { flows: vec![flows[0].flow.key], has_more: false };
        assert_eq!(lone(false).process(1, Some(&elsewhere)), None, "a flow that was folded");
        let many = QueryFlows { flows: vec![flows[1].flow.key], has_more: true };
        assert_eq!(lone(true).process(1, Some(&many)), Some(ProcessId(2)), "nothing was folded, and there is no other");
    }

    #[test]
    fn a_lookup_of_several_processes_of_one_program_has_the_first() {
        let flow = |process: u32, local: u16| {
            let mut flow = known(port::DNS, None);
            flow.flow.key.local.port = local;
            flow.users[0].process = ProcessId(process);
            flow
        };
        let process = |comm: &str| Process { comm: comm.to_owned(), ..Process::default() };
        let list = ["sh", "curl", "curl", "dig"].map(process).into();
        let processes = Processes { list, ..Processes::default() };
        let flows = [flow(1, 4001), flow(2, 4002), flow(3, 4003)];
        let queriers = Queriers::of(flows.iter(), &processes, true);
        let of = |places: &[usize]| {
            let flows = places.iter().map(|place| flows[*place].flow.key).collect();
            queriers.process(1, Some(&QueryFlows { flows, has_more: false }))
        };
        assert_eq!([of(&[0, 1]), of(&[1]), of(&[1, 2])], [Some(ProcessId(1)), Some(ProcessId(2)), None]);
        assert_eq!(Queriers::of(flows[..2].iter(), &processes, true).process(1, None), Some(ProcessId(1)));
    }

    #[test]
    fn an_icmp_error_that_a_later_call_returns_is_listed_once() {
        let host_unreachable = IcmpError { kind: 3, code: 1 };
        let flows = [known(9, Some(host_unreachable)), known(10, None)];
        let calls = vec![call(9, 113), call(9, 1), call(10, 101)];
        let attempts = all(calls.into_iter(), std::iter::empty(), &flows, &[], &NO_QUERIES);
        let causes: Vec<&str> = attempts.iter().map(|attempt| attempt.cause.name()).collect();
        assert_eq!(causes, ["unreachable", "denied", "no_route"]);
        let elsewhere = Attempt { process: Some(ProcessId(1)), ..call(9, 113) };
        assert_eq!(
            all(vec![elsewhere].into_iter(), std::iter::empty(), &flows, &[], &NO_QUERIES).len(),
            2,
            "another process without a route"
        );
    }
}
