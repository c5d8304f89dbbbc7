//! Services of the target as JSON objects.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

use super::document::{JsonPayload, protocol_name};
use super::flow::JsonSums;
use super::naming::JsonApplication;
use super::series::JsonTimes;
use super::{is_false, is_zero, process};
use crate::name::ServiceExchanges;
use crate::process::ProcessNumber;
use crate::report::{InboundService, Report};

#[derive(Serialize)]
pub(super) struct JsonService {
    protocol: Cow<'static, str>,
    port: u16,
    clients: u64,
    #[serde(skip_serializing_if = "is_false")]
    at_least: bool,
    #[serde(flatten)]
    sums: JsonSums,
    #[serde(flatten)]
    application: JsonApplication<'static>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<ProcessNumber>,
    top_clients: Vec<JsonClient>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_second: Option<JsonRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wire_bytes_per_second: Option<JsonRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanges: Option<JsonExchanges>,
}

#[derive(Serialize)]
struct JsonRate {
    mean: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<u64>,
}

/// Requests and their responses.
#[derive(Serialize)]
struct JsonExchanges {
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<JsonTimes>,
    unmeasured: u64,
    sampled_request_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsampled_request_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<JsonStatuses>,
}

/// Responses of HTTP/1 by the first digit of their status.
#[derive(Serialize)]
struct JsonStatuses {
    #[serde(rename = "1xx", skip_serializing_if = "is_zero")]
    informational: u64,
    #[serde(rename = "2xx", skip_serializing_if = "is_zero")]
    success: u64,
    #[serde(rename = "3xx", skip_serializing_if = "is_zero")]
    redirection: u64,
    #[serde(rename = "4xx", skip_serializing_if = "is_zero")]
    client_error: u64,
    #[serde(rename = "5xx", skip_serializing_if = "is_zero")]
    server_error: u64,
}

impl JsonExchanges {
    fn of(service: &InboundService) -> Option<Self> {
        let exchanges = &service.activity.exchanges;
        let ServiceExchanges { times, unmeasured, statuses, request_bytes } = exchanges;
        let [informational, success, redirection, client_error, server_error] = *statuses;
        let has_status = statuses.iter().any(|count| *count > 0);
        (!exchanges.is_empty()).then(|| Self {
            response: JsonTimes::of(times),
            unmeasured: *unmeasured,
            sampled_request_bytes: *request_bytes,
            unsampled_request_bytes: service.unsampled_request_bytes(),
            statuses: has_status.then_some(JsonStatuses {
                informational,
                success,
                redirection,
                client_error,
                server_error,
            }),
        })
    }
}

#[derive(Serialize)]
struct JsonClient {
    address: IpAddr,
    wire_bytes: u64,
}

/// The services of a report.
pub(super) fn services(report: &Report) -> impl Iterator<Item = JsonService> {
    report.services().into_iter().map(|service| json_service(report, service))
}

fn json_service(report: &Report, service: InboundService) -> JsonService {
    let peak = service.activity.peak;
    let rate = |number, peak| {
        // Three digits after the point are exact enough, and the same on every machine.
        let mean = (InboundService::per_second(report, number)? * 1e3).round() / 1e3;
        Some(JsonRate { mean, peak })
    };
    let wire_bytes = service.counters.both().wire_bytes;
    let connections_per_second = rate(service.connections, peak.map(|peak| peak.connections));
    let wire_bytes_per_second = rate(wire_bytes, peak.map(|peak| peak.wire_bytes));
    let exchanges = JsonExchanges::of(&service);
    let client = |(address, wire_bytes)| JsonClient { address, wire_bytes };
    JsonService {
        protocol: protocol_name(service.protocol),
        port: service.port,
        clients: service.clients,
        at_least: service.at_least,
        sums: JsonSums {
            connections: service.connections,
            egress: service.counters.egress.into(),
            ingress: service.counters.ingress.into(),
            payload: JsonPayload::of(service.payload),
            handshake_rtt_ns: service.handshake_rtt_ns,
            failed: service.failed.into(),
        },
        application: service.application.map(JsonApplication::from).unwrap_or_default(),
        processes: process::numbers(&report.processes, &service.processes),
        top_clients: service.top_clients.into_iter().map(client).collect(),
        published_ports: service.published,
        connections_per_second,
        wire_bytes_per_second,
        exchanges,
    }
}
