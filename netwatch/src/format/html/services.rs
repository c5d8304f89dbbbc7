//! The server view: services that remotes connected to, by local port, each with its clients.

use super::hosts::{EndpointGroup, groups, label};
use super::table::{ColumnKind, HtmlCell, HtmlTable, TableParts, column};
use crate::flow::EndpointKey;
use crate::format::words;
use crate::report::{Report, ReportEndpoint};

/// Whether a remote opened anything.
pub(super) fn has_any(report: &Report) -> bool {
    !report.served_ports().is_empty()
}

/// The services.
pub(super) fn table(report: &Report) -> HtmlTable {
    let handshakes = report.handshakes();
    let ports = report.served_ports();
    let is_served = |key: &EndpointKey| key.is_service() && ports.contains(&(key.protocol, key.port));
    let groups = groups(report, is_served, |known| words::service(&known.endpoint.key));
    let row = |group: &EndpointGroup<'_>| {
        let sum = group.sum(&handshakes);
        let protocol = |known: &ReportEndpoint| known.application.as_ref().map(words::application).unwrap_or_default();
        vec![
            HtmlCell::text(&group.label),
            HtmlCell::text(group.distinct(protocol)),
            HtmlCell::text(group.programs(report)),
            HtmlCell::Number(group.endpoints.len() as u64),
            HtmlCell::Number(sum.connections),
            HtmlCell::unless_zero(sum.failed),
            HtmlCell::Number(sum.counters.egress.wire_bytes),
            HtmlCell::Number(sum.counters.ingress.wire_bytes),
            HtmlCell::number(sum.handshake_ns),
        ]
    };
    HtmlTable {
        id: "services-table",
        caption: "Inbound services",
        columns: vec![
            column("Local port", ColumnKind::Code, "protocol and port that remotes connected to"),
            column("Protocol", ColumnKind::Text, "with ?: guessed from the port"),
            column("Program", ColumnKind::Text, ""),
            column("Clients", ColumnKind::Count, "addresses that connected"),
            column("Connections", ColumnKind::Count, "TCP: handshakes begun; others: flows"),
            column("Failed", ColumnKind::Count, "failed attempts"),
            column("Sent", ColumnKind::Bytes, "by the program"),
            column("Received", ColumnKind::Bytes, "by the program"),
            column("Handshake", ColumnKind::Duration, "median time of the TCP handshakes"),
        ],
        rows: groups.iter().map(row).collect(),
        empty: "No remote connected to the program.",
        parts: Some(Box::new(clients(report, &groups))),
        ..HtmlTable::default()
    }
}

fn clients(report: &Report, groups: &[EndpointGroup<'_>]) -> TableParts {
    let clients = || groups.iter().enumerate().flat_map(|(at, group)| group.endpoints.iter().map(move |one| (at, one)));
    let row = |known: &ReportEndpoint| {
        let endpoint = &known.endpoint;
        vec![
            HtmlCell::text(label(report, known)),
            HtmlCell::text(words::address(&endpoint.key.remote)),
            HtmlCell::Number(endpoint.connections),
            HtmlCell::unless_zero(endpoint.failed.attempts()),
            HtmlCell::Number(endpoint.counters.egress.wire_bytes),
            HtmlCell::Number(endpoint.counters.ingress.wire_bytes),
            HtmlCell::number(endpoint.handshake_rtt_ns),
        ]
    };
    let table = HtmlTable {
        caption: "Clients",
        columns: vec![
            column("Client", ColumnKind::Text, "name, or address without one"),
            column("Address", ColumnKind::Code, ""),
            column("Connections", ColumnKind::Count, ""),
            column("Failed", ColumnKind::Count, ""),
            column("Sent", ColumnKind::Bytes, "by the program"),
            column("Received", ColumnKind::Bytes, "by the program"),
            column("Handshake", ColumnKind::Duration, "median"),
        ],
        rows: clients().map(|(_, known)| row(known)).collect(),
        ..HtmlTable::default()
    };
    TableParts { table, of: clients().map(|(at, _)| at).collect() }
}
