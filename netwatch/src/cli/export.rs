//! The command line of `netwatch export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::error::Result;
use crate::export::{ExportFormat, ExportTable};
use crate::settings::ExportSettings;
use crate::settings::value::{TEXT, format_of_file};

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
    /// The column `run_id` identifies the run of each row.
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

Exit code: 0; 2 if there is no such run, or netwatch failed. `netwatch help recording`
describes the columns.";

impl ExportArgs {
    pub(super) fn settings(self) -> Result<ExportSettings> {
        let format = self.format()?;
        Ok(ExportSettings { format, table: self.table.into(), output: self.output, runs: self.runs })
    }

    /// A table in another format than the name of its file promises is an error.
    fn format(&self) -> Result<ExportFormat> {
        if let Some(format) = self.format {
            return Ok(match format {
                ExportFormatArg::Parquet => ExportFormat::Parquet,
                ExportFormatArg::Csv => ExportFormat::Csv,
            });
        }
        let formats: [(&[&str], _); 3] =
            [(&["csv"], ExportFormat::Csv), (&["parquet"], ExportFormat::Parquet), (&TEXT, ExportFormat::Csv)];
        let by_extension = self.output.as_deref().map(|path| format_of_file(path, &formats)).transpose()?;
        Ok(by_extension.flatten().unwrap_or(ExportFormat::Csv))
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct ExportCommand {
        #[command(flatten)]
        arguments: ExportArgs,
    }

    fn format(words: &[&str]) -> Result<ExportFormat> {
        let words = std::iter::once(&"export").chain(words);
        let settings = ExportCommand::try_parse_from(words).expect("valid flags").arguments.settings();
        settings.map(|settings| settings.format)
    }

    #[test]
    fn the_extension_of_another_format_is_refused() {
        assert_eq!(format(&[]).expect("the default"), ExportFormat::Csv);
        assert_eq!(format(&["-o", "a.PARQUET"]).expect("known"), ExportFormat::Parquet);
        assert_eq!(format(&["-o", "a.xlsx", "--format", "csv"]).expect("named"), ExportFormat::Csv);
        assert_eq!(format(&["-o", "/dev/stdout"]).expect("no extension"), ExportFormat::Csv);
        let error = format(&["-o", "a.xlsx"]).expect_err("not CSV").to_string();
        assert!(error.contains(".xlsx") && error.contains("--format"), "{error}");
    }
}
