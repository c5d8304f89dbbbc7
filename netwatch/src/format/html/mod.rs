//! The report as one HTML page: no network, no other file, and nothing from the wire that could become code.
//!
//! Tables are made once, as plain data (`table`), and written twice: as HTML for readers without JavaScript, and as JSON for the page's own script, which
//! takes over from there. The page's Content-Security-Policy admits that script and that style, by their hashes, and nothing else.

mod assets;
mod balance;
mod data;
mod distribution;
mod head;
mod markup;
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
