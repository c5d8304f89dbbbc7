//! Processes, failed attempts and local sockets as JSON objects.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::document::{JsonCounters, protocol_name, remote_name};
use super::flow::JsonIcmpError;
use super::{is_false, is_zero};
use crate::flow::EndpointKey;
use crate::format::rfc3339;
use crate::process::{
    AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, LocalSocket, Process, ProcessId, ProcessLosses,
    ProcessNumber, Processes,
};
use crate::report::{Failure, FlowSum, ProcessTraffic, Report};

/// The processes that used a flow, by evidence; of each evidence the latest user first.
#[derive(Default, PartialEq, Serialize)]
pub(super) struct JsonUsers {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    socket: Vec<ProcessNumber>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tuple: Vec<ProcessNumber>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    netns: Vec<ProcessNumber>,
    /// Those among them that did not create the socket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inherited: Vec<ProcessNumber>,
}

impl JsonUsers {
    pub(super) fn new(processes: &Processes, users: &[FlowUser]) -> Self {
        let mut json = Self::default();
        for user in users {
            let Some(number) = number(processes, user.process) else { continue };
            match user.evidence {
                Evidence::Socket => json.socket.push(number),
                Evidence::Tuple => json.tuple.push(number),
                Evidence::Netns => json.netns.push(number),
            }
            if !user.is_maker && user.evidence != Evidence::Netns {
                json.inherited.push(number);
            }
        }
        json
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Processes by their numbers.
pub(super) fn numbers(processes: &Processes, ids: &[ProcessId]) -> Vec<ProcessNumber> {
    ids.iter().filter_map(|id| number(processes, *id)).collect()
}

fn number(processes: &Processes, id: ProcessId) -> Option<ProcessNumber> {
    processes.get(id).map(|process| process.number)
}

#[derive(Serialize)]
pub(super) struct JsonAttribution<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    flows: JsonAttributionCounts,
    lost: JsonProcessesLost,
}

#[derive(Serialize)]
struct JsonAttributionCounts {
    #[serde(skip_serializing_if = "is_zero")]
    socket: u64,
    #[serde(skip_serializing_if = "is_zero")]
    tuple: u64,
    #[serde(skip_serializing_if = "is_zero")]
    netns: u64,
    #[serde(skip_serializing_if = "is_zero")]
    kernel: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unattributed: u64,
}

#[derive(Serialize)]
struct JsonProcessesLost {
    #[serde(skip_serializing_if = "is_zero")]
    events: u64,
    #[serde(skip_serializing_if = "is_zero")]
    sockets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    exited: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unknown_records: u64,
    #[serde(skip_serializing_if = "is_zero")]
    over_limit: u64,
}

#[derive(Serialize)]
pub(super) struct JsonProcess<'a> {
    number: ProcessNumber,
    pid: u32,
    started: String,
    ppid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ProcessNumber>,
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: Option<&'a [String]>,
    #[serde(skip_serializing_if = "is_false")]
    cmdline_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<JsonProcessEndpoint>,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    ingress: JsonCounters,
}

#[derive(Serialize)]
struct JsonProcessEndpoint {
    remote: String,
    port: u16,
    protocol: Cow<'static, str>,
    direction: &'static str,
    flows: u64,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    ingress: JsonCounters,
}

#[derive(Serialize)]
pub(super) struct JsonAttempt<'a> {
    #[serde(flatten)]
    target: JsonTarget<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Cow<'static, str>>,
    cause: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_error: Option<JsonIcmpError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_code: Option<&'a str>,
    count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    packets: u64,
    first_seen: String,
    #[serde(skip_serializing_if = "is_zero")]
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessNumber>,
}

/// The target of an attempt: an address, a name, or a path.
#[derive(Default, Serialize)]
struct JsonTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct JsonLocalSocket<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    connections: u64,
    #[serde(skip_serializing_if = "is_zero")]
    failed_connections: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missing_connections: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<ProcessNumber>,
}

impl<'a> From<&'a Report> for JsonAttribution<'a> {
    fn from(report: &'a Report) -> Self {
        let (state, reason) = match &report.processes.attribution {
            Attribution::On => ("on", None),
            Attribution::Absent => ("absent", None),
            Attribution::Off(reason) => ("off", Some(reason.as_str())),
        };
        let crate::report::AttributionCounts { socket, tuple, netns, kernel, unattributed } =
            report.attribution_counts();
        let flows = JsonAttributionCounts { socket, tuple, netns, kernel, unattributed };
        let ProcessLosses { events, sockets, gone, unreadable, unknown, beyond } = report.processes.lost;
        let lost = JsonProcessesLost {
            events,
            sockets,
            exited: gone,
            unreadable,
            unknown_records: unknown,
            over_limit: beyond,
        };
        Self { state, reason, flows, lost }
    }
}

/// The processes of a report, converted one at a time.
pub(super) fn processes(report: &Report) -> impl Iterator<Item = JsonProcess<'_>> {
    let list = report.processes.list.iter().zip(report.by_process());
    list.map(|(process, traffic)| json_process(&report.processes, process, &traffic))
}

fn json_process<'a>(processes: &Processes, process: &'a Process, traffic: &ProcessTraffic) -> JsonProcess<'a> {
    JsonProcess {
        number: process.number,
        pid: process.pid,
        started: rfc3339(process.start_ns),
        ppid: process.ppid,
        parent: process.parent.and_then(|parent| number(processes, parent)),
        comm: &process.comm,
        exe: process.exe.as_deref(),
        cmdline: process.cmdline.as_deref(),
        cmdline_truncated: process.cmdline_cut,
        uid: process.uid,
        endpoints: json_endpoints(traffic),
        egress: traffic.total.counters.egress.into(),
        ingress: traffic.total.counters.ingress.into(),
    }
}

/// By key: hosts that share an address are one.
fn json_endpoints(traffic: &ProcessTraffic) -> Vec<JsonProcessEndpoint> {
    let mut sums: BTreeMap<&EndpointKey, FlowSum> = BTreeMap::new();
    for ((key, _), sum) in &traffic.endpoints {
        sums.entry(key).or_default().add_sum(sum);
    }
    sums.into_iter().map(json_endpoint).collect()
}

fn json_endpoint((key, sum): (&EndpointKey, FlowSum)) -> JsonProcessEndpoint {
    JsonProcessEndpoint {
        remote: remote_name(&key.remote),
        port: key.port,
        protocol: protocol_name(key.protocol),
        direction: key.direction.of_flow(),
        flows: sum.flows,
        egress: sum.counters.egress.into(),
        ingress: sum.counters.ingress.into(),
    }
}

/// Failed attempts as the summary counts them, converted one at a time.
pub(super) fn attempts(report: &Report) -> impl Iterator<Item = JsonAttempt<'_>> {
    report.counted_attempts().into_iter().map(|counted| json_attempt(&report.processes, &counted))
}

fn json_attempt<'a>(processes: &Processes, counted: &Failure<'a>) -> JsonAttempt<'a> {
    let attempt = counted.attempt;
    let r#type = (!counted.kinds.is_empty()).then(|| counted.kinds.join(", "));
    JsonAttempt {
        target: JsonTarget { name: counted.name, r#type, ..JsonTarget::from(&attempt.target) },
        protocol: attempt.protocol.map(protocol_name),
        cause: attempt.cause.name(),
        errno: if let AttemptCause::Errno(errno) = attempt.cause { Some(errno) } else { None },
        icmp_error: if let AttemptCause::Icmp(error) = attempt.cause { Some(error.into()) } else { None },
        response_code: if let AttemptCause::Dns(code) = &attempt.cause { Some(code) } else { None },
        count: counted.count,
        packets: counted.packets,
        first_seen: rfc3339(counted.first_ns),
        duration_ns: counted.last_ns.saturating_sub(counted.first_ns),
        process: attempt.process.and_then(|id| number(processes, id)),
    }
}

impl<'a> From<&'a AttemptTarget> for JsonTarget<'a> {
    fn from(target: &'a AttemptTarget) -> Self {
        match target {
            AttemptTarget::Address(address) => {
                Self { remote: Some(address.ip().to_string()), port: Some(address.port()), ..Self::default() }
            }
            AttemptTarget::Name(name, _) => Self { name: Some(name), ..Self::default() },
            AttemptTarget::LocalSocket(path) => Self { path: Some(path), ..Self::default() },
        }
    }
}

/// Local sockets that the target connected or sent to, converted one at a time.
pub(super) fn local_sockets(processes: &Processes) -> impl Iterator<Item = JsonLocalSocket<'_>> {
    processes.local_sockets.iter().map(|peer| local_socket(processes, peer))
}

fn local_socket<'a>(processes: &Processes, peer: &'a LocalSocket) -> JsonLocalSocket<'a> {
    JsonLocalSocket {
        path: &peer.path,
        connections: peer.connections,
        failed_connections: peer.failed,
        missing_connections: peer.missing,
        processes: numbers(processes, &peer.processes),
    }
}
