//! Services of the target as JSON objects.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

use super::document::{JsonPayload, protocol_name};
use super::flow::JsonSums;
use super::naming::JsonApplication;
use super::{is_false, process};
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
    }
}
