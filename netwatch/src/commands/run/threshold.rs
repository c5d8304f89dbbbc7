//! What crossed thresholds mean for the end of a run: its exit code, and annotations in CI.

use std::env;
use std::ffi::OsString;

use crate::exit::Exit;
use crate::format::threshold::{annotations, reason};
use crate::report::Report;
use crate::settings::RunSettings;
use crate::terminal::{print_message, print_text};

/// The exit code of the run: that of the command, unless it succeeded and a threshold was crossed.
/// The reasons are notes of the report, and in GitHub Actions annotations too.
pub(super) fn exit(settings: &RunSettings, report: &Report, exit: Exit) -> Exit {
    let crossings = settings.fail_if.iter().map(|threshold| threshold.evaluate(report));
    let reasons: Vec<String> = crossings.filter_map(|crossing| reason(&crossing)).collect();
    if reasons.is_empty() {
        return exit;
    }
    if settings.quiet || settings.json || settings.output.is_some() {
        // No summary on standard error has them.
        reasons.iter().for_each(|reason| print_message(reason));
    }
    if env::var_os("GITHUB_ACTIONS") == Some(OsString::from("true")) {
        print_text(move || annotations(&reasons));
    }
    if exit == Exit::Command(0) { Exit::Threshold(settings.fail_code) } else { exit }
}
