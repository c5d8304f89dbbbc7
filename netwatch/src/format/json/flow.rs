//! Flows and endpoints as JSON objects.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::document::{JsonCounters, JsonPayload, protocol_name, remote_name};
use super::naming::JsonNames;
use super::process::{self, JsonUsers};
use super::{is_false, is_zero};
use crate::flow::{self, Counters, Direction, EndReason, Flow, PerDirection, Protocol, TcpFacts};
use crate::format::rfc3339;
use crate::process::ProcessNumber;
use crate::report::{Report, ReportEndpoint, ReportFlow};

#[derive(Serialize)]
pub(super) struct JsonFlow<'a> {
    protocol: Cow<'static, str>,
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    /// Left out if the target opened the flow, as it did nearly all.
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(skip_serializing_if = "is_false")]
    fragment: bool,
    /// It leads to a service of the host's loopback.
    #[serde(skip_serializing_if = "is_false")]
    host_loopback: bool,
    /// It was open before netwatch attached.
    #[serde(skip_serializing_if = "is_false")]
    started_before: bool,
    first_seen: String,
    #[serde(skip_serializing_if = "is_zero")]
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "JsonFlowCounters::is_zero")]
    egress: JsonFlowCounters,
    #[serde(skip_serializing_if = "JsonFlowCounters::is_zero")]
    ingress: JsonFlowCounters,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<JsonPayload>,
    /// Left out if it is 1, as of nearly every TCP flow, and for protocols without connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_rtt_ns: Option<u64>,
    #[serde(flatten)]
    rtt: JsonRtt,
    #[serde(flatten)]
    failed: JsonFailed,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_error: Option<JsonIcmpError>,
    #[serde(flatten)]
    names: JsonNames<'a>,
    #[serde(skip_serializing_if = "JsonUsers::is_empty")]
    processes: JsonUsers,
}

/// The counters of one direction, and what TCP adds to them.
#[derive(Default, PartialEq, Serialize)]
struct JsonFlowCounters {
    #[serde(flatten)]
    counters: JsonBriefCounters,
    /// Left out if they are [`USUAL_FLAGS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    retransmitted_packets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    retransmitted_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    resets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    zero_windows: u64,
}

/// Counters without those that repeat another, because most of a large document is flows.
#[derive(Default, PartialEq, Serialize)]
struct JsonBriefCounters {
    /// Left out if it equals `packets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    skbs: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    packets: u64,
    /// Left out if it equals `wire_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    wire_bytes: u64,
}

/// Of a single round trip, `rtt_mean_ns` is everything.
#[derive(Default, Serialize)]
struct JsonRtt {
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_min_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_mean_ns: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct JsonIcmpError {
    r#type: u8,
    code: u8,
}

#[derive(Serialize)]
pub(super) struct JsonFailed {
    #[serde(skip_serializing_if = "is_zero")]
    refused: u64,
    #[serde(skip_serializing_if = "is_zero")]
    timeout: u64,
    #[serde(skip_serializing_if = "is_zero")]
    timeout_syns: u64,
    #[serde(skip_serializing_if = "is_zero")]
    handshake_resets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unreachable: u64,
}

#[derive(Serialize)]
pub(super) struct JsonEndpoint<'a> {
    remote: String,
    port: u16,
    protocol: Cow<'static, str>,
    direction: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    fragment: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    forwarded_to: &'a [SocketAddr],
    flows: u64,
    #[serde(flatten)]
    sums: JsonSums,
    #[serde(flatten)]
    names: JsonNames<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<ProcessNumber>,
}

/// What the flows of an endpoint, or of the clients of a service, add up to.
#[derive(Serialize)]
pub(super) struct JsonSums {
    #[serde(skip_serializing_if = "is_zero")]
    pub connections: u64,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    pub egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    pub ingress: JsonCounters,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<JsonPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_rtt_ns: Option<u64>,
    #[serde(flatten)]
    pub failed: JsonFailed,
}

/// Flows, converted one at a time.
pub(super) fn flows<'a>(report: &'a Report, flows: &'a [ReportFlow]) -> impl Iterator<Item = JsonFlow<'a>> {
    flows.iter().map(move |known| json_flow(report, known))
}

/// The endpoints of a report, converted one at a time.
pub(super) fn endpoints(report: &Report) -> impl Iterator<Item = JsonEndpoint<'_>> {
    report.endpoints.iter().map(move |known| json_endpoint(report, known))
}

fn json_endpoint<'a>(report: &'a Report, known: &'a ReportEndpoint) -> JsonEndpoint<'a> {
    let endpoint = &known.endpoint;
    let key = &endpoint.key;
    JsonEndpoint {
        remote: remote_name(&key.remote),
        port: key.port,
        protocol: protocol_name(key.protocol),
        direction: key.direction.of_flow(),
        fragment: key.fragment,
        forwarded_to: report.forwarded_to(endpoint),
        flows: endpoint.flows,
        sums: JsonSums {
            connections: endpoint.connections,
            egress: endpoint.counters.egress.into(),
            ingress: endpoint.counters.ingress.into(),
            payload: JsonPayload::of(endpoint.payload),
            handshake_rtt_ns: endpoint.handshake_rtt_ns,
            failed: endpoint.failed.into(),
        },
        names: JsonNames::of_endpoint(known),
        processes: process::numbers(&report.processes, &known.processes),
    }
}

fn json_flow<'a>(report: &Report, known: &'a ReportFlow) -> JsonFlow<'a> {
    let flow = &known.flow;
    let PerDirection { egress, ingress } = counters(flow);
    JsonFlow {
        protocol: protocol_name(Protocol(flow.key.protocol)),
        local: flow.key.local.addr,
        local_port: flow.key.local.port,
        remote: flow.key.remote.addr,
        remote_port: flow.key.remote.port,
        direction: (flow.opened_by != Direction::Egress).then(|| flow.opened_by.of_flow()),
        epoch: flow.epoch.into(),
        fragment: flow.key.fragment,
        host_loopback: report.interface.host_service_of(flow).is_some(),
        started_before: report.has_started_before(flow),
        first_seen: rfc3339(flow.first_seen_ns),
        duration_ns: flow.last_seen_ns.saturating_sub(flow.first_seen_ns),
        end_reason: flow.end_reason().map(EndReason::name),
        egress,
        ingress,
        payload: JsonPayload::of(flow.payload),
        connections: flow.tcp.map(|_| flow.connections).filter(|count| *count != 1),
        handshake_rtt_ns: flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns),
        rtt: flow.tcp.map(|tcp| tcp.round_trips.into()).unwrap_or_default(),
        failed: flow.failed().into(),
        icmp_error: flow.icmp_error.map(JsonIcmpError::from),
        names: JsonNames::of_flow(known),
        processes: JsonUsers::new(&report.processes, &known.users),
    }
}

fn counters(flow: &Flow) -> PerDirection<JsonFlowCounters> {
    let TcpFacts { flags, retransmitted_packets, retransmitted_bytes, resets, zero_windows, .. } =
        flow.tcp.unwrap_or_default();
    let of = |direction| JsonFlowCounters {
        counters: (*flow.counters.of(direction)).into(),
        flags: Some(*flags.of(direction)).filter(|flags| ![0, USUAL_FLAGS].contains(flags)).map(flag_letters),
        retransmitted_packets: *retransmitted_packets.of(direction),
        retransmitted_bytes: *retransmitted_bytes.of(direction),
        resets: *resets.of(direction),
        zero_windows: *zero_windows.of(direction),
    };
    PerDirection { egress: of(Direction::Egress), ingress: of(Direction::Ingress) }
}

/// FIN, SYN, PSH and ACK: a whole connection that carried data.
const USUAL_FLAGS: u8 = 0x1b;

/// A letter per flag, lowest bit first (RFC 9293, 3.1).
fn flag_letters(flags: u8) -> String {
    const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];
    LETTERS.into_iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, letter)| letter).collect()
}

impl JsonFlowCounters {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Counters> for JsonBriefCounters {
    fn from(Counters { skbs, packets, bytes, wire_bytes }: Counters) -> Self {
        Self {
            skbs: (skbs != packets).then_some(skbs),
            packets,
            bytes: (bytes != wire_bytes).then_some(bytes),
            wire_bytes,
        }
    }
}

impl From<flow::RoundTripTimes> for JsonRtt {
    fn from(trips: flow::RoundTripTimes) -> Self {
        let several = trips.count > 1;
        Self {
            rtt_count: several.then_some(trips.count),
            rtt_min_ns: trips.min_ns.filter(|_| several),
            rtt_mean_ns: trips.mean_ns(),
        }
    }
}

impl From<flow::IcmpError> for JsonIcmpError {
    fn from(flow::IcmpError { kind, code }: flow::IcmpError) -> Self {
        Self { r#type: kind, code }
    }
}

impl From<flow::FailedAttempts> for JsonFailed {
    fn from(failed: flow::FailedAttempts) -> Self {
        let flow::FailedAttempts { refused, unanswered, unanswered_tries, reset, unreachable } = failed;
        Self { refused, timeout: unanswered, timeout_syns: unanswered_tries, handshake_resets: reset, unreachable }
    }
}
