//! How the user wants to see it: on a screen or none, in the file of `-o`, as text or as JSON.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};

use super::output::BUFFER;

use crate::format::{json, summary};
use crate::report::Report;
use crate::settings::{ColorChoice, RunSettings};

/// Decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    json: bool,
    quiet: bool,
    look: summary::Options,
}

/// Width for files and pipes.
pub(crate) const PLAIN_WIDTH: usize = 100;

impl Show {
    /// On standard error: standard output is the command's.
    pub(crate) fn new(settings: &RunSettings) -> Self {
        let show = Self::on(&io::stderr(), settings.json, settings.quiet, settings.color);
        Self { look: summary::Options { by: settings.by, ..show.look }, ..show }
    }

    /// On a stream, which may be a terminal.
    pub(crate) fn on(stream: &(impl IsTerminal + AsFd), json: bool, quiet: bool, color: ColorChoice) -> Self {
        let terminal = stream.is_terminal();
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value that is not empty.
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let width = if terminal { terminal_width(stream).unwrap_or(PLAIN_WIDTH) } else { PLAIN_WIDTH };
        Self { json, quiet, look: summary::Options { width, colour: color, ..summary::Options::default() } }
    }

    /// How text is printed there.
    pub(crate) fn look(&self) -> summary::Options {
        self.look
    }

    /// Columns there are.
    pub(crate) fn width(&self) -> usize {
        self.look.width
    }

    /// On standard error, unless it goes to a file only or nothing is wanted. A closed standard error changes nothing.
    pub(crate) fn report(&self, report: &Report, has_file: bool) {
        // Not locked: other threads may have something to say before the end of a long one.
        let _ = buffered(io::stderr(), |out| self.screen(report, has_file, out));
    }

    /// What goes to the screen: nothing if it goes to a file only or nothing is wanted.
    pub(crate) fn screen(&self, report: &Report, has_file: bool, out: &mut dyn Write) -> io::Result<()> {
        let elsewhere = has_file && !self.json;
        match self.json && !has_file {
            _ if self.quiet || elsewhere => Ok(()),
            true => json::write(report, out),
            false => summary::write(report, &self.look, out),
        }
    }

    /// Interim figures are asked for by a signal: they are shown even with `-q`.
    pub(crate) fn interim(&self, report: &Report) {
        let _ = buffered(io::stderr(), |out| summary::write(report, &self.look, out));
    }

    /// What goes into the file.
    pub(crate) fn file(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        let plain = summary::Options { width: PLAIN_WIDTH, colour: false, ..self.look };
        if self.json { json::write(report, out) } else { summary::write(report, &plain, out) }
    }
}

/// Through a buffer: what is short comes in one piece.
fn buffered(out: impl Write, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(BUFFER, out);
    fill(&mut buffered)?;
    buffered.flush()
}

/// ioctl_tty(2), TIOCGWINSZ.
fn terminal_width(stream: &impl AsFd) -> Option<usize> {
    let fd = stream.as_fd().as_raw_fd();
    // SAFETY: an all-zero winsize is valid and the kernel fills it in.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) == 0).then_some(size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}
