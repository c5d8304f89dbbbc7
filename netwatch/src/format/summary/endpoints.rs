//! The endpoints: selected, converted to rows, and laid out as a table, or as blocks where that is
//! too wide.

use super::blocks;
use super::grid::{self, GridRow};
use super::hosts::no_traffic;
use super::line::{Line, Style};
use super::units::{bytes, count, duration, packets, plural};
use crate::flow::{Counters, Direction, Endpoint, EndpointKey, FailedAttempts, PerDirection, RemainderKind, Remote};
use crate::format::{escape, words};
use crate::process::AttemptCause;
use crate::report::{DnsForwarder, Report, ReportEndpoint};

/// The content of a row before layout.
pub(super) struct EndpointRow {
    /// The name of the remote, if it has one.
    pub name: Option<String>,
    /// Number of its other names.
    pub others: usize,
    /// Its address; of a sum its title.
    pub address: String,
    /// `tcp/443 tls`; empty for sums.
    pub service: String,
    /// `out` or `in`; empty for sums.
    pub direction: &'static str,
    pub connections: Option<u64>,
    pub counters: PerDirection<Counters>,
    pub handshake_rtt_ns: Option<u64>,
    pub failed: FailedAttempts,
    /// Whether the remote attempted them.
    pub by_remote: bool,
    pub style: Style,
}

/// Titles of the table; packets stand before the bytes of the same direction.
const TITLES: [&str; 9] = ["REMOTE", "SERVICE", "DIR", "CONN", "PKTS", "SENT", "PKTS", "RECEIVED", "RTT"];
/// The columns that are aligned left.
const LEFT: usize = 3;

pub(super) fn lines(report: &Report, max: usize, width: usize) -> Vec<Line> {
    let items = items(report, max);
    if items.is_empty() {
        return no_traffic(report).map(|text| Line::new(Style::Plain, text)).into_iter().collect();
    }
    // Name and address side by side where all of them fit, otherwise the address below the name.
    let (side_by_side, below) = (rows(&items, true), rows(&items, false));
    let rows = if grid::is_roomy(&side_by_side, width) { side_by_side } else { below };
    grid::lines(&rows, LEFT, width).unwrap_or_else(|| blocks::lines(&items, width))
}

fn rows(items: &[EndpointRow], side_by_side: bool) -> Vec<GridRow> {
    let header = GridRow { cells: TITLES.map(str::to_owned).into(), style: Style::Faint, ..GridRow::default() };
    std::iter::once(header).chain(items.iter().map(|item| row(item, side_by_side))).collect()
}

/// The largest endpoints, the rest as one row, remainders, and the total; nothing without traffic.
fn items(report: &Report, max: usize) -> Vec<EndpointRow> {
    // A row "1 more" would take as much space as the endpoint itself.
    let errors = report.icmp_errors();
    let is_own = |known: &&ReportEndpoint| !errors.contains(&known.endpoint.key);
    let endpoints: Vec<&ReportEndpoint> = report.endpoints.iter().filter(is_own).collect();
    let shown = if endpoints.len() == max + 1 { max + 1 } else { max };
    let (shown, hidden) = endpoints.split_at(shown.min(endpoints.len()));
    let mut items: Vec<EndpointRow> = shown.iter().map(|known| item(report, known)).collect();
    items.extend(rest(&hidden.iter().map(|known| &known.endpoint).collect::<Vec<_>>()));
    items.extend(apart(report).map(|(name, counters, style)| sum(name, None, counters, style)));
    if !items.is_empty() {
        items.push(sum("total", Some(report.connection_count()), report.totals, Style::Strong));
    }
    items
}

fn item(report: &Report, known: &ReportEndpoint) -> EndpointRow {
    let endpoint = &known.endpoint;
    EndpointRow {
        name: known.display_name.as_ref().map(|display| escape(display.name.as_str()).into_owned()),
        others: known.other_names().count(),
        address: address(report, known),
        service: service(known),
        direction: endpoint.key.direction.of_flow(),
        connections: Some(endpoint.connections),
        counters: endpoint.counters,
        handshake_rtt_ns: endpoint.handshake_rtt_ns,
        failed: endpoint.failed,
        by_remote: endpoint.key.direction == Direction::Ingress,
        style: Style::Plain,
    }
}

fn address(report: &Report, known: &ReportEndpoint) -> String {
    let endpoint = &known.endpoint;
    let address = match endpoint.key.remote {
        Remote::Address(address) => address.to_string(),
        Remote::Others => "other remotes".to_owned(),
    };
    match words::via(report, endpoint) {
        Some(via) => format!("{} {via} ({address})", DnsForwarder::NAME),
        None => address,
    }
}

/// Protocol and port, and what is application there if bytes prove it.
fn service(known: &ReportEndpoint) -> String {
    let service = port(&known.endpoint.key);
    match known.application.as_ref().filter(|application| application.is_proven()) {
        Some(application) => format!("{service} {}", escape(&application.name)),
        None => service,
    }
}

pub(super) fn port(key: &EndpointKey) -> String {
    let EndpointKey { remote, protocol, port, fragment, .. } = key;
    match protocol.name() {
        None => format!("proto {protocol}"),
        Some(name) if *fragment => format!("{name} frag"),
        Some(name) if protocol.has_ports() && matches!(remote, Remote::Address(_)) => format!("{name}/{port}"),
        Some(name) => name.to_owned(),
    }
}

fn rest(hidden: &[&Endpoint]) -> Option<EndpointRow> {
    hidden.first()?;
    let counters = hidden.iter().map(|endpoint| endpoint.counters).sum();
    let connections = hidden.iter().map(|endpoint| endpoint.connections).sum();
    let mut failed = FailedAttempts::default();
    // What remotes attempted is no failure of the target.
    let own = hidden.iter().filter(|endpoint| endpoint.key.direction == Direction::Egress);
    own.for_each(|endpoint| failed += endpoint.failed);
    let more = format!("… {} more", count(hidden.len() as u64));
    Some(EndpointRow { failed, ..sum(&more, Some(connections), counters, Style::Plain) })
}

/// ICMP errors, and packets of the target in no flow, by kind, so that the rows add up to the
/// totals.
pub(super) fn apart(report: &Report) -> impl Iterator<Item = (&'static str, PerDirection<Counters>, Style)> {
    let errors = report.icmp_errors();
    let of_errors = report.endpoints.iter().filter(|known| errors.contains(&known.endpoint.key));
    let sum: PerDirection<Counters> = of_errors.map(|known| known.endpoint.counters).sum();
    let of_errors = (!errors.is_empty()).then_some(("(ICMP errors)", sum, Style::Plain));
    let kinds = [
        (RemainderKind::Overflow, "(overflow)"),
        (RemainderKind::NonIp, "(non-IP)"),
        (RemainderKind::Malformed, "(malformed)"),
    ];
    let counted = kinds.into_iter().map(|(kind, name)| (name, report.remainders.of(kind)));
    let counted = counted.map(|(name, counters)| (name, counters, Style::Warning));
    of_errors.into_iter().chain(counted.filter(|(_, counters, _)| !counters.both().is_zero()))
}

fn sum(name: &str, connections: Option<u64>, counters: PerDirection<Counters>, style: Style) -> EndpointRow {
    EndpointRow {
        name: None,
        others: 0,
        address: name.to_owned(),
        service: String::new(),
        direction: "",
        connections,
        counters,
        handshake_rtt_ns: None,
        failed: FailedAttempts::default(),
        by_remote: false,
        style,
    }
}

impl EndpointRow {
    /// `app.example (198.51.100.10, +1 name)`, or only the address.
    pub(super) fn remote(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.clone(), |name| format!("{name} ({})", self.aside()))
    }

    /// The text beside or below a name.
    fn aside(&self) -> String {
        match self.others {
            0 => self.address.clone(),
            others => format!("{}, +{}", self.address, plural(others as u64, "name", "names")),
        }
    }
}

fn row(item: &EndpointRow, side_by_side: bool) -> GridRow {
    let Counters { packets: sent, wire_bytes: sent_bytes, .. } = item.counters.egress;
    let Counters { packets: received, wire_bytes: received_bytes, .. } = item.counters.ingress;
    let is_sum = item.service.is_empty();
    let cells = vec![
        if side_by_side { item.remote() } else { item.name.clone().unwrap_or_else(|| item.address.clone()) },
        item.service.clone(),
        item.direction.to_owned(),
        item.connections.map(count).unwrap_or_default(),
        packets(sent),
        bytes(sent_bytes),
        packets(received),
        bytes(received_bytes),
        item.handshake_rtt_ns.map_or_else(|| if is_sum { "" } else { "-" }.to_owned(), duration),
    ];
    let aside = if side_by_side || item.name.is_none() { String::new() } else { item.aside() };
    GridRow { cells, style: item.style, aside, below: failure(item) }
}

/// `failed: 1 refused, 1 timeout (4 SYNs)`, or nothing. What the remote attempted is no failure of
/// the target.
pub(super) fn failure(item: &EndpointRow) -> String {
    let failed = &item.failed;
    let text = |(how, number)| match how {
        AttemptCause::TIMEOUT => {
            format!("{} {how} ({})", count(number), plural(failed.unanswered_tries, "SYN", "SYNs"))
        }
        _ => format!("{} {how}", count(number)),
    };
    let texts: Vec<String> = failed.causes().map(text).collect();
    let title = if item.by_remote { "attempts of the remote" } else { "failed" };
    if texts.is_empty() { String::new() } else { format!("{title}: {}", texts.join(", ")) }
}
