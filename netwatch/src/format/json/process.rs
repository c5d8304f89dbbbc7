//! Processes, attempts and unix sockets in JSON's shape.

use serde::Serialize;

use super::model::Counters;
use crate::flow::{EndpointKey, Remote};
use crate::format::rfc3339;
use crate::process::{Attempt, AttemptCause, AttemptTarget, Attribution, FlowUser, LocalSocket, ProcessId, Processes};
use crate::report::{FlowSum, ProcessTraffic, Report};

/// A process, named so that it is found in `processes`.
#[derive(Serialize)]
pub(super) struct Who {
    process: u32,
    pid: u32,
    start: String,
}

impl Who {
    fn new(processes: &Processes, id: ProcessId) -> Option<Self> {
        let process = processes.get(id)?;
        Some(Self { process: id.0, pid: process.pid, start: rfc3339(process.start_ns) })
    }
}

/// Who used a flow.
#[derive(Serialize)]
pub(super) struct JsonUser {
    #[serde(flatten)]
    who: Who,
    evidence: &'static str,
    maker: bool,
}

/// Who used a flow, the surest first.
pub(super) fn users(processes: &Processes, users: &[FlowUser]) -> Vec<JsonUser> {
    let user = |user: &FlowUser| {
        let (evidence, maker) = (user.evidence.name(), user.is_maker);
        Some(JsonUser { who: Who::new(processes, user.process)?, evidence, maker })
    };
    users.iter().filter_map(user).collect()
}

/// Processes, by their places in the list.
pub(super) fn all(processes: &Processes, ids: &[ProcessId]) -> Vec<Who> {
    ids.iter().filter_map(|id| Who::new(processes, *id)).collect()
}

#[derive(Serialize)]
pub(super) struct JsonAttribution<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    flows: Flows,
    lost: Lost,
}

#[derive(Serialize)]
struct Flows {
    socket: u64,
    tuple: u64,
    netns: u64,
    kernel: u64,
    unattributed: u64,
}

#[derive(Serialize)]
struct Lost {
    events: u64,
    sockets: u64,
    gone: u64,
    unreadable: u64,
    unknown: u64,
    beyond: u64,
}

#[derive(Serialize)]
pub(super) struct JsonProcess<'a> {
    pid: u32,
    start: String,
    ppid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<u32>,
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline_cut: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    endpoints: Vec<Endpoint>,
    egress: Counters,
    ingress: Counters,
}

#[derive(Serialize)]
struct Endpoint {
    remote: String,
    port: u16,
    protocol: String,
    direction: &'static str,
    flows: u64,
    egress: Counters,
    ingress: Counters,
}

#[derive(Serialize)]
pub(super) struct JsonAttempt<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<&'a str>,
    count: u64,
    tries: u64,
    first_seen: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Who>,
}

#[derive(Serialize)]
struct Icmp {
    r#type: u8,
    code: u8,
}

#[derive(Serialize)]
pub(super) struct UnixSocket<'a> {
    path: &'a str,
    connections: u64,
    failed: u64,
    processes: Vec<Who>,
}

impl<'a> From<&'a Report> for JsonAttribution<'a> {
    fn from(report: &'a Report) -> Self {
        let (state, why) = match &report.processes.attribution {
            Attribution::On => ("on", None),
            Attribution::Absent => ("absent", None),
            Attribution::Off(why) => ("off", Some(why.as_str())),
        };
        let crate::report::AttributionCounts { socket, tuple, netns, kernel, unattributed } =
            report.attribution_counts();
        let flows = Flows { socket, tuple, netns, kernel, unattributed };
        let crate::process::ProcessLosses { events, sockets, gone, unreadable, unknown, beyond } =
            report.processes.lost;
        Self { state, why, flows, lost: Lost { events, sockets, gone, unreadable, unknown, beyond } }
    }
}

/// All processes of the report.
pub(super) fn processes(report: &Report) -> Vec<JsonProcess<'_>> {
    report.processes.list.iter().zip(report.by_process()).map(|(process, part)| json_process(process, part)).collect()
}

fn json_process(process: &crate::process::Process, part: ProcessTraffic) -> JsonProcess<'_> {
    JsonProcess {
        pid: process.pid,
        start: rfc3339(process.start_ns),
        ppid: process.ppid,
        parent: process.parent.map(|parent| parent.0),
        comm: &process.comm,
        exe: process.exe.as_deref(),
        cmdline: process.cmdline.as_deref(),
        cmdline_cut: process.cmdline.as_ref().map(|_| process.cmdline_cut),
        uid: process.uid,
        endpoints: part.endpoints.iter().map(endpoint).collect(),
        egress: part.total.counters.egress.into(),
        ingress: part.total.counters.ingress.into(),
    }
}

fn endpoint((key, part): (&EndpointKey, &FlowSum)) -> Endpoint {
    Endpoint {
        remote: match key.remote {
            Remote::Address(address) => address.to_string(),
            Remote::Others => "others".to_owned(),
        },
        port: key.port,
        protocol: key.protocol.to_string(),
        direction: key.direction.of_flow(),
        flows: part.flows,
        egress: part.counters.egress.into(),
        ingress: part.counters.ingress.into(),
    }
}

/// All attempts that came to nothing.
pub(super) fn attempts(report: &Report) -> Vec<JsonAttempt<'_>> {
    report.attempts.iter().map(|attempt| json_attempt(report, attempt)).collect()
}

fn json_attempt<'a>(report: &'a Report, attempt: &'a Attempt) -> JsonAttempt<'a> {
    let (mut remote, mut port, mut name, mut kind, mut path) = (None, None, None, None, None);
    match &attempt.target {
        AttemptTarget::Address(address) => (remote, port) = (Some(address.ip().to_string()), Some(address.port())),
        AttemptTarget::Name(of, question) => (name, kind) = (Some(of.as_str()), Some(question.as_str())),
        AttemptTarget::LocalSocket(to) => path = Some(to.as_str()),
    }
    JsonAttempt {
        remote,
        port,
        name,
        r#type: kind,
        path,
        protocol: attempt.protocol.map(|protocol| protocol.to_string()),
        cause: attempt.cause.name(),
        errno: if let AttemptCause::Errno(errno) = attempt.cause { Some(errno) } else { None },
        icmp: if let AttemptCause::Icmp(icmp) = attempt.cause {
            Some(Icmp { r#type: icmp.kind, code: icmp.code })
        } else {
            None
        },
        rcode: if let AttemptCause::Dns(rcode) = &attempt.cause { Some(rcode) } else { None },
        count: attempt.count,
        tries: attempt.tries,
        first_seen: rfc3339(attempt.first_ns),
        last_seen: rfc3339(attempt.last_ns),
        process: attempt.process.and_then(|id| Who::new(&report.processes, id)),
    }
}

/// All unix sockets that were gone to.
pub(super) fn unix_sockets(processes: &Processes) -> Vec<UnixSocket<'_>> {
    let socket = |peer| unix_socket(processes, peer);
    processes.local_sockets.iter().map(socket).collect()
}

fn unix_socket<'a>(processes: &Processes, peer: &'a LocalSocket) -> UnixSocket<'a> {
    UnixSocket {
        path: &peer.path,
        connections: peer.connections,
        failed: peer.failed,
        processes: all(processes, &peer.processes),
    }
}
