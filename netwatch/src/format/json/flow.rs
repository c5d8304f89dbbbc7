//! Flows and endpoints in JSON's shape.

use std::net::{IpAddr, SocketAddr};

use serde::{Serialize, Serializer};

use super::model::Counters;
use super::naming::Known;
use super::process::{self, JsonUser, Who};
use crate::flow::{self, EndReason, Flow, PerDirection, Protocol, Remote};
use crate::format::rfc3339;
use crate::process::Processes;
use crate::report::{self, ReportEndpoint, ReportFlow};

#[derive(Serialize)]
pub(super) struct JsonFlow<'a> {
    protocol: String,
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    direction: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    fragment: bool,
    egress: Counters,
    ingress: Counters,
    first_seen: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_error: Option<IcmpError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
    #[serde(flatten)]
    known: Known<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<JsonUser>,
}

#[derive(Serialize)]
struct Tcp {
    connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_rtt_ns: Option<u64>,
    flags: Flags,
    retransmitted: Both<Retransmitted>,
    resets: Both<u64>,
    zero_windows: Both<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trips: Option<RoundTrips>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Both<T> {
    egress: T,
    ingress: T,
}

impl<T> From<PerDirection<T>> for Both<T> {
    fn from(PerDirection { egress, ingress }: PerDirection<T>) -> Self {
        Self { egress, ingress }
    }
}

#[derive(Serialize)]
struct Retransmitted {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct RoundTrips {
    count: u64,
    min_ns: u64,
    mean_ns: u64,
}

#[derive(Serialize)]
struct Flags {
    egress: Vec<&'static str>,
    ingress: Vec<&'static str>,
}

#[derive(Serialize)]
struct IcmpError {
    r#type: u8,
    code: u8,
}

#[derive(Serialize)]
struct Failed {
    attempts: u64,
    refused: u64,
    unanswered: u64,
    unanswered_tries: u64,
    reset: u64,
    unreachable: u64,
}

#[derive(Serialize)]
pub(super) struct JsonEndpoint<'a> {
    remote: String,
    port: u16,
    protocol: String,
    direction: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    fragment: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    forwarded_to: &'a [SocketAddr],
    flows: u64,
    connections: u64,
    egress: Counters,
    ingress: Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_rtt_ns: Option<u64>,
    failed: Failed,
    #[serde(flatten)]
    known: Known<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<Who>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A list of flows, converted one at a time, and the report's processes.
pub(super) struct Flows<'a>(pub &'a [ReportFlow], pub &'a Processes);

impl<'a> Flows<'a> {
    pub fn each(&self) -> impl Iterator<Item = JsonFlow<'a>> + use<'a> {
        let Self(flows, processes) = *self;
        flows.iter().map(|known| json_flow(known, processes))
    }
}

impl Serialize for Flows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}

/// A report's endpoints, converted one at a time.
pub(super) struct Endpoints<'a>(pub &'a report::Report);

impl<'a> Endpoints<'a> {
    pub fn each(&self) -> impl Iterator<Item = JsonEndpoint<'a>> + use<'a> {
        let report = self.0;
        report.endpoints.iter().map(|known| json_endpoint(report, known))
    }
}

impl Serialize for Endpoints<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.each())
    }
}

fn json_endpoint<'a>(report: &'a report::Report, known: &'a ReportEndpoint) -> JsonEndpoint<'a> {
    let endpoint = &known.endpoint;
    let key = &endpoint.key;
    JsonEndpoint {
        remote: match key.remote {
            Remote::Address(address) => address.to_string(),
            Remote::Others => "others".to_owned(),
        },
        port: key.port,
        protocol: key.protocol.to_string(),
        direction: key.direction.of_flow(),
        fragment: key.fragment,
        forwarded_to: report.forwarded_to(endpoint),
        flows: endpoint.flows,
        connections: endpoint.connections,
        egress: endpoint.counters.egress.into(),
        ingress: endpoint.counters.ingress.into(),
        handshake_rtt_ns: endpoint.handshake_rtt_ns,
        failed: endpoint.failed.into(),
        known: Known::of_endpoint(known),
        processes: process::all(&report.processes, &known.processes),
    }
}

fn json_flow<'a>(known: &'a ReportFlow, processes: &Processes) -> JsonFlow<'a> {
    let flow = &known.flow;
    let failed = flow.failed();
    JsonFlow {
        protocol: Protocol(flow.key.protocol).to_string(),
        local: flow.key.local.addr,
        local_port: flow.key.local.port,
        remote: flow.key.remote.addr,
        remote_port: flow.key.remote.port,
        direction: flow.opened_by.of_flow(),
        fragment: flow.key.fragment,
        egress: flow.counters.egress.into(),
        ingress: flow.counters.ingress.into(),
        first_seen: rfc3339(flow.first_seen_ns),
        last_seen: rfc3339(flow.last_seen_ns),
        tcp: tcp(flow),
        icmp_error: flow.icmp_error.map(|error| IcmpError { r#type: error.kind, code: error.code }),
        failed: (failed.attempts() > 0).then(|| failed.into()),
        known: Known::of_flow(known),
        processes: process::users(processes, &known.users),
    }
}

fn tcp(flow: &Flow) -> Option<Tcp> {
    let facts = flow.tcp?;
    let PerDirection { egress, ingress } = facts.flags.map(flag_names);
    Some(Tcp {
        connections: flow.connections,
        handshake_rtt_ns: facts.handshake_rtt_ns,
        flags: Flags { egress, ingress },
        retransmitted: facts
            .retransmitted_packets
            .zip(facts.retransmitted_bytes, |packets, bytes| Retransmitted { packets, bytes })
            .into(),
        resets: facts.resets.into(),
        zero_windows: facts.zero_windows.into(),
        round_trips: round_trips(&facts.round_trips),
        end_reason: flow.end_reason().map(EndReason::name),
    })
}

fn round_trips(trips: &flow::RoundTrips) -> Option<RoundTrips> {
    let (count, min_ns, mean_ns) = (trips.count, trips.min_ns?, trips.mean_ns()?);
    Some(RoundTrips { count, min_ns, mean_ns })
}

/// Lowest bit first (RFC 9293, 3.1).
fn flag_names(flags: u8) -> Vec<&'static str> {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    NAMES.into_iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, name)| name).collect()
}

impl From<flow::Failed> for Failed {
    fn from(failed: flow::Failed) -> Self {
        Self {
            attempts: failed.attempts(),
            refused: failed.refused,
            unanswered: failed.unanswered,
            unanswered_tries: failed.unanswered_tries,
            reset: failed.reset,
            unreachable: failed.unreachable,
        }
    }
}
