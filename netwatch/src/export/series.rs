//! The table of intervals.

use super::ExportedRun;
use super::column::ExportColumn;
use crate::report::{Interval, Report};

/// An interval of a run.
pub(super) struct IntervalRow<'a> {
    report: &'a Report,
    interval: &'a Interval,
}

/// The intervals of a run, in the order of their start.
pub(super) fn rows<'a>(run: &ExportedRun<'a>) -> impl Iterator<Item = IntervalRow<'a>> {
    let report = run.report;
    run.series.intervals.iter().map(move |interval| IntervalRow { report, interval })
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
    ]
}
