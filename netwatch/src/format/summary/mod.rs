//! The summary of a report for a terminal. Width and color are options: nothing here queries the
//! terminal.
//!
//! The answer comes first: what failed, then the hosts. Diagnostics follow only if something is
//! wrong, or on request. Packets and bytes in the table are those a wire would carry; the balance
//! compares the counters of the interface. The JSON document has both.

mod blocks;
mod closing;
mod endpoints;
mod facts;
pub(super) mod failed;
mod grid;
pub(super) mod head;
mod host_loopback;
pub(super) mod hosts;
mod line;
mod names;
mod processes;
pub(super) mod text;
pub(crate) mod units;

use std::io::{self, Write};

use crate::report::Report;
pub(super) use head::signal_name;
use line::Line;

/// On narrower terminals lines are longer than the terminal, because they would be unreadable
/// otherwise.
const MIN_WIDTH: usize = 40;

/// Layout of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SummaryOptions {
    /// Columns of the terminal.
    pub width: usize,
    /// Use colors (ANSI SGR).
    pub color: bool,
    /// Endpoints listed; further ones are added up.
    pub max_endpoints: usize,
    /// The grouping of traffic.
    pub by: GroupBy,
    /// Also diagnostics: addresses, packets, housekeeping, the balance in numbers, every loss.
    pub verbose: bool,
    /// Also what to do next.
    pub next: bool,
    /// The exit code of netwatch, if a threshold changed that of the command.
    pub exit_code: Option<u8>,
}

/// The grouping of traffic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Endpoints, in a table.
    #[default]
    Endpoint,
    /// Processes, in a tree.
    Process,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        Self {
            width: 80,
            color: false,
            max_endpoints: 20,
            by: GroupBy::Endpoint,
            verbose: false,
            next: false,
            exit_code: None,
        }
    }
}

/// Writes the summary with a single call, so that it does not interleave with the output of a
/// command that still runs.
pub fn write(report: &Report, options: &SummaryOptions, out: &mut dyn Write) -> io::Result<()> {
    let width = options.width.max(MIN_WIDTH);
    let mut lines = head::lines(report, options, width);
    lines.push(Line::default());
    lines.extend(failed::lines(report, width));
    lines.extend(match (options.by, options.verbose) {
        (GroupBy::Endpoint, true) => endpoints::lines(report, options.max_endpoints, width),
        (GroupBy::Endpoint, false) => hosts::lines(report, options.max_endpoints, width),
        (GroupBy::Process, _) => processes::tree(report, width),
    });
    if options.verbose || options.by == GroupBy::Process {
        lines.push(Line::default());
    }
    lines.extend(match options.verbose {
        true => facts::lines(report, width),
        false => closing::lines(report, options.next, width),
    });
    let text: String = lines.iter().map(|line| line.paint(options.color)).collect();
    out.write_all(text.as_bytes())?;
    out.flush()
}
