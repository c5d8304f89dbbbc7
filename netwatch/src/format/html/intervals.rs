//! The run over time: the data of the charts.

use super::table::{ColumnKind, HtmlCell, HtmlColumn, HtmlTable, column, detail};
use super::tables::start_ns;
use crate::flow::PerDirection;
use crate::report::{Interval, Report, TimeHistogram};

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
