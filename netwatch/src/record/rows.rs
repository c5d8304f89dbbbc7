//! Rows of a recording: parts of a report into the tables. Nothing is committed here: the caller
//! has the transaction.

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, Statement};

use super::cell::{Binder, Cursor, Put, Take, Wrong, text, words};
use super::cells::hidden_names;
use super::processes;
pub use super::processes::{ProcessNumbers, used as used_processes};
use super::remainder;
use super::table::{Rows, clear, put};
use crate::flow::{
    Balance, Counters, Endpoint, Flow, FoldedCounts, ObservationPoint, PerDirection, Protocol, Remainders,
};
use crate::name::{Lookup, ServiceExchanges};
use crate::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, FlowUser, LocalSocket, Process, ProcessNumber,
};
use crate::report::{
    DnsForwarder, EndpointSeries, FlowNaming, Interface, Interval, Naming, Replay, Report, ReportEndpoint, ReportFlow,
    Run, ServiceActivity, loss_reasons,
};

type Result<T, E = rusqlite::Error> = std::result::Result<T, E>;

/// Tables that the end of a run replaces: all but those of flows and processes, whose rows are
/// replaced one by one.
const REPLACED: [&str; 23] = [
    "run",
    "replay",
    "total",
    "folded",
    "balance",
    "balance_state",
    "remainder",
    "lost",
    "endpoint",
    "endpoint_name",
    "endpoint_process",
    "folded_endpoint",
    "lookup",
    "lookup_outcome",
    "naming",
    "hidden",
    "unix_socket",
    "attempt",
    "note",
    "step",
    "endpoint_series",
    "endpoint_step",
    "service_activity",
];

/// The state of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingState {
    /// The run is in progress, or netwatch was killed before its end.
    Running,
    /// The run has ended, and its report is complete.
    Complete,
}

words!(RecordingState { Running = "running", Complete = "complete" });

/// Sets the state of the recording. `waiting` are flows with changes that are not written yet.
pub fn recording(db: &Connection, state: RecordingState, until_ns: u64, waiting: u64) -> Result<()> {
    clear(db, "recording")?;
    put(db, "recording", &[&state, &until_ns, &waiting])
}

/// Writes a whole report into empty tables.
pub fn write_all(db: &Connection, report: &Report) -> Result<()> {
    let mut flows = FlowRows::new(db, ProcessNumbers::OfList(&report.processes.list));
    report.flows.iter().chain(&report.loopback.flows).try_for_each(|known| flows.put(known))?;
    drop(flows);
    replace_all_but_flows(db, report, &report.folded, &HashSet::new())
}

/// Replaces everything but the rows of flows. `folded` are the flows that have no row, `left_out`
/// the numbers of processes that get none.
pub fn replace_all_but_flows(
    db: &Connection,
    report: &Report,
    folded: &FoldedCounts,
    left_out: &HashSet<ProcessNumber>,
) -> Result<()> {
    REPLACED.iter().try_for_each(|table| clear(db, table))?;
    replace_run(db, &report.run, &report.interface, &report.dns, report.complete, &report.processes.attribution)?;
    report.replay.iter().try_for_each(|replay_| replay(db, replay_))?;
    replace_totals(db, &report.totals, folded, &report.loopback.totals)?;
    balance(db, &report.balance)?;
    replace_remainders(db, &report.remainders)?;
    replace_losses(db, &loss_reasons(&report.lost, &report.naming.lost, &report.processes.lost))?;
    let numbers = ProcessNumbers::ListWithout(&report.processes.list, left_out);
    endpoints(db, &report.endpoints, numbers)?;
    (0_u64..).zip(&report.naming.lookups).try_for_each(|(number, found)| lookup(db, number, found))?;
    naming(db, &report.naming)?;
    processes::write(db, &report.processes, numbers)?;
    replace_attempts(db, &report.attempts, numbers)?;
    replace_notes(db, &report.notes)?;
    endpoint_series(db, &report.series.endpoints)?;
    replace_service_activity(db, &report.activity)?;
    replace_steps(db, 0, &report.series.intervals)
}

fn endpoint_series(db: &Connection, endpoints: &[EndpointSeries]) -> Result<()> {
    let (mut series, mut steps) = (Rows::of(db, "endpoint_series"), Rows::of(db, "endpoint_step"));
    for (number, endpoint) in (0_u64..).zip(endpoints) {
        series.put(&[&number, &endpoint.key, &endpoint.before])?;
        endpoint.intervals.iter().try_for_each(|interval| steps.put(&[&number, interval]))?;
    }
    Ok(())
}

/// Replaces the exchanges and peaks of services.
pub fn replace_service_activity(db: &Connection, activity: &BTreeMap<(Protocol, u16), ServiceActivity>) -> Result<()> {
    clear(db, "service_activity")?;
    let mut rows = Rows::of(db, "service_activity");
    for ((protocol, port), ServiceActivity { exchanges, peak }) in activity {
        let ServiceExchanges { times, unmeasured, statuses: [s1, s2, s3, s4, s5], request_bytes } = exchanges;
        let peaks = [peak.map(|peak| peak.connections), peak.map(|peak| peak.wire_bytes)];
        let [connections, wire_bytes] = &peaks;
        rows.put(&[protocol, port, unmeasured, s1, s2, s3, s4, s5, request_bytes, times, connections, wire_bytes])?;
    }
    Ok(())
}

/// Removes the rows of flows, by their serial numbers.
pub fn remove_flows(db: &Connection, serials: &[u64]) -> Result<()> {
    for (table, column) in [("flow", "number"), ("flow_name", "flow"), ("flow_user", "flow")] {
        let mut statement = db.prepare(&format!("DELETE FROM {table} WHERE {column} = ?"))?;
        serials.iter().try_for_each(|serial| statement.execute([serial.cast_signed()]).map(drop))?;
    }
    Ok(())
}

/// Replaces the intervals of the series from one on.
pub fn replace_steps(db: &Connection, from_ns: u64, steps: &[Interval]) -> Result<()> {
    db.prepare("DELETE FROM step WHERE start_ns >= ?")?.execute([from_ns.cast_signed()])?;
    let mut rows = Rows::of(db, "step");
    steps.iter().try_for_each(|step| rows.put(&[step]))
}

/// Replaces what belongs to no flow.
pub fn replace_remainders(db: &Connection, remainders: &Remainders) -> Result<()> {
    clear(db, "remainder")?;
    remainder::write(db, remainders)
}

/// Replaces the endpoints of flows that have no row.
pub fn replace_folded_endpoints<'e>(
    db: &Connection,
    endpoints: impl Iterator<Item = &'e (ObservationPoint, Endpoint)>,
) -> Result<()> {
    clear(db, "folded_endpoint")?;
    let mut rows = Rows::of(db, "folded_endpoint");
    for (point, endpoint) in endpoints {
        let Endpoint { key, flows, connections, counters, payload, failed, .. } = endpoint;
        rows.put(&[point, key, flows, connections, counters, payload, failed])?;
    }
    Ok(())
}

/// Writes a process, and the number of its parent.
pub fn process(db: &Connection, process: &Process, parent: Option<ProcessNumber>) -> Result<()> {
    processes::write_one(&mut Rows::of(db, "process"), process, parent)
}

/// Replaces the local sockets.
pub fn replace_local_sockets(db: &Connection, sockets: &[LocalSocket], numbers: ProcessNumbers<'_>) -> Result<()> {
    clear(db, "unix_socket")?;
    processes::write_local_sockets(db, sockets, numbers)
}

/// The run, as far as it is known.
pub fn replace_run(
    db: &Connection,
    run: &Run,
    interface: &Interface,
    dns: &DnsForwarder,
    complete: bool,
    attribution: &Attribution,
) -> Result<()> {
    clear(db, "run")?;
    let (attribution, off) = match attribution {
        Attribution::On => ("on", None),
        Attribution::Absent => ("absent", None),
        Attribution::Off(why) => ("off", Some(why.clone())),
    };
    let exit: &dyn Put = match &run.exit {
        Some(exit) => exit,
        None => &(None::<u32>, None::<u32>),
    };
    put(
        db,
        "run",
        &[
            &run.id,
            &run.command,
            &run.user,
            &run.pid,
            &run.started_ns,
            &run.duration_ns,
            exit,
            &run.ended_by,
            &interface.name,
            &interface.mtu,
            &interface.local,
            &interface.gateway,
            &interface.host_loopback,
            &dns.resolvers,
            &complete,
            &attribution,
            &off,
            &run.kernel,
            &run.netwatch,
            &run.usage.map(|usage| usage.user_ns),
            &run.usage.map(|usage| usage.system_ns),
            &run.usage.and_then(|usage| usage.memory_peak),
            &interface.published,
        ],
    )
}

impl<A: Put, B: Put> Put for (A, B) {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.0.put(row)?;
        self.1.put(row)
    }
}

fn replay(db: &Connection, replay: &Replay) -> Result<()> {
    put(
        db,
        "replay",
        &[
            &replay.file,
            &replay.format,
            &replay.link_types,
            &replay.by_kernel,
            &replay.local,
            &replay.started_ns,
            &replay.duration_ns,
            &replay.frames,
            &replay.cut_frames,
            &replay.left_out,
            &replay.ended_early,
            &replay.missing,
        ],
    )
}

/// Counters of all, of what was folded, and of the loopback.
pub fn replace_totals(
    db: &Connection,
    run: &PerDirection<Counters>,
    folded: &FoldedCounts,
    loopback: &PerDirection<Counters>,
) -> Result<()> {
    ["total", "folded"].iter().try_for_each(|table| clear(db, table))?;
    let mut rows = Rows::of(db, "total");
    rows.put(&[&"run", run])?;
    rows.put(&[&"folded", &folded.counters])?;
    rows.put(&[&"loopback", loopback])?;
    put(db, "folded", &[&folded.flows, &folded.at_least, &folded.icmp_errors])
}

fn balance(db: &Connection, balance: &Balance) -> Result<()> {
    let mut rows = Rows::of(db, "balance");
    rows.put(&[&"counted", &balance.counted])?;
    balance.interface.iter().try_for_each(|amount| rows.put(&[&"interface", amount]))?;
    rows.put(&[&"flows", &balance.flows])?;
    for (kind, amount) in &balance.remainders {
        rows.put(&[&kind.name(), amount])?;
    }
    balance.difference.iter().try_for_each(|difference| rows.put(&[&"difference", difference]))?;
    rows.put(&[&"unassigned", &balance.unassigned])?;
    put(db, "balance_state", &[&balance.state, &balance.dropped, &balance.file])
}

/// Each reason by itself; those of names and processes behind a prefix.
pub fn replace_losses(db: &Connection, reasons: &[(&'static str, u64)]) -> Result<()> {
    clear(db, "lost")?;
    let mut rows = Rows::of(db, "lost");
    reasons.iter().try_for_each(|(reason, count)| rows.put(&[reason, count]))
}

/// Flows, one by one.
pub struct FlowRows<'c> {
    flow: Rows<'c>,
    name: Rows<'c>,
    user: Rows<'c>,
    /// Removes the users of a flow that is written again.
    remove_users: Option<Statement<'c>>,
    db: &'c Connection,
    numbers: ProcessNumbers<'c>,
}

impl<'c> FlowRows<'c> {
    /// Rows of flows; `numbers` are those of their processes.
    pub fn new(db: &'c Connection, numbers: ProcessNumbers<'c>) -> Self {
        let [flow, name, user] = ["flow", "flow_name", "flow_user"].map(|table| Rows::of(db, table));
        Self { flow, name, user, remove_users: None, db, numbers }
    }

    /// Writes a flow under its serial number, in place of what was there.
    pub fn put(&mut self, known: &ReportFlow) -> Result<()> {
        self.remove_users(known.flow.serial)?;
        self.put_new(&known.flow, known.naming.as_deref(), known.users.iter().copied())
    }

    /// Writes a flow that has no row yet.
    pub fn put_new(
        &mut self,
        flow: &Flow,
        naming: Option<&FlowNaming>,
        users: impl Iterator<Item = FlowUser>,
    ) -> Result<()> {
        let number = flow.serial;
        let nothing = FlowNaming::default();
        let naming = naming.unwrap_or(&nothing);
        let hidden = (!naming.hidden.is_empty()).then(|| TextList(hidden_names(&naming.hidden)));
        let none: &dyn Put = &None::<u32>;
        let hidden: &dyn Put = hidden.as_ref().map_or(none, |list| list);
        self.flow.put(&[
            &number,
            flow,
            &naming.display_name,
            &naming.application,
            hidden,
            &naming.tls,
            &flow.payload,
        ])?;
        for (position, named) in (0_u64..).zip(&naming.names) {
            self.name.put(&[&number, &position, named])?;
        }
        processes::write_users(&mut self.user, number, users, self.numbers)
    }

    /// Removes the users of a flow that is written again: it may have fewer than before.
    pub fn remove_users(&mut self, number: u64) -> Result<()> {
        let remove = match &mut self.remove_users {
            Some(statement) => statement,
            none => none.insert(self.db.prepare("DELETE FROM flow_user WHERE flow = ?")?),
        };
        remove.execute([number.cast_signed()]).map(drop)
    }
}

/// A list of words as JSON.
struct TextList(Vec<&'static str>);

impl Put for TextList {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        self.0.put(row)
    }
}

fn endpoints(db: &Connection, endpoints: &[ReportEndpoint], numbers: ProcessNumbers<'_>) -> Result<()> {
    let mut rows = Rows::of(db, "endpoint");
    let mut names = Rows::of(db, "endpoint_name");
    let mut processes = Rows::of(db, "endpoint_process");
    for (number, known) in (0_u64..).zip(endpoints) {
        let payload = &known.endpoint.payload;
        rows.put(&[&number, &known.endpoint, &known.display_name, &known.application, payload])?;
        for (position, named) in (0_u64..).zip(&known.names) {
            names.put(&[&number, &position, named])?;
        }
        for (position, process) in (0_u64..).zip(known.processes.iter().filter_map(|process| numbers.of(*process))) {
            processes.put(&[&number, &position, &process])?;
        }
    }
    Ok(())
}

/// Writes a DNS lookup, in place of what was there.
pub fn lookup(db: &Connection, number: u64, lookup: &Lookup) -> Result<()> {
    let aliases: Vec<&str> = lookup.aliases.iter().map(|name| name.as_str()).collect();
    put(
        db,
        "lookup",
        &[
            &number,
            &lookup.question,
            &lookup.application,
            &lookup.queried_by,
            &lookup.queries,
            &lookup.responses,
            &lookup.truncated,
            &lookup.response_times,
            &lookup.first_seen_ns,
            &lookup.addresses,
            &aliases,
        ],
    )?;
    db.prepare("DELETE FROM lookup_outcome WHERE lookup = ?")?.execute([number.cast_signed()])?;
    let mut outcomes = Rows::of(db, "lookup_outcome");
    lookup.outcomes.iter().try_for_each(|(rcode, count)| outcomes.put(&[&number, &rcode.0, count]))
}

fn naming(db: &Connection, naming: &Naming) -> Result<()> {
    let unused: Vec<&str> = naming.unused.iter().map(|name| name.as_str()).collect();
    put(db, "naming", &[&naming.flows, &naming.unnamed, &unused, &naming.contacted_without_lookup])?;
    let mut rows = Rows::of(db, "hidden");
    for (position, (reason, share)) in (0_u64..).zip(&naming.hidden) {
        rows.put(&[&position, &reason.name(), share])?;
    }
    Ok(())
}

/// Replaces the failed attempts.
pub fn replace_attempts(db: &Connection, attempts: &[Attempt], numbers: ProcessNumbers<'_>) -> Result<()> {
    clear(db, "attempt")?;
    let mut rows = Rows::of(db, "attempt");
    for (position, attempt) in (0_u64..).zip(attempts) {
        let (kind, target, target_type) = match &attempt.target {
            AttemptTarget::Address(address) => ("address", address.to_string(), None),
            AttemptTarget::Name(name, kind) => ("name", name.clone(), Some(kind.clone())),
            AttemptTarget::LocalSocket(path) => ("unix", path.clone(), None),
        };
        let (cause, icmp, errno, dns) = match &attempt.cause {
            AttemptCause::Timeout => ("unanswered", None, None, None),
            AttemptCause::Refused => ("refused", None, None, None),
            AttemptCause::Reset => ("reset", None, None, None),
            AttemptCause::Icmp(error) => ("icmp", Some(*error), None, None),
            AttemptCause::NoPacket => ("no_packet", None, None, None),
            AttemptCause::Errno(errno) => ("errno", None, Some(*errno), None),
            AttemptCause::Dns(answer) => ("dns", None, None, Some(answer.clone())),
        };
        rows.put(&[
            &position,
            &attempt.first_ns,
            &attempt.last_ns,
            &attempt.count,
            &attempt.packets,
            &kind,
            &target,
            &target_type,
            &attempt.protocol,
            &cause,
            &icmp,
            &errno,
            &dns,
            &attempt.process.and_then(|process| numbers.of(process)),
        ])?;
    }
    Ok(())
}

/// Plain sentences.
pub fn replace_notes(db: &Connection, notes: &[String]) -> Result<()> {
    clear(db, "note")?;
    let mut rows = Rows::of(db, "note");
    (0_u64..).zip(notes).try_for_each(|(position, note)| rows.put(&[&position, note]))
}
