//! `netwatch doctor`: prints what `run` needs of this machine, a line each; exit code 1 if `run` would fail.

use std::io::Write;

use crate::doctor::{Context, Report};
use crate::exit::Exit;

/// Examines and prints on standard output.
pub(super) fn main() -> Exit {
    let report = Report::examine(Context::default());
    // A closed standard output takes away the text, not the verdict.
    let _ = write!(std::io::stdout().lock(), "{report}");
    if report.would_fail() { Exit::No } else { Exit::Success }
}
