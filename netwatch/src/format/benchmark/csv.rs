//! An analysis as comma-separated values (RFC 4180): one row per run and metric, for other
//! statistics programs.

use std::io;

use super::words;
use crate::benchmark::{Analysis, MetricRow};
use crate::format::csv::{record, safe_text};
use crate::format::rfc3339;

/// The columns. New ones come at the end.
const COLUMNS: [&str; 9] = ["side", "label", "run", "run_id", "started", "endpoint", "metric", "unit", "value"];

pub(super) fn text(analysis: &Analysis) -> io::Result<String> {
    let mut text = Vec::new();
    record(&mut text, COLUMNS.map(str::to_owned).to_vec())?;
    for row in &analysis.rows {
        write_row(analysis, row, &mut text)?;
    }
    String::from_utf8(text).map_err(io::Error::other)
}

fn write_row(analysis: &Analysis, row: &MetricRow, text: &mut Vec<u8>) -> io::Result<()> {
    for (place, (side, sample)) in analysis.sides.iter().zip(&row.samples).enumerate() {
        for (at, (run, value)) in side.runs.iter().zip(&sample.values).enumerate() {
            let cells = vec![
                words::name(place).to_owned(),
                safe_text(&side.label),
                (at + 1).to_string(),
                safe_text(&run.id),
                rfc3339(run.started_ns),
                safe_text(row.endpoint.as_deref().unwrap_or_default()),
                row.metric.key.to_owned(),
                row.metric.unit.name().to_owned(),
                value.to_string(),
            ];
            record(text, cells)?;
        }
    }
    Ok(())
}
