//! The hosts: endpoints grouped by name and service, whatever their addresses, as a table, or as
//! lines below each other where that is too wide.

use std::collections::BTreeMap;

use super::endpoints::{apart, port};
use super::grid::{self, GridRow};
use super::host_loopback;
use super::line::{Line, Style};
use super::text::{cut, wrap};
use super::units::{bytes, count, duration, plural};
use crate::flow::{Counters, Direction, PerDirection, Protocol, Remote};
use crate::format::{escape, words};
use crate::report::{DnsForwarder, InboundService, Report, ReportEndpoint};

const TITLES: [&str; 6] = ["HOST", "SERVICE", "CONN", "SENT", "RECEIVED", "RTT"];
/// The columns that are aligned left.
const LEFT: usize = 2;

/// Up to this number, the clients of a service have a row each; more of them are one row.
const MAX_LISTED_CLIENTS: u64 = 3;

/// A host and a port.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct HostPort {
    host: String,
    /// `tcp/443`; of the DNS forwarder, its resolvers.
    port: String,
    is_inbound: bool,
    is_dns: bool,
}

/// A host and a service.
struct HostRow {
    host: String,
    service: String,
    is_dns: bool,
    sum: HostSum,
}

/// Sums of endpoints.
#[derive(Default)]
struct HostSum {
    connections: u64,
    counters: PerDirection<Counters>,
    handshakes_ns: Vec<u64>,
}

pub(super) fn lines(report: &Report, max: usize, width: usize) -> Vec<Line> {
    let hosts = hosts(report);
    let mut rows: Vec<GridRow> = Vec::new();
    // A row "1 more" would take as much space as the host itself.
    let shown = if hosts.len() == max + 1 { max + 1 } else { max };
    rows.extend(hosts.iter().take(shown).map(row));
    if hosts.len() > shown {
        rows.push(rest(&hosts[shown..]));
    }
    rows.extend(apart(report).map(|(name, counters, style)| {
        let row = grid_row(name, "", None, counters, String::new());
        GridRow { style, ..row }
    }));
    if rows.is_empty() {
        return match no_traffic(report) {
            Some(text) => vec![Line::new(Style::Plain, text), Line::default()],
            None => Vec::new(),
        };
    }
    let header = GridRow { cells: TITLES.map(str::to_owned).into(), style: Style::Faint, ..GridRow::default() };
    rows.insert(0, header);
    let mut lines = grid::lines(&rows, LEFT, width).unwrap_or_else(|| below_each_other(&rows, width));
    lines.push(Line::default());
    lines
}

/// What stands for an empty table; nothing below failures, or above the services of the host.
pub(super) fn no_traffic(report: &Report) -> Option<&'static str> {
    if !report.failures().is_empty() || host_loopback::text(report).is_some() {
        return None;
    }
    Some(if report.loopback.totals.both().is_zero() { "no traffic" } else { "no traffic outside the namespace" })
}

/// Number of remotes with a port or protocol, which `lines` adds up.
pub(in crate::format) fn connections(report: &Report) -> u64 {
    report.connection_count()
}

/// The largest first, DNS last.
fn hosts(report: &Report) -> Vec<HostRow> {
    let (handshakes, services, errors) = (report.handshakes(), crowded_services(report), report.icmp_errors());
    let mut hosts: BTreeMap<HostPort, BTreeMap<Option<String>, HostSum>> = BTreeMap::new();
    let endpoints = report.endpoints.iter().zip(handshakes);
    for (known, times) in endpoints.filter(|(known, _)| !errors.contains(&known.endpoint.key)) {
        let (host, application) = title(report, known, &services);
        let endpoint = &known.endpoint;
        let application = Some(application).filter(|proven| !proven.is_empty() || !endpoint.has_only_failed());
        let sum = hosts.entry(host).or_default().entry(application).or_default();
        sum.connections += endpoint.connections;
        sum.counters += endpoint.counters;
        match times.is_empty() {
            false => sum.handshakes_ns.extend(times),
            true => sum.handshakes_ns.extend(endpoint.handshake_rtt_ns),
        }
    }
    let mut hosts: Vec<HostRow> = hosts.into_iter().flat_map(|(host, sums)| rows_of(&host, sums)).collect();
    hosts.sort_by_key(|row| (row.is_dns, std::cmp::Reverse(row.sum.counters.both().wire_bytes)));
    hosts
}

/// A row for each protocol that the content of connections proves, and one for those that prove
/// none. Endpoints whose connections only failed (`None`) belong to the row with most bytes.
fn rows_of(host: &HostPort, mut sums: BTreeMap<Option<String>, HostSum>) -> Vec<HostRow> {
    if sums.len() > 1
        && let Some(failed) = sums.remove(&None)
        && let Some(largest) = sums.values_mut().max_by_key(|sum| sum.counters.both().wire_bytes)
    {
        largest.connections += failed.connections;
        largest.counters += failed.counters;
        largest.handshakes_ns.extend(failed.handshakes_ns);
    }
    let row = |(application, sum): (Option<String>, HostSum)| {
        let application = application.unwrap_or_default();
        let direction = if host.is_inbound { "in" } else { "" };
        let parts = [host.port.as_str(), &application, direction];
        let service = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        HostRow { host: host.host.clone(), service, is_dns: host.is_dns, sum }
    };
    sums.into_iter().map(row).collect()
}

/// Services with more clients than have a row each, by protocol and port.
fn crowded_services(report: &Report) -> BTreeMap<(Protocol, u16), InboundService> {
    let crowded = report.services().into_iter().filter(|service| service.clients > MAX_LISTED_CLIENTS);
    crowded.map(|service| ((service.protocol, service.port), service)).collect()
}

/// Host and port, and the protocol that the content proves. The clients of a crowded service are
/// one host.
fn title(
    report: &Report,
    known: &ReportEndpoint,
    services: &BTreeMap<(Protocol, u16), InboundService>,
) -> (HostPort, String) {
    let key = &known.endpoint.key;
    if let Some(via) = words::via(report, &known.endpoint) {
        let host = DnsForwarder::NAME.to_owned();
        return (HostPort { host, port: via, is_inbound: false, is_dns: true }, String::new());
    }
    let address = match key.remote {
        Remote::Address(address) => address.to_string(),
        Remote::Others => "other remotes".to_owned(),
    };
    let crowded = services.get(&(key.protocol, key.port)).filter(|_| key.direction == Direction::Ingress);
    let clients = crowded.map(|service| {
        let clients = plural(service.clients, "client", "clients");
        if service.at_least { format!("at least {clients}") } else { clients }
    });
    let name = known.display_name.as_ref().map_or(address, |display| escape(display.name.as_str()).into_owned());
    let application = crowded.map_or(known.application.as_ref(), |service| service.application.as_ref());
    let proven = application.filter(|application| application.is_proven());
    let application = proven.map_or_else(String::new, |application| escape(&application.name).into_owned());
    let is_inbound = key.direction == Direction::Ingress;
    let host = clients.filter(|_| is_inbound).unwrap_or(name);
    (HostPort { host, port: port(key), is_inbound, is_dns: false }, application)
}

fn row(host: &HostRow) -> GridRow {
    let rtt = median(host.sum.handshakes_ns.clone()).map_or_else(|| "-".to_owned(), duration);
    grid_row(&host.host, &host.service, Some(host.sum.connections), host.sum.counters, rtt)
}

/// The median; of an even number of values, the lower one in the middle, so that it was measured.
pub(in crate::format) fn median(mut values: Vec<u64>) -> Option<u64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

fn rest(hosts: &[HostRow]) -> GridRow {
    let connections = hosts.iter().map(|host| host.sum.connections).sum();
    let counters = hosts.iter().map(|host| host.sum.counters).sum();
    grid_row(&format!("… {} more", count(hosts.len() as u64)), "", Some(connections), counters, String::new())
}

fn grid_row(
    host: &str,
    service: &str,
    connections: Option<u64>,
    counters: PerDirection<Counters>,
    rtt: String,
) -> GridRow {
    let cells = vec![
        host.to_owned(),
        service.to_owned(),
        connections.map(count).unwrap_or_default(),
        bytes(counters.egress.wire_bytes),
        bytes(counters.ingress.wire_bytes),
        rtt,
    ];
    GridRow { cells, ..GridRow::default() }
}

fn below_each_other(rows: &[GridRow], width: usize) -> Vec<Line> {
    let lines = |row: &GridRow| {
        let [host, service, connections, sent, received, rtt] =
            <[String; 6]>::try_from(row.cells.clone()).unwrap_or_default();
        let mut about: Vec<String> = [service].into_iter().filter(|text| !text.is_empty()).collect();
        if !connections.is_empty() {
            about.push(format!("{connections} conn"));
        }
        about.extend([format!("{sent} sent"), format!("{received} received")]);
        about.extend((!["", "-"].contains(&rtt.as_str())).then(|| format!("rtt {rtt}")));
        let about = wrap(&about.join(", "), width - 2).into_iter();
        let about = about.map(|part| Line::new(Style::Plain, format!("  {part}")));
        std::iter::once(Line::new(Style::Strong, cut(&host, width))).chain(about).collect::<Vec<_>>()
    };
    rows.iter().skip(1).flat_map(lines).collect()
}

/// `10 endpoints, 35 connections, 121 kB sent, 1.87 MB received`.
pub(super) fn totals(report: &Report) -> String {
    let PerDirection { egress, ingress } = report.totals;
    let parts = [
        plural(report.endpoint_count(), "endpoint", "endpoints"),
        plural(connections(report), "connection", "connections"),
        format!("{} sent", bytes(egress.wire_bytes)),
        format!("{} received", bytes(ingress.wire_bytes)),
    ];
    words::with_plain_spaces(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_joins_a_row_with_a_protocol() {
        let host = HostPort { host: "app.example".into(), port: "tcp/443".into(), is_inbound: false, is_dns: false };
        let sum = |connections| HostSum { connections, ..HostSum::default() };
        let rows = |sums: &[(Option<&str>, u64)]| {
            let sums = sums.iter().map(|(proven, connections)| (proven.map(str::to_owned), sum(*connections)));
            let rows = rows_of(&host, sums.collect()).into_iter();
            rows.map(|row| (row.service, row.sum.connections)).collect::<Vec<_>>()
        };
        let row = |service: &str, connections| (service.to_owned(), connections);
        assert_eq!(rows(&[(Some("tls"), 2), (None, 1)]), [row("tcp/443 tls", 3)]);
        assert_eq!(rows(&[(Some("tls"), 2), (Some(""), 1)]), [row("tcp/443", 1), row("tcp/443 tls", 2)]);
        assert_eq!(rows(&[(None, 1)]), [row("tcp/443", 1)]);
    }
}
