//! Interim reports on SIGUSR1. They are written by a separate thread, because standard error may be
//! a pipe whose reader is slow. The thread starts with the first report.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::report::Report;
use crate::terminal::{Show, Writer, print_error};

/// Time that the final report waits for interim reports that are still being written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Prints interim reports.
pub(in crate::commands) struct InterimPrinter {
    show: Show,
    writer: Option<Writer>,
}

impl InterimPrinter {
    pub(in crate::commands) fn new(show: Show) -> Self {
        Self { show, writer: None }
    }

    /// Queues a report, or the error that prevented it. Never blocks.
    pub(in crate::commands) fn print(&mut self, report: Result<Arc<Report>>) {
        if self.writer.is_none() {
            match Writer::start() {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => return print_error(&error),
            }
        }
        let (show, Some(writer)) = (self.show, &self.writer) else { return };
        match report {
            Ok(report) => writer.write(move |out| show.write_interim(&report, out)),
            Err(error) => writer.write(move |out| writeln!(out, "netwatch: {error:#}")),
        }
    }

    /// Waits until all reports are written. Returns a note if some were discarded.
    pub(in crate::commands) fn finish(self) -> Option<String> {
        let writer = self.writer?;
        let dropped = writer.finish(FINISH_TIMEOUT);
        (dropped > 0).then(|| format!("{dropped} interim reports were not printed: standard error was not read"))
    }
}
