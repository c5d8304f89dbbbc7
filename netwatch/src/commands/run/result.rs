//! What a session leaves: the report on the screen and in the file of `-o`, and the exit code.

use std::env;
use std::sync::{Arc, mpsc};

use super::signals::HeldSignals;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::threshold::annotations;
use crate::report::Report;
use crate::settings::SessionSettings;
use crate::terminal::{Output, Show, print_message, print_text};

/// What a session found out.
#[derive(Debug)]
pub(in crate::commands) struct SessionResult {
    pub report: Arc<Report>,
    /// Thresholds that were crossed, a sentence each.
    pub fail_reasons: Vec<String>,
}

/// Prints and writes the report. Returns the exit code: `exit`, unless that is a success and a
/// threshold was crossed.
pub(in crate::commands) fn publish(
    SessionResult { report, fail_reasons }: &SessionResult,
    (settings, show): (&SessionSettings, Show),
    output: Option<Output>,
    exit: Exit,
    signals: &HeldSignals,
) -> Result<Exit> {
    let fails = !fail_reasons.is_empty() && exit.code() == 0;
    let show = show.with_exit_code(fails.then_some(settings.fail_code));
    show.print_final(report.clone(), settings.output.is_some());
    if let Some(output) = output {
        write_output(output, show, report.clone(), signals)?;
    }
    Ok(threshold_exit(settings, fail_reasons, exit))
}

/// Writes the file of `-o`, in a thread, because it can be a pipe that is not read. A signal ends
/// the wait for it. The exit code is then that of the command.
fn write_output(output: Output, show: Show, report: Arc<Report>, signals: &HeldSignals) -> Result<()> {
    let (done, written) = mpsc::channel();
    // Fails if a signal ended the wait.
    let write = move || _ = done.send(output.write(|out| show.write_file(&report, out)));
    let thread = std::thread::Builder::new().name("output".into()).spawn(write);
    thread.map_err(|error| Error::os("start thread", "output", error))?;
    match signals.wait(&written) {
        Some(written) => written.unwrap_or_else(|_| Err(Error::other("write", "the report", "a thread panicked"))),
        None => {
            print_message("interrupted by a signal; the report in the file of -o is incomplete");
            Ok(())
        }
    }
}

/// The exit code: that of the command, unless it succeeded and a threshold was crossed.
/// The reasons are notes of the report, and in GitHub Actions annotations too.
fn threshold_exit(settings: &SessionSettings, reasons: &[String], exit: Exit) -> Exit {
    if reasons.is_empty() {
        return exit;
    }
    // A summary and a document have them as notes.
    if !settings.prints_report() {
        reasons.iter().for_each(|reason| print_message(reason));
    }
    if !settings.is_document() && env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        let text = annotations(reasons);
        print_text(move || text);
    }
    if exit.code() == 0 { Exit::Threshold(settings.fail_code) } else { exit }
}
