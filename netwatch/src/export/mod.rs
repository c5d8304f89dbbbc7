//! Flows and series as tables for other programs: Parquet and CSV. Column names carry their units.
//! Not: anything for people to read.

mod column;
mod csv;
mod flows;
mod parquet;
mod series;

use std::io::Write;

use crate::error::{Error, Result};
use crate::report::{Report, Series};
use column::Column;

/// A run that is exported.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// Its report.
    pub report: &'a Report,
    /// Its traffic over time.
    pub series: &'a Series,
}

/// What of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// A row a flow, of the link and of the loopback.
    Flows,
    /// A row a step of the series.
    Series,
}

/// As what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet, compressed with Snappy.
    Parquet,
    /// CSV with a header (RFC 4180).
    Csv,
}

/// Writes a table of all these runs, one after the other; the column `run` tells them apart.
pub fn write(runs: &[Exported<'_>], table: Table, format: Format, out: &mut (dyn Write + Send)) -> Result<()> {
    match table {
        Table::Flows => {
            write_rows(&flows::columns(), &runs.iter().flat_map(flows::rows).collect::<Vec<_>>(), format, out)
        }
        Table::Series => {
            write_rows(&series::columns(), &runs.iter().flat_map(series::rows).collect::<Vec<_>>(), format, out)
        }
    }
}

fn write_rows<R>(columns: &[Column<R>], rows: &[R], format: Format, out: &mut (dyn Write + Send)) -> Result<()> {
    match format {
        Format::Parquet => parquet::write(columns, rows, out)
            .map_err(|error| Error::other("write", "the Parquet file", error.to_string())),
        Format::Csv => csv::write(columns, rows, out).map_err(|error| Error::os("write", "the CSV file", error)),
    }
}
