//! How the user wants to see it: on a screen or none, in the file of `-o`, as text or as JSON.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};

use crate::cli::{ColorChoice, RunArgs};
use crate::report::Report;
use crate::sink::{json, summary};

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
    pub(super) fn new(arguments: &RunArgs) -> Self {
        let show = Self::on(&io::stderr(), arguments.json, arguments.quiet, arguments.color);
        let by = arguments.by.into();
        Self { look: summary::Options { by, ..show.look }, ..show }
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
    pub(super) fn report(&self, report: &Report, has_file: bool) {
        if let Some(text) = self.screen(report, has_file) {
            let _ = io::stderr().write_all(&text);
        }
    }

    /// What goes to the screen: nothing if it goes to a file only or nothing is wanted.
    pub(crate) fn screen(&self, report: &Report, has_file: bool) -> Option<Vec<u8>> {
        let elsewhere = has_file && !self.json;
        if self.quiet || elsewhere {
            return None;
        }
        Some(if self.json && !has_file { as_json(report) } else { self.as_text(report, self.look) })
    }

    /// Interim figures are asked for by a signal: they are shown even with `-q`.
    pub(super) fn interim(&self, report: &Report) {
        let _ = io::stderr().write_all(&self.as_text(report, self.look));
    }

    /// What goes into the file.
    pub(crate) fn file(&self, report: &Report) -> Vec<u8> {
        let plain = summary::Options { width: PLAIN_WIDTH, colour: false, ..self.look };
        if self.json { as_json(report) } else { self.as_text(report, plain) }
    }

    fn as_text(&self, report: &Report, look: summary::Options) -> Vec<u8> {
        let mut text = Vec::new();
        summary::write(report, &look, &mut text).expect("memory takes all");
        text
    }
}

fn as_json(report: &Report) -> Vec<u8> {
    let mut text = Vec::new();
    json::write(report, &mut text).expect("memory takes all");
    text
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
