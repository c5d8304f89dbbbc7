//! The server view: services that remotes connected to, by local port, each with its clients.

use std::collections::BTreeMap;

use super::hosts::{EndpointGroup, groups, label};
use super::table::{ColumnKind, HtmlCell, HtmlTable, TableParts, column, detail};
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
    let services: BTreeMap<_, _> = report.services().into_iter().map(|one| ((one.protocol, one.port), one)).collect();
    let ports = report.served_ports();
    let is_served = |key: &EndpointKey| key.is_service() && ports.contains(&(key.protocol, key.port));
    let groups = groups(report, is_served, |known| words::service(&known.endpoint.key));
    let row = |group: &EndpointGroup<'_>| {
        let sum = group.sum(&handshakes);
        let protocol = |known: &ReportEndpoint| known.application.as_ref().map(words::application).unwrap_or_default();
        let key = group.endpoints.first().map(|known| (known.endpoint.key.protocol, known.endpoint.key.port));
        let service = key.and_then(|key| services.get(&key));
        let times = |part| service.and_then(|one| one.activity.exchanges.times.quantile(part, 100));
        let published = service.map(|one| one.published.iter().map(u16::to_string).collect::<Vec<_>>().join(", "));
        let measured = service.map_or(0, |one| one.activity.exchanges.times.count());
        vec![
            HtmlCell::text(&group.label),
            HtmlCell::text(published.unwrap_or_default()),
            HtmlCell::text(group.distinct(protocol)),
            HtmlCell::text(group.programs(report)),
            HtmlCell::Number(group.endpoints.len() as u64),
            HtmlCell::Number(sum.connections),
            HtmlCell::unless_zero(sum.failed),
            HtmlCell::Number(sum.counters.egress.wire_bytes),
            HtmlCell::Number(sum.counters.ingress.wire_bytes),
            HtmlCell::number(sum.handshake_ns),
            HtmlCell::number(times(50)),
            HtmlCell::unless_zero(service.map_or(0, |one| one.activity.exchanges.server_errors())),
            HtmlCell::number(times(99)),
            HtmlCell::unless_zero(measured),
            HtmlCell::text(service.and_then(words::unmeasured).unwrap_or_default()),
            HtmlCell::text(service.and_then(words::statuses).unwrap_or_default()),
            HtmlCell::text(service.map(|one| words::rates(report, one).join(", ")).unwrap_or_default()),
        ]
    };
    HtmlTable {
        id: "services-table",
        caption: "Inbound services",
        columns: vec![
            column("Local port", ColumnKind::Code, "protocol and port that remotes connected to"),
            detail("Host port", ColumnKind::Code, "of --publish"),
            column("Protocol", ColumnKind::Text, "with ?: guessed from the port"),
            column("Program", ColumnKind::Text, ""),
            column("Clients", ColumnKind::Count, "addresses that connected"),
            column("Connections", ColumnKind::Count, "TCP: handshakes begun; others: flows"),
            column("Failed", ColumnKind::Count, "failed attempts"),
            column("Sent", ColumnKind::Bytes, "by the program"),
            column("Received", ColumnKind::Bytes, "by the program"),
            column("Handshake", ColumnKind::Duration, "median time of the TCP handshakes"),
            column(
                "Response",
                ColumnKind::Duration,
                "median from the last byte of a request to the first of its response",
            ),
            column("5xx", ColumnKind::Count, "responses of HTTP/1 with a failure of the server"),
            detail("Response p99", ColumnKind::Duration, "99 of 100 responses began within it"),
            detail("Measured", ColumnKind::Count, "responses with a time: of the first exchanges of each connection"),
            detail("Not measured", ColumnKind::Text, "what the response times leave out"),
            detail("HTTP", ColumnKind::Text, "responses of HTTP/1 by their status"),
            detail("Rates", ColumnKind::Text, "means of the run, and the highest of any second"),
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
