//! The report for a person at a terminal. It asks nothing of the terminal itself: width and colour are given.
//!
//! Packets and bytes in the table are those a wire would carry; the balance compares what the interface counts. docs/json.md has both.

mod blocks;
mod endpoints;
mod facts;
mod grid;
pub(super) mod head;
mod line;
mod names;
mod processes;
pub(super) mod text;
pub(super) mod units;

use std::io::{self, Write};

use crate::report::Report;
pub(super) use head::signal_name;
use line::Line;

/// Narrower than this, lines are longer than the terminal rather than unreadable.
const MIN_WIDTH: usize = 40;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether to colour (ANSI SGR); otherwise the text is plain.
    pub colour: bool,
    /// Endpoints listed before the rest is only counted.
    pub max_endpoints: usize,
    /// What traffic is listed by.
    pub by: By,
}

/// What traffic is listed by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Endpoints, in a table.
    #[default]
    Endpoint,
    /// Processes, in a tree.
    Process,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 80, colour: false, max_endpoints: 20, by: By::Endpoint }
    }
}

/// Writes the summary in one go, so that it does not interleave with a command that is still writing.
pub fn write(report: &Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let width = options.width.max(MIN_WIDTH);
    let mut lines = head::lines(report, width);
    lines.push(Line::default());
    lines.extend(match options.by {
        By::Endpoint => endpoints::lines(report, options.max_endpoints, width),
        By::Process => processes::tree(report, width),
    });
    lines.push(Line::default());
    lines.extend(facts::lines(report, width));
    let text: String = lines.iter().map(|line| line.paint(options.colour)).collect();
    out.write_all(text.as_bytes())?;
    out.flush()
}
