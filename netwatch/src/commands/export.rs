//! `netwatch export`: writes tables of recorded runs for databases and notebooks.

use std::io::{self, IsTerminal};

use super::load::{LoadedRun, load_runs};
use super::{open_output, write_result};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::export::{self, ExportFormat};
use crate::report::Report;
use crate::settings::ExportSettings;
use crate::terminal::Spinner;

pub(super) fn export(settings: &ExportSettings) -> Result<Exit> {
    if settings.format == ExportFormat::Parquet && settings.output.is_none() && io::stdout().is_terminal() {
        return Err(Error::other("write", "Parquet to a terminal", "the format is binary").hint("name a file with -o"));
    }
    let spinner = Spinner::new("reading", false);
    let runs = load_runs(&settings.runs, &spinner)?;
    spinner.set_message("writing");
    let output = open_output(settings.output.as_deref(), &settings.runs)?;
    let text = export_table(&runs, settings)?;
    drop(spinner);
    write_result(output, &text)?;
    Ok(Exit::Success)
}

fn export_table(runs: &[LoadedRun], settings: &ExportSettings) -> Result<Vec<u8>> {
    let runs: Vec<&Report> = runs.iter().map(|run| &run.report).collect();
    let mut text = Vec::new();
    export::write(&runs, settings.table, settings.format, &mut text)?;
    Ok(text)
}
