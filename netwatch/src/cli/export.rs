//! `netwatch export`: flows and series of recorded runs, for data bases and notebooks.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};

use super::report::source::{self, Source};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::export::{self, Exported, Format, Table};
use crate::rights;
use crate::terminal::Output;
use crate::terminal::{Spinner, complain, print};

/// What `netwatch export` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ExportArgs {
    /// As what [default: as the name of -o's FILE ends, else csv]
    #[arg(long, value_enum, value_name = "FORMAT", env = "NETWATCH_EXPORT_FORMAT")]
    format: Option<FormatChoice>,

    /// What: a row a flow, or a row a step of the series
    #[arg(long, value_enum, value_name = "TABLE", default_value = "flows", env = "NETWATCH_EXPORT_TABLE")]
    table: TableChoice,

    /// Write it to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_EXPORT_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Runs, by number, id or file; a capture is replayed. The column `run` tells them apart [default: the newest run]
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    runs: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatChoice {
    /// Apache Parquet
    Parquet,
    /// CSV with a header
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableChoice {
    /// A row a flow
    Flows,
    /// A row a step of the series
    Series,
}

const AFTER: &str = "\
Examples:
  netwatch export -o flows.parquet                          the flows of the newest run
  netwatch export --table series -o load.csv 3f2a91bc       traffic over time of a run
  duckdb -c \"SELECT name, sum(egress_wire_bytes) FROM 'flows.parquet' GROUP BY name\"

Exit code: 0; 2 when there is no such run, or netwatch failed. docs/recording.md has the columns.";

pub(super) fn main(arguments: &ExportArgs) -> Exit {
    match export(arguments) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

fn export(arguments: &ExportArgs) -> Result<()> {
    let format = format_of(arguments);
    if format == Format::Parquet && arguments.output.is_none() && io::stdout().is_terminal() {
        return Err(Error::said("write", "Parquet to a terminal", "it is not text").hint("give a file with -o"));
    }
    let waiting = Spinner::new("reading", false);
    let runs = source::all(&arguments.runs, &waiting)?;
    waiting.now("writing");
    let user = rights::caller()?;
    let output = arguments.output.as_deref().map(|path| Output::create(path, (user.uid, user.gid))).transpose()?;
    let text = table_of(&runs, arguments.table, format)?;
    drop(waiting);
    match output {
        Some(output) => output.write(|out| out.write_all(&text)),
        None => print(&text),
    }
}

fn table_of(runs: &[Source], table: TableChoice, format: Format) -> Result<Vec<u8>> {
    let runs: Vec<Exported<'_>> =
        runs.iter().map(|run| Exported { report: &run.report, series: &run.series }).collect();
    let table = match table {
        TableChoice::Flows => Table::Flows,
        TableChoice::Series => Table::Series,
    };
    let mut text = Vec::new();
    export::write(&runs, table, format, &mut text)?;
    Ok(text)
}

fn format_of(arguments: &ExportArgs) -> Format {
    let ends = |ending: &str| {
        let named = |path: &Path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
        arguments.output.as_deref().is_some_and(named)
    };
    match arguments.format {
        Some(FormatChoice::Parquet) => Format::Parquet,
        Some(FormatChoice::Csv) => Format::Csv,
        None if ends("parquet") => Format::Parquet,
        None => Format::Csv,
    }
}
