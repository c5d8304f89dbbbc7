//! The command line of `netwatch export`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use crate::export::{ExportFormat, ExportTable};
use crate::settings::ExportSettings;

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ExportArgs {
    /// Output format [default: by the extension of FILE, else csv]
    #[arg(long, value_enum, value_name = "FORMAT", env = "NETWATCH_EXPORT_FORMAT")]
    format: Option<ExportFormatArg>,

    /// Table to export: one row per flow, or one row per interval
    #[arg(long, value_enum, value_name = "TABLE", default_value = "flows", env = "NETWATCH_EXPORT_TABLE")]
    table: ExportTableArg,

    /// Write the table to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_EXPORT_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Runs by number, id or file; captures are replayed [default: the newest run]
    ///
    /// The column `run` identifies the run of each row.
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    runs: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormatArg {
    /// Apache Parquet
    Parquet,
    /// CSV with a header
    Csv,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportTableArg {
    /// One row per flow
    Flows,
    /// One row per interval of the time series
    Series,
}

const AFTER: &str = "\
Examples:
  netwatch export -o flows.parquet                          flows of the newest run
  netwatch export --table series -o load.csv 3f2a91bc       traffic of a run over time
  duckdb -c \"SELECT name, sum(egress_wire_bytes) FROM 'flows.parquet' GROUP BY name\"

Exit code: 0; 2 if there is no such run, or netwatch failed. docs/recording.md describes the columns.";

impl ExportArgs {
    pub(super) fn settings(self) -> ExportSettings {
        ExportSettings { format: self.format(), table: self.table.into(), output: self.output, runs: self.runs }
    }

    fn format(&self) -> ExportFormat {
        let is_parquet =
            |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        match self.format {
            Some(ExportFormatArg::Parquet) => ExportFormat::Parquet,
            Some(ExportFormatArg::Csv) => ExportFormat::Csv,
            None if self.output.as_deref().is_some_and(is_parquet) => ExportFormat::Parquet,
            None => ExportFormat::Csv,
        }
    }
}

impl From<ExportTableArg> for ExportTable {
    fn from(table: ExportTableArg) -> Self {
        match table {
            ExportTableArg::Flows => Self::Flows,
            ExportTableArg::Series => Self::Series,
        }
    }
}
