//! The table of steps.

use super::Exported;
use super::column::Column;
use crate::report::{Interval, Report};

/// A step of a run.
pub(super) struct Row<'a> {
    report: &'a Report,
    step: &'a Interval,
}

/// In their order.
pub(super) fn rows<'a>(run: &Exported<'a>) -> impl Iterator<Item = Row<'a>> {
    let report = run.report;
    run.series.intervals.iter().map(move |step| Row { report, step })
}

/// The columns, in their order.
pub(super) fn columns<'a>() -> Vec<Column<Row<'a>>> {
    vec![
        Column::text("run_id", |row| row.report.run.id.as_str().into()),
        Column::time("started", |row| row.step.start_ns.into()),
        Column::integer("duration_ns", |row| row.step.length_ns.into()),
        Column::integer("egress_skbs", |row| row.step.totals.egress.skbs.into()),
        Column::integer("egress_packets", |row| row.step.totals.egress.packets.into()),
        Column::integer("egress_bytes", |row| row.step.totals.egress.bytes.into()),
        Column::integer("egress_wire_bytes", |row| row.step.totals.egress.wire_bytes.into()),
        Column::integer("ingress_skbs", |row| row.step.totals.ingress.skbs.into()),
        Column::integer("ingress_packets", |row| row.step.totals.ingress.packets.into()),
        Column::integer("ingress_bytes", |row| row.step.totals.ingress.bytes.into()),
        Column::integer("ingress_wire_bytes", |row| row.step.totals.ingress.wire_bytes.into()),
        Column::integer("opened_flows", |row| row.step.opened.into()),
        Column::integer("active_flows", |row| row.step.active.into()),
    ]
}
