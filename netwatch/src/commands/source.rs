//! The runs of `ports`, `learn` and `check`: recorded ones, or a command that is run first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::load::{load_runs, once_each};
use super::run::{RunPlan, SignalMask, run};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::report::Report;
use crate::settings::{RunSettings, RunSource};
use crate::terminal::{Spinner, print_error, print_message};

/// The reports of a subcommand.
pub(super) struct Source {
    pub reports: Vec<Arc<Report>>,
    /// How the command ended; [`Exit::Success`] for recorded runs.
    pub exit: Exit,
}

impl Source {
    /// Loads or makes the reports. `Err` holds how netwatch exits if a command did not run; its
    /// error is already printed.
    pub fn get(source: &RunSource) -> Result<Result<Self, Exit>> {
        match source {
            RunSource::Recorded(runs) => {
                let spinner = Spinner::new("reading", false);
                let (runs, messages) = once_each(load_runs(runs, &spinner)?);
                drop(spinner);
                messages.iter().for_each(|message| print_message(message));
                let reports = runs.into_iter().map(|run| Arc::new(run.report)).collect();
                Ok(Ok(Self { reports, exit: Exit::Success }))
            }
            RunSource::Command(settings) => run_command(settings),
        }
    }

    pub fn reports(&self) -> Vec<&Report> {
        self.reports.iter().map(Arc::as_ref).collect()
    }
}

fn run_command(settings: &RunSettings) -> Result<Result<Source, Exit>> {
    let mut plan = match RunPlan::make(settings.clone()) {
        Ok(plan) => plan,
        Err(refusal) => {
            print_error(&refusal.error);
            return Ok(Err(refusal.exit));
        }
    };
    let own = redirect_stdout()?;
    let mask = SignalMask::read()?;
    let exit = run(&mut plan);
    mask.restore()?;
    nix::unistd::dup2_stdout(&own).map_err(|errno| Error::os("restore", "standard output", errno))?;
    Ok(plan.report.take().map(|report| Source { reports: vec![report], exit }).ok_or(exit))
}

/// Makes standard output the same as standard error, so that the output of the command is not part
/// of the result. Returns the previous one.
fn redirect_stdout() -> Result<OwnedFd> {
    let failed = |errno| Error::os("redirect", "standard output", errno);
    let own =
        io::stdout().as_fd().try_clone_to_owned().map_err(|error| Error::os("duplicate", "standard output", error))?;
    nix::unistd::dup2_stdout(io::stderr()).map_err(failed)?;
    Ok(own)
}
