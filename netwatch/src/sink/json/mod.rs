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

/// Writes the document, indented, with a newline at its end. Flows are serialised one by one: no second copy of them is made.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut buffered = io::BufWriter::with_capacity(64 * 1024, out);
    harmless::pretty(&model::Document::from(report), &mut buffered)?;
    buffered.write_all(b"\n")?;
    buffered.flush()
}
