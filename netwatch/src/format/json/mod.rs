//! The report as one JSON document. docs/json.md describes every key; a change of meaning raises [`SCHEMA`].

mod flow;
pub mod harmless;
pub mod lines;
mod model;
mod naming;
mod process;

use std::io::{self, Write};

use crate::report::Report;

/// Raised when a key changes its meaning or goes away; new keys may come at any time.
pub const SCHEMA: u32 = 1;

/// Writes the document, indented, with a newline at its end. Flows are serialised one by one, in small pieces: no second copy of them is made, and `out`
/// should be buffered.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    harmless::pretty(&model::Document::from(report), out)?;
    out.write_all(b"\n")
}
