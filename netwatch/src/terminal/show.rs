//! How the user wants reports: as text or JSON, on a terminal or in a file, with which width and
//! color.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::print_on_stderr;
use crate::format::{json, summary};
use crate::report::Report;
use crate::settings::{ColorChoice, SessionSettings};

/// Width in columns of text for files and pipes.
pub(crate) const PLAIN_WIDTH: usize = 100;

/// How reports are shown. Decided once, when the subcommand starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    json: bool,
    quiet: bool,
    options: summary::SummaryOptions,
}

impl Show {
    /// For a session: on standard error, because standard output belongs to the command of `run`.
    pub(crate) fn for_session(settings: &SessionSettings) -> Self {
        let show = Self::on(&io::stderr(), settings.json, settings.quiet, settings.color);
        let (verbose, next) = (settings.verbose, !settings.no_record);
        Self { options: summary::SummaryOptions { by: settings.by, verbose, next, ..show.options }, ..show }
    }

    /// On a stream, with its width and color if it is a terminal.
    pub(crate) fn on(stream: &(impl IsTerminal + AsFd), json: bool, quiet: bool, color: ColorChoice) -> Self {
        let terminal = stream.is_terminal();
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // An empty value counts as unset (https://no-color.org).
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let width = if terminal { terminal_width(stream).unwrap_or(PLAIN_WIDTH) } else { PLAIN_WIDTH };
        Self { json, quiet, options: summary::SummaryOptions { width, color, ..summary::SummaryOptions::default() } }
    }

    /// The options of text on the stream.
    pub(crate) fn summary_options(&self) -> summary::SummaryOptions {
        self.options
    }

    /// The width of the stream in columns.
    pub(crate) fn width(&self) -> usize {
        self.options.width
    }

    /// States this exit code beside that of the command.
    pub(crate) fn with_exit_code(self, exit_code: Option<u8>) -> Self {
        Self { options: summary::SummaryOptions { exit_code, ..self.options }, ..self }
    }

    /// Prints the final report of a session on standard error. Failure is ignored.
    pub(crate) fn print_final(self, report: Arc<Report>, has_file: bool) {
        print_on_stderr(move |out| self.write_screen(&report, has_file, out));
    }

    /// Writes what appears on the screen: nothing with `-q`, or if the text is in the file of `-o`.
    pub(crate) fn write_screen(&self, report: &Report, has_file: bool, out: &mut dyn Write) -> io::Result<()> {
        let only_in_file = has_file && !self.json;
        match self.json && !has_file {
            _ if self.quiet || only_in_file => Ok(()),
            true => json::write(report, out),
            false => summary::write(report, &self.options, out),
        }
    }

    /// Writes an interim report: text, even with `-q` or `-j`, because SIGUSR1 requests it
    /// explicitly.
    pub(crate) fn write_interim(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        summary::write(report, &self.options, out)
    }

    /// Writes the file of `-o`.
    pub(crate) fn write_file(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let plain = summary::SummaryOptions { width: PLAIN_WIDTH, color: false, next: false, ..self.options };
        if self.json { json::write(report, out) } else { summary::write(report, &plain, out) }
    }
}

fn terminal_width(stream: &impl AsFd) -> Option<usize> {
    terminal_size(stream).map(|(_, columns)| columns)
}

/// The size in rows and columns (TIOCGWINSZ, ioctl_tty(2)); `None` if the terminal does not report
/// its width.
pub(super) fn terminal_size(stream: &impl AsFd) -> Option<(usize, usize)> {
    let fd = stream.as_fd().as_raw_fd();
    // SAFETY: an all-zero winsize is valid, and the kernel fills it in.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) == 0).then_some(size)
    };
    size.map(|size| (size.ws_row.into(), size.ws_col.into())).filter(|(_, columns)| *columns > 0)
}
