//! The report as one HTML page. It uses no network and no other file, and nothing from the wire can
//! become code.
//!
//! Tables are plain data (`table`), written twice: as HTML for readers without JavaScript, and as
//! JSON for the script of the page. The Content-Security-Policy of the page allows only its script
//! and its style, by their hashes.

pub(in crate::format) mod assets;
mod balance;
mod changes;
mod checked;
mod distribution;
mod failures;
mod head;
mod hosts;
mod intervals;
pub(in crate::format) mod markup;
mod page;
mod ports;
mod remedy;
mod sections;
mod services;
mod table;
mod tables;
mod verdict;

use std::io::{self, Write};

pub use ports::{PagePort, PagePorts, PortsText};

use super::check::CheckedPolicy;
use crate::diff::Comparison;
use crate::report::Report;

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The run.
    pub report: &'a Report,
    /// The ports that the program needs.
    pub ports: Option<&'a PagePorts>,
    /// The verdict of a policy about the run.
    pub checked: Option<CheckedPolicy<'a>>,
    /// An earlier run to compare with.
    pub baseline: Option<Baseline<'a>>,
}

/// An earlier run, and its differences.
#[derive(Debug, Clone, Copy)]
pub struct Baseline<'a> {
    /// The earlier run.
    pub report: &'a Report,
    /// The differences between it and the run of the page.
    pub comparison: &'a Comparison,
}

impl<'a> Page<'a> {
    /// A page about a run alone.
    pub fn new(report: &'a Report) -> Self {
        Self { report, ports: None, checked: None, baseline: None }
    }
}

/// Writes the page.
pub fn write(page: &Page<'_>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(page::html(page).as_bytes())?;
    out.flush()
}
