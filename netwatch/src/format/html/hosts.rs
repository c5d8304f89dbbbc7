//! The hosts that the program connected to, each with its endpoints.

use std::collections::{BTreeSet, HashMap};

use super::table::{ColumnKind, HtmlCell, HtmlTable, TableParts, column, detail};
use super::tables::{listed, programs};
use crate::flow::{Counters, Direction, EndpointKey, PerDirection};
use crate::format::summary::hosts::median;
use crate::format::words;
use crate::report::{DnsForwarder, Report, ReportEndpoint};

/// Endpoints with one label.
pub(super) struct EndpointGroup<'a> {
    pub label: String,
    /// Its endpoints, and their places in the report.
    pub endpoints: Vec<&'a ReportEndpoint>,
    pub places: Vec<usize>,
}

/// Sums of a group.
#[derive(Default)]
pub(super) struct GroupSum {
    pub counters: PerDirection<Counters>,
    pub connections: u64,
    pub failed: u64,
    /// The median of the handshakes.
    pub handshake_ns: Option<u64>,
}

/// Groups some of the endpoints by a label, the group with most bytes first.
pub(super) fn groups<'a>(
    report: &'a Report,
    is_wanted: impl Fn(&EndpointKey) -> bool,
    label: impl Fn(&ReportEndpoint) -> String,
) -> Vec<EndpointGroup<'a>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<EndpointGroup<'a>> = Vec::new();
    for (at, known) in report.endpoints.iter().enumerate().filter(|(_, known)| is_wanted(&known.endpoint.key)) {
        let label = label(known);
        let place = *places.entry(label.clone()).or_insert_with(|| {
            groups.push(EndpointGroup { label, endpoints: Vec::new(), places: Vec::new() });
            groups.len() - 1
        });
        groups[place].endpoints.push(known);
        groups[place].places.push(at);
    }
    let bytes = |group: &EndpointGroup<'_>| {
        group.endpoints.iter().map(|known| known.endpoint.counters.both().wire_bytes).sum::<u64>()
    };
    groups.sort_by_cached_key(|group| std::cmp::Reverse(bytes(group)));
    groups
}

impl EndpointGroup<'_> {
    /// The sums, with the handshakes of each endpoint of the report.
    pub(super) fn sum(&self, handshakes: &[Vec<u64>]) -> GroupSum {
        let mut sum = GroupSum::default();
        let mut times: Vec<u64> = Vec::new();
        for (endpoint, place) in self.endpoints.iter().map(|known| &known.endpoint).zip(&self.places) {
            sum.counters += endpoint.counters;
            sum.connections = sum.connections.saturating_add(endpoint.connections);
            sum.failed = sum.failed.saturating_add(endpoint.failed.attempts());
            match handshakes.get(*place).filter(|known| !known.is_empty()) {
                Some(known) => times.extend(known),
                None => times.extend(endpoint.handshake_rtt_ns),
            }
        }
        sum.handshake_ns = median(times);
        sum
    }

    /// The programs that used these endpoints.
    pub(super) fn programs(&self, report: &Report) -> String {
        let ids: BTreeSet<_> = self.endpoints.iter().flat_map(|known| known.processes.iter().copied()).collect();
        programs(report, &ids.into_iter().collect::<Vec<_>>())
    }

    /// The distinct texts of its endpoints, in their order.
    pub(super) fn distinct(&self, text: impl Fn(&ReportEndpoint) -> String) -> String {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let texts: Vec<String> = self.endpoints.iter().map(|known| text(known)).collect();
        listed(texts.iter().filter(|text| !text.is_empty() && seen.insert((*text).clone())).map(String::as_str))
    }
}

/// Number of hosts that the program connected to.
pub(super) fn number(report: &Report) -> u64 {
    let outgoing = report.endpoints.iter().filter(|known| known.endpoint.key.direction == Direction::Egress);
    outgoing.map(|known| label(report, known)).collect::<BTreeSet<String>>().len() as u64
}

/// The name of the remote, or its address without one.
pub(super) fn label(report: &Report, known: &ReportEndpoint) -> String {
    match (words::via(report, &known.endpoint), &known.display_name) {
        (Some(via), _) => format!("{} {via}", DnsForwarder::NAME),
        (None, Some(display)) => display.name.as_str().to_owned(),
        (None, None) => words::address(&known.endpoint.key.remote),
    }
}

/// `tcp/443 tls`.
fn service(known: &ReportEndpoint) -> String {
    let service = words::service(&known.endpoint.key);
    match known.application.as_ref().filter(|application| application.is_proven()) {
        Some(application) => format!("{service} {}", application.name),
        None => service,
    }
}

/// The hosts.
pub(super) fn table(report: &Report) -> HtmlTable {
    let handshakes = report.handshakes();
    let groups = groups(report, |key: &EndpointKey| key.direction == Direction::Egress, |known| label(report, known));
    let row = |group: &EndpointGroup<'_>| {
        let sum = group.sum(&handshakes);
        vec![
            HtmlCell::text(&group.label),
            HtmlCell::text(group.distinct(service)),
            HtmlCell::text(group.programs(report)),
            HtmlCell::Number(sum.counters.both().wire_bytes),
            HtmlCell::Number(sum.counters.egress.wire_bytes),
            HtmlCell::Number(sum.counters.ingress.wire_bytes),
            HtmlCell::Number(sum.connections),
            HtmlCell::unless_zero(sum.failed),
            HtmlCell::number(sum.handshake_ns),
            HtmlCell::text(group.distinct(|known| listed(known.other_names().map(|name| name.as_str())))),
        ]
    };
    HtmlTable {
        id: "hosts-table",
        caption: "Hosts",
        columns: vec![
            column("Host", ColumnKind::Text, "name, or address without one"),
            column("Services", ColumnKind::Code, "protocol and port, and the protocol that the content identifies"),
            column("Programs", ColumnKind::Text, ""),
            column("Share", ColumnKind::Share, "of all bytes, both directions"),
            column("Sent", ColumnKind::Bytes, "as a wire would carry it"),
            column("Received", ColumnKind::Bytes, "as a wire would carry it"),
            column("Connections", ColumnKind::Count, "TCP: handshakes begun; others: flows"),
            column("Failed", ColumnKind::Count, "failed attempts"),
            column("Handshake", ColumnKind::Duration, "median time of the TCP handshakes"),
            detail("Other names", ColumnKind::Text, "of its addresses and flows"),
        ],
        rows: groups.iter().map(row).collect(),
        whole: report.totals.both().wire_bytes,
        empty: "The program connected to no host.",
        parts: Some(Box::new(parts(report, &groups))),
        ..HtmlTable::default()
    }
}

/// The endpoints of the groups.
fn parts(report: &Report, groups: &[EndpointGroup<'_>]) -> TableParts {
    let endpoints =
        || groups.iter().enumerate().flat_map(|(at, group)| group.endpoints.iter().map(move |one| (at, one)));
    let table = HtmlTable {
        caption: "Endpoints",
        columns: vec![
            column("Address", ColumnKind::Code, ""),
            column("Service", ColumnKind::Code, "protocol and port of the service"),
            column("Protocol", ColumnKind::Text, "with ?: guessed from the port"),
            column("Program", ColumnKind::Text, ""),
            column("Sent", ColumnKind::Bytes, ""),
            column("Received", ColumnKind::Bytes, ""),
            column("Packets", ColumnKind::Count, "both directions"),
            column("Connections", ColumnKind::Count, ""),
            column("Failed", ColumnKind::Count, ""),
            column("Handshake", ColumnKind::Duration, "median"),
            column("Name source", ColumnKind::Text, "evidence of the name"),
        ],
        rows: endpoints().map(|(_, known)| endpoint(report, known)).collect(),
        ..HtmlTable::default()
    };
    TableParts { table, of: endpoints().map(|(at, _)| at).collect() }
}

fn endpoint(report: &Report, known: &ReportEndpoint) -> Vec<HtmlCell> {
    let endpoint = &known.endpoint;
    vec![
        HtmlCell::text(words::address(&endpoint.key.remote)),
        HtmlCell::text(words::service(&endpoint.key)),
        HtmlCell::text(known.application.as_ref().map(words::application).unwrap_or_default()),
        HtmlCell::text(programs(report, &known.processes)),
        HtmlCell::Number(endpoint.counters.egress.wire_bytes),
        HtmlCell::Number(endpoint.counters.ingress.wire_bytes),
        HtmlCell::Number(endpoint.counters.both().packets),
        HtmlCell::Number(endpoint.connections),
        HtmlCell::unless_zero(endpoint.failed.attempts()),
        HtmlCell::number(endpoint.handshake_rtt_ns),
        HtmlCell::text(known.display_name.as_ref().map_or("", |display| display.source.name())),
    ]
}
