//! Flows and series as tables for other programs: Parquet and CSV. Column names contain
//! their units. Output for people to read is in `format`.

mod column;
mod csv;
mod flows;
mod parquet;
mod series;

use std::io::Write;

use crate::error::{Error, Result};
use crate::report::Report;
use column::ExportColumn;

/// The table to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTable {
    /// One row per flow, of the link and of the loopback.
    Flows,
    /// One row per interval of the series.
    Series,
}

/// The file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Apache Parquet, compressed with Snappy.
    Parquet,
    /// CSV with a header (RFC 4180).
    Csv,
}

/// Writes one table of all runs; the column `run_id` identifies the run.
pub fn write(runs: &[&Report], table: ExportTable, format: ExportFormat, out: &mut (dyn Write + Send)) -> Result<()> {
    match table {
        ExportTable::Flows => write_rows(
            &flows::columns(),
            &runs.iter().flat_map(|run| flows::rows(run)).collect::<Vec<_>>(),
            format,
            out,
        ),
        ExportTable::Series => write_rows(
            &series::columns(),
            &runs.iter().flat_map(|run| series::rows(run)).collect::<Vec<_>>(),
            format,
            out,
        ),
    }
}

fn write_rows<R>(
    columns: &[ExportColumn<R>],
    rows: &[R],
    format: ExportFormat,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    match format {
        ExportFormat::Parquet => parquet::write(columns, rows, out)
            .map_err(|error| Error::other("write", "the Parquet file", error.to_string())),
        ExportFormat::Csv => csv::write(columns, rows, out).map_err(|error| Error::os("write", "the CSV file", error)),
    }
}
