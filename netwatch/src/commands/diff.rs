//! `netwatch diff`: compares recorded runs, as a gate for releases.

use std::path::Path;

use super::load::{LoadedRun, load_runs};
use super::{open_output, write_result};
use crate::diff::compare;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::diff::write;
use crate::report::Report;
use crate::settings::DiffSettings;
use crate::terminal::Spinner;

/// Exits with [`Exit::Negative`] if something changed.
pub(super) fn diff(settings: &DiffSettings) -> Result<Exit> {
    let spinner = Spinner::new("reading", settings.quiet);
    let (old_runs, new_runs) = (selectors(&settings.old)?, selectors(&settings.new)?);
    let (old, new) = (load_runs(&old_runs, &spinner)?, load_runs(&new_runs, &spinner)?);
    spinner.set_message("comparing");
    let difference = compare(&reports(&old), &reports(&new), &settings.options);
    let output = open_output(settings.output.as_deref(), &[old_runs, new_runs].concat())?;
    let mut text = Vec::new();
    write(&difference, settings.format, &mut text).map_err(|error| Error::os("write", "the difference", error))?;
    drop(spinner);
    if output.is_some() || !settings.quiet {
        write_result(output, &text)?;
    }
    Ok(if difference.is_same() { Exit::Success } else { Exit::Negative })
}

/// The runs of one side: a file of this name, commas included, or runs separated by commas.
fn selectors(text: &str) -> Result<Vec<String>> {
    let selectors: Vec<String> = match Path::new(text).exists() {
        true => vec![text.to_owned()],
        false => text.split(',').map(str::to_owned).collect(),
    };
    if selectors.iter().any(String::is_empty) {
        let hint = "write the runs as RUN,RUN without empty items";
        return Err(Error::other("compare", text, "an item of the list is empty").hint(hint));
    }
    Ok(selectors)
}

fn reports(runs: &[LoadedRun]) -> Vec<&Report> {
    runs.iter().map(|run| &run.report).collect()
}
