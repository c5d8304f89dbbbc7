//! The report as one HTML page. It uses no network and no other file, and nothing from the wire can
//! become code.
//!
//! Tables are plain data (`table`), written twice: as HTML for readers without JavaScript, and as
//! JSON for the script of the page. The Content-Security-Policy of the page allows only its script
//! and its style, by their hashes.

mod assets;
mod balance;
mod distribution;
mod head;
pub(in crate::format) mod markup;
mod page;
mod sections;
mod table;
mod tables;

use std::io::{self, Write};

use crate::report::{Report, Series};

/// Writes the page.
pub fn write(report: &Report, series: &Series, out: &mut dyn Write) -> io::Result<()> {
    let page = page::page(report, series);
    out.write_all(page.as_bytes())?;
    out.flush()
}
