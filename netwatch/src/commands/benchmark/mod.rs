//! `netwatch bench` and `netwatch compare`: runs commands repeatedly, or reads recorded runs, and
//! analyzes what they cost.

mod repeat;

use super::load::load_runs;
use super::{open_output, write_result};
use crate::benchmark::{RunMeasures, Side, analyze};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::benchmark::write;
use crate::settings::{BenchSettings, BenchmarkOutput, CompareSettings, Compared, Repetition, RunSettings};
use crate::terminal::{Output, Spinner, print_message};
use repeat::Repeated;

/// Exits with [`Exit::Negative`] if a run of the command failed, and with [`Exit::Signalled`] if
/// the keyboard ended the benchmark.
pub(super) fn bench(settings: &BenchSettings) -> Result<Exit> {
    let output = open_output(settings.output.file.as_deref(), &[])?;
    measure(std::slice::from_ref(&settings.run), &settings.repetition, &settings.output, output)
}

/// Exits with [`Exit::Negative`] if a run of a command failed.
pub(super) fn compare(settings: &CompareSettings) -> Result<Exit> {
    match &settings.compared {
        Compared::Commands { sides, repetition } => {
            let output = open_output(settings.output.file.as_deref(), &[])?;
            measure(&sides[..], repetition, &settings.output, output)
        }
        Compared::Recorded(sides) => {
            let output = open_output(settings.output.file.as_deref(), &sides.concat())?;
            let spinner = Spinner::new("reading", false);
            let sides = sides.iter().map(|runs| recorded(runs, &spinner)).collect::<Result<Vec<_>>>()?;
            drop(spinner);
            conclude(sides, &settings.output, output)?;
            Ok(Exit::Success)
        }
    }
}

/// Only the numbers of a run are kept, so that many long runs can be compared.
fn recorded(selectors: &[String], spinner: &Spinner) -> Result<Side> {
    let mut runs = Vec::with_capacity(selectors.len());
    for selector in selectors {
        let loaded = load_runs(std::slice::from_ref(selector), spinner)?;
        runs.extend(loaded.iter().map(|run| RunMeasures::of(&run.report)));
    }
    runs.sort_by_key(|run| run.started_ns);
    Ok(Side { label: selectors.join(" "), runs })
}

fn measure(
    commands: &[RunSettings],
    repetition: &Repetition,
    settings: &BenchmarkOutput,
    output: Option<Output>,
) -> Result<Exit> {
    match repeat::repeat(commands, repetition)? {
        Repeated::Measured(sides) => {
            conclude(sides, settings, output)?;
            Ok(Exit::Success)
        }
        Repeated::Failed => Ok(Exit::Negative),
        Repeated::NotMeasured => Ok(Exit::Error),
        Repeated::Interrupted(signal) => {
            print_message("interrupted by a signal: the benchmark has no result");
            Ok(Exit::Signalled(signal))
        }
    }
}

fn conclude(sides: Vec<Side>, settings: &BenchmarkOutput, output: Option<Output>) -> Result<()> {
    let mut text = Vec::new();
    write(&analyze(sides), settings.format, &mut text).map_err(|error| Error::os("write", "the benchmark", error))?;
    write_result(output, &text)
}
