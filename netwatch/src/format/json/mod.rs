//! The report as JSON: one document, or one object per line. docs/json.md describes every key; a
//! change of meaning raises [`SCHEMA`].

mod balance;
mod document;
pub mod escaped;
mod flow;
pub mod lines;
mod naming;
mod process;
mod series;
mod service;

use std::io::{self, Write};

use crate::report::Report;

/// Version of the keys. It rises when a key is renamed, removed or changes its meaning; new keys
/// may be added at any time.
pub const SCHEMA: u32 = 2;

/// Writes the document: objects indented, each entry of a list on one line, a newline at the end.
///
/// Entries are serialized one at a time, so memory does not grow with the report. Writes are small:
/// `out` should be buffered.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    escaped::pretty(&document::Document { report, with_lists: true }, out)?;
    out.write_all(b"\n")
}

/// A list of runs as a document.
pub fn runs(runs: &[impl serde::Serialize]) -> String {
    #[derive(serde::Serialize)]
    struct Runs<'a, T> {
        schema: u32,
        runs: &'a [T],
    }
    escaped::to_text(&Runs { schema: SCHEMA, runs })
}

/// For serde: zero counters are left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// For serde: false flags are left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A list whose entries are made one at a time while it is written.
struct Streamed<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: serde::Serialize>> serde::Serialize for Streamed<F> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
