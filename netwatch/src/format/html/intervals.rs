//! The run over time: the data of the charts.

use std::fmt::Write;

use super::hosts;
use super::markup::text;
use super::table::{ColumnKind, HtmlCell, HtmlColumn, HtmlTable, column, detail};
use super::tables::start_ns;
use crate::flow::{Direction, EndpointKey, PerDirection};
use crate::format::words;
use crate::report::{Interval, Report, TimeHistogram};

/// Maximum number of intervals of an endpoint: more than a chart has pixels for.
const MAX_ENDPOINT_ROWS: usize = 256;
/// Columns that an endpoint has no numbers for: flows with traffic, open connections, losses, CPU,
/// memory, and the response times of DNS.
const UNKNOWN_OF_ENDPOINTS: [usize; 8] = [7, 8, 11, 12, 13, 20, 21, 22];

/// One row per interval. Columns without a value in any interval are part of it, because the charts
/// find columns by their number.
pub(super) fn table(report: &Report) -> HtmlTable {
    let start_ns = start_ns(report);
    HtmlTable {
        id: "intervals",
        caption: "The run over time",
        columns: columns(),
        rows: report.series.intervals.iter().map(|interval| row(interval, start_ns)).collect(),
        empty: "Nothing was recorded over time.",
        ..HtmlTable::default()
    }
}

/// The largest endpoints over time, in the columns of [`table`] and one more: the endpoint.
pub(super) fn of_endpoints(report: &Report) -> HtmlTable {
    let start_ns = start_ns(report);
    let mut columns = columns();
    columns.push(column("Endpoint", ColumnKind::Text, ""));
    let mut rows = Vec::new();
    for (series, label) in report.series.endpoints.iter().zip(labels(report)) {
        rows.extend(
            coarsened(&series.intervals).iter().map(|interval| endpoint_row(interval, start_ns, label.clone())),
        );
    }
    HtmlTable {
        id: "endpoint-intervals",
        caption: "The largest endpoints over time",
        columns,
        rows,
        ..HtmlTable::default()
    }
}

/// The choice of what the charts are of; empty where only the whole run has numbers over time.
pub(super) fn choice(report: &Report) -> String {
    if report.series.intervals.is_empty() || report.series.endpoints.is_empty() {
        return String::new();
    }
    let mut html = "<div class=\"toolbar\"><label for=\"charts-of\">Charts of</label><select id=\"charts-of\">\
        <option value=\"\">the whole run</option>"
        .to_owned();
    for label in labels(report) {
        if let HtmlCell::Text(label) = label {
            let _ = write!(html, "<option>{}</option>", text(&label));
        }
    }
    html + "</select></div>\n"
}

/// The labels of the endpoints with a series. Those that would be equal have the address too.
fn labels(report: &Report) -> Vec<HtmlCell> {
    let keys = || report.series.endpoints.iter().map(|series| &series.key);
    let labels: Vec<String> = keys().map(|key| label(report, key)).collect();
    let distinct =
        keys().zip(&labels).map(|(key, label)| match labels.iter().filter(|other| *other == label).count() {
            1 => HtmlCell::text(label),
            _ => HtmlCell::text(format!("{label} ({})", words::address(&key.remote))),
        });
    distinct.collect()
}

/// `app.example tcp/443`, and `from` the remote for a service of the command.
fn label(report: &Report, key: &EndpointKey) -> String {
    let mut known = report.endpoints.iter().filter(|known| known.endpoint.key == *key);
    // The series is that of all hosts at the address.
    let host = match (known.next(), known.next()) {
        (Some(known), None) => hosts::label(report, known),
        _ => words::address(&key.remote),
    };
    let service = words::service(key);
    if key.direction == Direction::Ingress { format!("{service} from {host}") } else { format!("{host} {service}") }
}

/// Neighbors are merged until there are few enough.
fn coarsened(intervals: &[Interval]) -> Vec<Interval> {
    let together = intervals.len().div_ceil(MAX_ENDPOINT_ROWS).max(1);
    let merged = intervals.chunks(together).filter_map(|chunk| {
        let (first, later) = chunk.split_first()?;
        let mut merged = first.clone();
        later.iter().for_each(|one| merged.merge(one));
        Some(merged)
    });
    merged.collect()
}

fn endpoint_row(interval: &Interval, start_ns: u64, label: HtmlCell) -> Vec<HtmlCell> {
    let mut cells = row(interval, start_ns);
    UNKNOWN_OF_ENDPOINTS.iter().for_each(|at| cells[*at] = HtmlCell::Nothing);
    cells.push(label);
    cells
}

/// Whether an interval has CPU time, and whether one has memory.
pub(super) fn has_usage(report: &Report) -> [bool; 2] {
    let intervals = &report.series.intervals;
    [intervals.iter().any(|one| one.cpu_ns > 0), intervals.iter().any(|one| one.memory.is_some())]
}

fn columns() -> Vec<HtmlColumn> {
    use ColumnKind::{At, Bytes, Count, Duration};
    let mut columns = vec![
        column("Start", At, "since the start of the run"),
        column("Duration", Duration, ""),
        column("Sent", Bytes, ""),
        column("Received", Bytes, ""),
        column("Packets sent", Count, ""),
        column("Packets received", Count, ""),
        column("Flows opened", Count, ""),
        column("Flows active", Count, "with traffic"),
        detail("Connections open", Count, "TCP, at the end of the interval"),
        column("Failed", Count, "failed attempts"),
        detail("Retransmitted", Count, "packets that were retransmitted or out of order"),
        detail("Lost", Count, "observations that were lost"),
        detail("CPU", Duration, "of the command and its descendants"),
        detail("Memory", Bytes, "of the command and its descendants"),
    ];
    columns.extend(["Handshake p50", "Handshake p90", "Handshake p99"].map(|title| detail(title, Duration, "")));
    columns.extend(["Round trip p50", "Round trip p90", "Round trip p99"].map(|title| detail(title, Duration, "")));
    columns
        .extend(["DNS response p50", "DNS response p90", "DNS response p99"].map(|title| detail(title, Duration, "")));
    columns
}

fn row(interval: &Interval, start_ns: u64) -> Vec<HtmlCell> {
    let PerDirection { egress, ingress } = interval.totals;
    let mut cells: Vec<HtmlCell> = [
        interval.start_ns.saturating_sub(start_ns),
        interval.length_ns,
        egress.wire_bytes,
        ingress.wire_bytes,
        egress.packets,
        ingress.packets,
        interval.opened,
        interval.active,
        interval.open,
    ]
    .map(HtmlCell::Number)
    .into();
    cells.extend([interval.failed, interval.retransmitted, interval.lost].map(HtmlCell::unless_zero));
    cells.push(HtmlCell::Number(interval.cpu_ns));
    cells.push(HtmlCell::number(interval.memory));
    let percentiles =
        |times: &TimeHistogram| [50, 90, 99].map(|percent| HtmlCell::number(times.quantile(percent, 100)));
    cells.extend([&interval.connect, &interval.round_trip, &interval.dns].into_iter().flat_map(percentiles));
    cells
}
