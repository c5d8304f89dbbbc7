//! A report into the tables. Nothing is committed here: the caller has the transaction.

use rusqlite::Connection;

use super::cell::{Binder, Cursor, Put, Take, Wrong, text, words};
use super::cells::hidden_names;
use super::create;
use super::processes::{self, ProcessNumbers};
use super::remainder;
use super::table::{Rows, clear, put, read_first};
use crate::flow::{Balance, Counters, Folded, Lost, PerDirection};
use crate::name::{self, Lookup};
use crate::process::{self, Attempt, AttemptCause, AttemptTarget, Attribution};
use crate::report::{DnsForwarder, Interface, Naming, Replay, Report, ReportEndpoint, ReportFlow, Run, Series};

type Result<T, E = rusqlite::Error> = std::result::Result<T, E>;

/// Tables that a whole report replaces.
const REPLACED: [&str; 24] = [
    "run",
    "replay",
    "total",
    "folded",
    "balance",
    "balance_state",
    "remainder",
    "lost",
    "flow",
    "flow_name",
    "flow_user",
    "endpoint",
    "endpoint_name",
    "endpoint_process",
    "folded_endpoint",
    "lookup",
    "lookup_outcome",
    "naming",
    "hidden",
    "process",
    "unix_socket",
    "attempt",
    "note",
    "step",
];

/// A run that is over: everything in one transaction, and then in one file.
pub(super) fn finished(db: &mut Connection, report: &Report, series: &Series) -> Result<()> {
    let transaction = db.transaction()?;
    all(&transaction, report, series)?;
    let until_ns = report.run.started_ns.saturating_add(report.run.duration_ns);
    recording(&transaction, State::Complete, until_ns, 0)?;
    transaction.commit()?;
    create::finish(db)
}

/// How far a recording has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// More is to come, or was when netwatch was killed.
    Running,
    /// Everything is there.
    Complete,
}

words!(State { Running = "running", Complete = "complete" });

/// What the recording says of itself. `waiting` are flows that have changed since they were written last.
pub(super) fn recording(db: &Connection, state: State, until_ns: u64, waiting: u64) -> Result<()> {
    clear(db, "recording")?;
    put(db, "recording", &[&state, &until_ns, &waiting])
}

/// Everything, in place of what was there.
pub(super) fn all(db: &Connection, report: &Report, series: &Series) -> Result<()> {
    // A short run has written nothing before.
    if read_first(db, "recording", |_| Ok(())).is_ok_and(|row| row.is_some()) {
        REPLACED.iter().try_for_each(|table| clear(db, table))?;
    }
    run(db, &report.run, &report.interface, &report.dns, report.complete, &report.processes.attribution)?;
    report.replay.iter().try_for_each(|replay_| replay(db, replay_))?;
    totals(db, &report.totals, &report.folded, &report.loopback.totals)?;
    balance(db, &report.balance)?;
    remainder::write(db, &report.remainders)?;
    lost(db, &report.lost, &report.naming.lost, &report.processes.lost)?;
    let numbers = ProcessNumbers::new(&report.processes.list);
    let mut flows = Flows::new(db, numbers);
    for (number, known) in (0..).zip(report.flows.iter().chain(&report.loopback.flows)) {
        flows.put(number, known)?;
    }
    endpoints(db, &report.endpoints, numbers)?;
    lookups(db, &report.naming.lookups)?;
    naming(db, &report.naming)?;
    processes::write(db, &report.processes)?;
    attempts(db, &report.attempts, numbers)?;
    notes(db, &report.notes)?;
    let mut steps = Rows::of(db, "step");
    series.intervals.iter().try_for_each(|step| steps.put(&[step]))
}

/// The run, as far as it is known.
pub(super) fn run(
    db: &Connection,
    run: &Run,
    interface: &Interface,
    dns: &DnsForwarder,
    complete: bool,
    attribution: &Attribution,
) -> Result<()> {
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
        ],
    )
}

/// Counters of all, of what was folded, and of the loopback.
pub(super) fn totals(
    db: &Connection,
    run: &PerDirection<Counters>,
    folded: &Folded,
    loopback: &PerDirection<Counters>,
) -> Result<()> {
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
pub(super) fn lost(
    db: &Connection,
    counts: &Lost,
    names: &name::NamesLost,
    processes: &process::ProcessLosses,
) -> Result<()> {
    let reasons = [
        ("samples", counts.samples),
        ("unreadable", counts.unreadable),
        ("table_full", counts.table_full),
        ("insert_failed", counts.insert_failed),
        ("new_flows", counts.new_flows),
        ("names.direction_bytes", names.direction_bytes),
        ("names.waiting_bytes", names.waiting_bytes),
        ("names.open_flows", names.open_flows),
        ("names.flows", names.flows),
        ("names.addresses", names.addresses),
        ("names.names", names.names),
        ("names.lookups", names.lookups),
        ("names.pending", names.pending),
        ("names.records", names.records),
        ("names.http2_broken", names.http2_broken),
        ("processes.events", processes.events),
        ("processes.sockets", processes.sockets),
        ("processes.gone", processes.gone),
        ("processes.unreadable", processes.unreadable),
        ("processes.unknown", processes.unknown),
        ("processes.beyond", processes.beyond),
    ];
    let mut rows = Rows::of(db, "lost");
    reasons.iter().try_for_each(|(reason, count)| rows.put(&[reason, count]))
}

/// Flows, one by one.
pub(super) struct Flows<'c> {
    flow: Rows<'c>,
    name: Rows<'c>,
    user: Rows<'c>,
    numbers: ProcessNumbers<'c>,
}

impl<'c> Flows<'c> {
    pub fn new(db: &'c Connection, numbers: ProcessNumbers<'c>) -> Self {
        let [flow, name, user] = ["flow", "flow_name", "flow_user"].map(|table| Rows::of(db, table));
        Self { flow, name, user, numbers }
    }

    /// A flow under its number, in place of what was there.
    pub fn put(&mut self, number: u64, known: &ReportFlow) -> Result<()> {
        let nothing = crate::report::FlowNaming::default();
        let naming = known.naming.as_deref().unwrap_or(&nothing);
        let hidden = (!naming.hidden.is_empty()).then(|| TextList(hidden_names(&naming.hidden)));
        let none: &dyn Put = &None::<u32>;
        let hidden: &dyn Put = hidden.as_ref().map_or(none, |list| list);
        self.flow.put(&[&number, &known.flow, &naming.display_name, &naming.application, hidden, &naming.tls])?;
        for (position, named) in (0_u64..).zip(&naming.names) {
            self.name.put(&[&number, &position, named])?;
        }
        processes::write_users(&mut self.user, number, &known.users, self.numbers)
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
        rows.put(&[&number, &known.endpoint, &known.display_name, &known.application])?;
        for (position, named) in (0_u64..).zip(&known.names) {
            names.put(&[&number, &position, named])?;
        }
        for (position, process) in (0_u64..).zip(known.processes.iter().filter_map(|process| numbers.of(*process))) {
            processes.put(&[&number, &position, &process])?;
        }
    }
    Ok(())
}

/// Questions of DNS, in place of those that were there.
pub(super) fn lookups(db: &Connection, lookups: &[Lookup]) -> Result<()> {
    let mut rows = Rows::of(db, "lookup");
    let mut outcomes = Rows::of(db, "lookup_outcome");
    for (number, lookup) in (0_u64..).zip(lookups) {
        let aliases: Vec<&str> = lookup.aliases.iter().map(|name| name.as_str()).collect();
        rows.put(&[
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
        ])?;
        for (rcode, count) in &lookup.outcomes {
            outcomes.put(&[&number, &rcode.0, count])?;
        }
    }
    Ok(())
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

/// Attempts that came to nothing.
pub(super) fn attempts(db: &Connection, attempts: &[Attempt], numbers: ProcessNumbers<'_>) -> Result<()> {
    let mut rows = Rows::of(db, "attempt");
    for (position, attempt) in (0_u64..).zip(attempts) {
        let (kind, target, target_type) = match &attempt.target {
            AttemptTarget::Address(address) => ("address", address.to_string(), None),
            AttemptTarget::Name(name, kind) => ("name", name.clone(), Some(kind.clone())),
            AttemptTarget::LocalSocket(path) => ("unix", path.clone(), None),
        };
        let (cause, icmp, errno, dns) = match &attempt.cause {
            AttemptCause::Unanswered => ("unanswered", None, None, None),
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
            &attempt.tries,
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
pub(super) fn notes(db: &Connection, notes: &[String]) -> Result<()> {
    let mut rows = Rows::of(db, "note");
    (0_u64..).zip(notes).try_for_each(|(position, note)| rows.put(&[&position, note]))
}
