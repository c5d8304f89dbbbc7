//! How the user wants to see it: on standard error, in the file of `-o`, as text or as JSON.

use std::io::{self, IsTerminal, Write};

use crate::cli::{ColorChoice, RunArgs};
use crate::flow::Report;
use crate::sink::{json, summary};

/// Decided once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    json: bool,
    quiet: bool,
    look: summary::Options,
}

/// Width for files and pipes.
const PLAIN_WIDTH: usize = 100;

impl Show {
    pub(super) fn new(arguments: &RunArgs) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = match arguments.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: any value that is not empty.
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let width = if terminal { terminal_width().unwrap_or(PLAIN_WIDTH) } else { PLAIN_WIDTH };
        Self {
            json: arguments.json,
            quiet: arguments.quiet,
            look: summary::Options { width, colour: color, ..summary::Options::default() },
        }
    }

    /// On standard error, unless it goes to a file only or nothing is wanted. A closed standard error changes nothing.
    pub(super) fn report(&self, report: &Report, has_file: bool) {
        let elsewhere = has_file && !self.json;
        if self.quiet || elsewhere {
            return;
        }
        let text = if self.json && !has_file { as_json(report) } else { self.as_text(report, self.look) };
        let _ = io::stderr().write_all(&text);
    }

    /// Interim figures are asked for by a signal: they are shown even with `-q`.
    pub(super) fn interim(&self, report: &Report) {
        let _ = io::stderr().write_all(&self.as_text(report, self.look));
    }

    /// What goes into the file.
    pub(super) fn file(&self, report: &Report) -> Vec<u8> {
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
fn terminal_width() -> Option<usize> {
    // SAFETY: an all-zero winsize is valid and the kernel fills it in.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) == 0).then_some(size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}
