//! `netwatch doctor`: prints what `run` needs of this machine, a line each; exit code 1 if `run` would fail.

use std::io::Write;
use std::process::ExitCode;

use crate::doctor::{Context, Report};

/// Examines and prints on standard output.
pub fn run(context: Context) -> ExitCode {
    let report = Report::examine(context);
    // A closed standard output takes away the text, not the verdict.
    let _ = write!(std::io::stdout().lock(), "{report}");
    if report.would_fail() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
