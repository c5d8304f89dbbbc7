//! What a run sends to a dashboard: changes since the last time, as plain data.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::flow::{Counters, Direction, EndReason, ObservationPoint, PerDirection, Protocol, TransportAddress};
use crate::name::Lookup;
use crate::process::{Attempt, AttemptTarget};
use crate::report::ExitStatus;
use crate::session::{Event, EventKinds, FlowRecord, IntervalTotals, ProcessRecord, SessionStatus, Started};
use crate::wire::Application;
use crate::wire::dns::Rcode;

/// The version of these types. Both sides are netwatch, but not always the same.
pub const VERSION: u32 = 3;

/// The events of a session that a dashboard shows.
pub const WANTED: EventKinds = EventKinds::SESSION
    .with(EventKinds::FLOW_OPENED)
    .with(EventKinds::FLOW_GREW)
    .with(EventKinds::FLOW_ENDED)
    .with(EventKinds::USED_BY)
    .with(EventKinds::DNS_EXCHANGE)
    .with(EventKinds::ATTEMPTS)
    .with(EventKinds::INTERVAL)
    .with(EventKinds::STATUS);

/// A change of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Update {
    /// The first one.
    Started(RunFacts),
    /// A flow in its current state.
    Flow(Box<FlowUpdate>),
    /// A process that used a flow, or is an ancestor of one that did.
    Process(ProcessFacts),
    /// A DNS lookup in its current state, with its number.
    Lookup(u64, LookupFacts),
    /// All attempts that failed before a packet was sent.
    Attempts(Vec<AttemptFacts>),
    /// Observations that were lost so far, by reason, and the notes if there are new ones.
    Losses(Vec<(String, u64)>, Option<Vec<String>>),
    /// An interval ended. Everything that changed in it precedes this.
    Tick(Tick),
    /// The run ended, with this result.
    Ended(String),
}

/// The run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Its id.
    pub id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user of the command.
    pub user: String,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// Addresses of the DNS forwarder.
    pub gateways: Vec<IpAddr>,
}

/// Packets, and their bytes on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume(pub u64, pub u64);

impl From<Counters> for Volume {
    fn from(counters: Counters) -> Self {
        Self(counters.packets, counters.wire_bytes)
    }
}

/// Sent and received.
pub type Volumes = (Volume, Volume);

fn amounts(counters: PerDirection<Counters>) -> Volumes {
    (counters.egress.into(), counters.ingress.into())
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowUpdate {
    /// Its serial number in the session.
    pub id: u64,
    /// IANA protocol number.
    pub protocol: u8,
    /// On the loopback of the namespace.
    pub loopback: bool,
    /// The end of the command.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Opened by the command.
    pub out: bool,
    /// Time of the first packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Time of the last packet so far.
    pub last_ns: u64,
    /// Packets and bytes.
    pub amounts: Volumes,
    /// Connections, failed ones included.
    pub connections: u64,
    /// Failed attempts, and their causes.
    pub failed: u64,
    /// By the words of every output.
    pub causes: String,
    /// Round trip of the handshake, nanoseconds.
    pub handshake_ns: Option<u64>,
    /// Mean round trip, nanoseconds.
    pub rtt_ns: Option<u64>,
    /// Packets that were sent again.
    pub retransmitted: u64,
    /// Whether it is a TCP connection that has not ended, and not a failed attempt.
    pub is_open: bool,
    /// Why it ended.
    pub ended: Option<String>,
    /// The name of the remote, and its source.
    pub name: Option<(String, String)>,
    /// The application protocol.
    pub application: Option<String>,
    /// Numbers of the processes, the best evidence first, with the evidence.
    pub processes: Vec<(u32, String)>,
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Its number in the session.
    pub number: u32,
    /// The number of its parent.
    pub parent: Option<u32>,
    /// Its process id.
    pub pid: u32,
    /// The name of its program, as in reports.
    pub comm: String,
    /// Its executable.
    pub exe: Option<String>,
    /// Its arguments.
    pub arguments: Option<Vec<String>>,
}

/// A DNS lookup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LookupFacts {
    /// The name.
    pub name: String,
    /// The record type.
    pub kind: String,
    /// Queries and responses.
    pub queries: u64,
    /// Responses, errors included.
    pub responses: u64,
    /// Response codes other than success, with their numbers.
    pub errors: Vec<(String, u64)>,
    /// Sent by the command over DNS, where each query needs a response.
    pub is_own: bool,
    /// Mean response time, nanoseconds.
    pub mean_ns: Option<u64>,
    /// Addresses in the responses.
    pub addresses: Vec<String>,
    /// Time of the first message, nanoseconds since the Unix epoch.
    pub first_ns: u64,
}

/// The service of a failed lookup.
pub(super) const DNS: &str = "DNS";

/// Attempts of one process that failed before a packet was sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptFacts {
    /// What they were to reach: an address without the port, or a name.
    pub target: String,
    /// `tcp/443`, or `DNS`.
    #[serde(default)]
    pub service: String,
    /// Why they failed.
    pub cause: String,
    /// How many there were.
    pub count: u64,
    /// Time of the last one, nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// The number of the process.
    pub process: Option<u32>,
}

/// The end of an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The duration of the run so far, nanoseconds.
    pub duration_ns: u64,
    /// What the command sent and received on the link.
    pub totals: Volumes,
    /// Flows on the link so far.
    pub opened: u64,
    /// TCP connections that have not ended.
    pub open: u64,
    /// Failed attempts and lookups, as the summary counts them.
    pub failures: u64,
    /// Observations that were lost.
    pub lost: u64,
    /// CPU time of the command and its descendants so far, nanoseconds; `None` if unknown.
    pub cpu_ns: Option<u64>,
    /// Their current memory, bytes; `None` if unknown.
    pub memory: Option<u64>,
}

impl Update {
    /// The update of an event; `None` if the dashboard shows nothing of it.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Started(started) => Self::Started(run(started)),
            Event::FlowOpened(record) | Event::FlowGrew(record) => Self::Flow(Box::new(flow(record, None))),
            Event::FlowEnded(record, reason) => Self::Flow(Box::new(flow(record, Some(*reason)))),
            Event::UsedBy(record) => Self::Process(process(record)),
            Event::DnsExchange(number, looked_up) => Self::Lookup(*number, lookup(looked_up)),
            Event::Attempts(all) => Self::Attempts(all.iter().filter_map(attempt).collect()),
            Event::Interval(totals) => losses(totals),
            Event::Status(status) => Self::Tick(tick(status)),
            Event::Finished(finished) => Self::Ended(match finished.report.run.exit {
                Some(ExitStatus::Code(code)) => format!("exit code {code}"),
                Some(ExitStatus::Signal(signal)) => format!("killed by signal {signal}"),
                None => "ended".to_owned(),
            }),
            Event::LocalSockets(_) | Event::Lost(..) | Event::Note(_) => return None,
        })
    }
}

fn run(started: &Started) -> RunFacts {
    let run = &started.run;
    let (id, command, user) = (run.id.clone(), run.command.clone(), run.user.clone());
    RunFacts { id, command, user, started_ns: run.started_ns, gateways: started.interface.gateway.clone() }
}

fn flow(record: &FlowRecord, ended: Option<EndReason>) -> FlowUpdate {
    let (flow, naming) = (&record.flow, record.naming.as_deref());
    let end = |end: TransportAddress| SocketAddr::new(end.addr, end.port);
    let failed = flow.failed_so_far();
    let causes: Vec<&str> = failed.causes().map(|(cause, _)| cause).collect();
    let display_name = naming.and_then(|naming| naming.display_name.as_ref());
    let application = naming.and_then(|naming| naming.application.as_ref());
    FlowUpdate {
        id: flow.serial,
        protocol: flow.key.protocol,
        loopback: flow.key.point == ObservationPoint::Loopback,
        local: end(flow.key.local),
        remote: end(flow.key.remote),
        out: flow.opened_by == Direction::Egress,
        first_ns: flow.first_seen_ns,
        last_ns: flow.last_seen_ns,
        amounts: amounts(flow.counters),
        connections: flow.connections(),
        failed: failed.attempts(),
        causes: causes.join(", "),
        handshake_ns: flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns),
        rtt_ns: flow.tcp.and_then(|tcp| tcp.round_trips.mean_ns()),
        retransmitted: flow.tcp.map_or(0, |tcp| tcp.retransmitted_packets.egress + tcp.retransmitted_packets.ingress),
        is_open: failed.attempts() == 0 && ended.is_none() && flow.is_open(),
        ended: ended.or(flow.end_reason()).map(|reason| reason.name().replace('_', " ")),
        name: display_name.map(|shown| (shown.name.as_str().to_owned(), shown.source.name().to_owned())),
        application: application.map(|application| application.name.clone().into_owned()),
        processes: record.usages.iter().map(|usage| (usage.process, usage.evidence.name().to_owned())).collect(),
    }
}

fn process(record: &ProcessRecord) -> ProcessFacts {
    let process = &record.process;
    ProcessFacts {
        number: process.number,
        parent: record.parent,
        pid: process.pid,
        comm: process.program().to_owned(),
        exe: process.exe.clone(),
        arguments: process.cmdline.clone(),
    }
}

fn lookup(lookup: &Lookup) -> LookupFacts {
    let errors = lookup.outcomes.iter().filter(|(code, _)| **code != Rcode::NOERROR);
    LookupFacts {
        name: lookup.question.name.as_str().to_owned(),
        kind: lookup.question.kind.to_string(),
        queries: lookup.queries,
        responses: lookup.responses,
        errors: errors.map(|(code, count)| (code.to_string(), *count)).collect(),
        is_own: lookup.queried_by == Direction::Egress && lookup.application == Application::Dns,
        mean_ns: lookup.response_times.mean_ns(),
        addresses: lookup.addresses.iter().map(ToString::to_string).collect(),
        first_ns: lookup.first_seen_ns,
    }
}

/// `None` for attempts that are no failures.
fn attempt(attempt: &Attempt) -> Option<AttemptFacts> {
    if !attempt.target.is_remote() {
        return None;
    }
    let (target, service) = match &attempt.target {
        AttemptTarget::Address(end) => (end.ip().to_string(), service(attempt.protocol, end.port())),
        AttemptTarget::Name(name, _) => (name.clone(), DNS.to_owned()),
        AttemptTarget::LocalSocket(_) => return None,
    };
    let process = attempt.process.map(|process| process.0);
    let (cause, count, last_ns) = (attempt.cause.word(), attempt.count, attempt.last_ns);
    Some(AttemptFacts { target, service, cause, count, last_ns, process })
}

fn service(protocol: Option<Protocol>, port: u16) -> String {
    match protocol {
        Some(protocol) if protocol.has_ports() => format!("{protocol}/{port}"),
        Some(protocol) => protocol.to_string(),
        None => format!("port {port}"),
    }
}

fn losses(totals: &IntervalTotals) -> Update {
    let lost = totals.losses.by_reason().into_iter().filter(|(_, count)| *count > 0);
    Update::Losses(lost.map(|(reason, count)| (reason.to_owned(), count)).collect(), totals.notes.clone())
}

fn tick(status: &SessionStatus) -> Tick {
    Tick {
        time_ns: status.time_ns,
        duration_ns: status.duration_ns,
        totals: amounts(status.totals),
        opened: status.flows.opened,
        open: status.flows.open,
        failures: status.failures,
        lost: status.lost,
        cpu_ns: status.usage.map(|usage| usage.user_ns + usage.system_ns),
        memory: status.memory,
    }
}
