//! `netwatch report`: generates a report from recorded runs or captures.

mod browser;
mod page;
mod render;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use page::PageContext;

use super::load::{LoadedRun, load_runs};
use super::ports::require_user;
use super::{open_output, plain_width, write_result};
use crate::error::Result;
use crate::exit::Exit;
use crate::format::{escape, summary};
use crate::policy::RuleOptions;
use crate::settings::{ColorChoice, ReportFormat, ReportSettings};
use crate::terminal::{PLAIN_WIDTH, Show, Spinner};

pub(super) fn report(settings: &ReportSettings) -> Result<Exit> {
    require_user(&settings.rules)?;
    let spinner = Spinner::new("reading", settings.quiet);
    // The runs are loaded before the file is created, so that a failure leaves no empty file.
    let runs = load_runs(&settings.runs, &spinner)?;
    let context = PageContext::load(settings, &spinner)?;
    spinner.set_message("writing");
    let default = || settings.open.then(|| default_path(&runs, settings.format));
    let path = settings.output.clone().or_else(default);
    let output = open_output(path.as_deref(), &settings.runs)?;
    let rules = RuleOptions { width: Some(plain_width(output.is_some())), ..settings.rules.clone() };
    let settings = &ReportSettings { rules, ..settings.clone() };
    let text = render::render(settings, &runs, &summary_options(settings), &context)?;
    drop(spinner);
    write_result(output, &text)?;
    if let Some(path) = path.filter(|_| settings.open) {
        open_in_browser(&path, settings.quiet)?;
    }
    Ok(Exit::Success)
}

fn open_in_browser(path: &Path, quiet: bool) -> Result<()> {
    if !quiet {
        // A closed standard error changes nothing.
        let _ = writeln!(io::stderr(), "netwatch: opening {}", escape(&path.display().to_string()));
    }
    browser::open(path)
}

fn summary_options(settings: &ReportSettings) -> summary::SummaryOptions {
    let terminal = Show::on(&io::stdout(), false, false, settings.color).summary_options();
    let plain =
        summary::SummaryOptions { width: PLAIN_WIDTH, color: settings.color == ColorChoice::Always, ..terminal };
    let options = if settings.output.is_some() { plain } else { terminal };
    summary::SummaryOptions {
        width: settings.width.map_or(options.width, usize::from),
        by: settings.by,
        verbose: settings.verbose,
        ..options
    }
}

/// The file of `--open` without `-o`. It is in the working directory, because sandboxed browsers
/// (snap, Flatpak) have their own `/tmp`.
fn default_path(runs: &[LoadedRun], format: ReportFormat) -> PathBuf {
    let name: String = runs.first().map(LoadedRun::name).unwrap_or_default();
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    format!("netwatch-{safe}.{}", format.extension()).into()
}
