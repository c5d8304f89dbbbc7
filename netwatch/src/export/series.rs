//! The table of intervals.

use super::column::ExportColumn;
use crate::report::{Interval, Report, TimeHistogram};

/// An interval of a run.
pub(super) struct IntervalRow<'a> {
    report: &'a Report,
    interval: &'a Interval,
}

/// The intervals of a run, in the order of their start.
pub(super) fn rows(report: &Report) -> impl Iterator<Item = IntervalRow<'_>> {
    report.series.intervals.iter().map(move |interval| IntervalRow { report, interval })
}

/// The columns, in their order.
pub(super) fn columns<'a>() -> Vec<ExportColumn<IntervalRow<'a>>> {
    vec![
        ExportColumn::text("run_id", |row| row.report.run.id.as_str().into()),
        ExportColumn::time("started", |row| row.interval.start_ns.into()),
        ExportColumn::integer("duration_ns", |row| row.interval.length_ns.into()),
        ExportColumn::integer("egress_skbs", |row| row.interval.totals.egress.skbs.into()),
        ExportColumn::integer("egress_packets", |row| row.interval.totals.egress.packets.into()),
        ExportColumn::integer("egress_bytes", |row| row.interval.totals.egress.bytes.into()),
        ExportColumn::integer("egress_wire_bytes", |row| row.interval.totals.egress.wire_bytes.into()),
        ExportColumn::integer("ingress_skbs", |row| row.interval.totals.ingress.skbs.into()),
        ExportColumn::integer("ingress_packets", |row| row.interval.totals.ingress.packets.into()),
        ExportColumn::integer("ingress_bytes", |row| row.interval.totals.ingress.bytes.into()),
        ExportColumn::integer("ingress_wire_bytes", |row| row.interval.totals.ingress.wire_bytes.into()),
        ExportColumn::integer("opened_flows", |row| row.interval.opened.into()),
        ExportColumn::integer("active_flows", |row| row.interval.active.into()),
        ExportColumn::integer("opened_connections", |row| row.interval.connections.into()),
        ExportColumn::integer("closed_connections", |row| row.interval.closed.into()),
        ExportColumn::integer("open_connections", |row| row.interval.open.into()),
        ExportColumn::integer("failed_attempts", |row| row.interval.failed.into()),
        ExportColumn::integer("tcp_packets", |row| row.interval.tcp_packets.into()),
        ExportColumn::integer("retransmitted_packets", |row| row.interval.retransmitted.into()),
        ExportColumn::integer("dns_failed", |row| row.interval.dns_failed.into()),
        ExportColumn::integer("lost", |row| row.interval.lost.into()),
        ExportColumn::integer("cpu_ns", |row| row.interval.cpu_ns.into()),
        ExportColumn::integer("memory_bytes", |row| row.interval.memory.into()),
        ExportColumn::integer("connect_count", |row| row.interval.connect.count().into()),
        ExportColumn::integer("connect_p50_ns", |row| row.interval.connect.quantile(50, 100).into()),
        ExportColumn::integer("connect_p90_ns", |row| row.interval.connect.quantile(90, 100).into()),
        ExportColumn::integer("connect_p99_ns", |row| row.interval.connect.quantile(99, 100).into()),
        ExportColumn::integer("connect_max_ns", |row| largest(&row.interval.connect).into()),
        ExportColumn::integer("round_trip_count", |row| row.interval.round_trip.count().into()),
        ExportColumn::integer("round_trip_p50_ns", |row| row.interval.round_trip.quantile(50, 100).into()),
        ExportColumn::integer("round_trip_p90_ns", |row| row.interval.round_trip.quantile(90, 100).into()),
        ExportColumn::integer("round_trip_p99_ns", |row| row.interval.round_trip.quantile(99, 100).into()),
        ExportColumn::integer("round_trip_max_ns", |row| largest(&row.interval.round_trip).into()),
        ExportColumn::integer("dns_count", |row| row.interval.dns.count().into()),
        ExportColumn::integer("dns_p50_ns", |row| row.interval.dns.quantile(50, 100).into()),
        ExportColumn::integer("dns_p90_ns", |row| row.interval.dns.quantile(90, 100).into()),
        ExportColumn::integer("dns_p99_ns", |row| row.interval.dns.quantile(99, 100).into()),
        ExportColumn::integer("dns_max_ns", |row| largest(&row.interval.dns).into()),
    ]
}

fn largest(times: &TimeHistogram) -> Option<u64> {
    (!times.is_empty()).then(|| times.max())
}
