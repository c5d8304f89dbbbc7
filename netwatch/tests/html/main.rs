//! The HTML page: its structure, and itself in a real Chromium.

mod browser;
mod looks;
mod structure;
mod works;

#[path = "../sample/mod.rs"]
mod sample;

use std::fs;
use std::path::PathBuf;

use netwatch::format::html;
use netwatch::report::{Report, Series};

/// The page of a report.
fn page((report, series): &(Report, Series)) -> String {
    let mut text = Vec::new();
    html::write(report, series, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A place of its own for what a test writes; it is kept for review by people.
fn place(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("html");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// The page of a report as a file.
fn file(name: &str, report: &(Report, Series)) -> PathBuf {
    let path = place(name);
    fs::write(&path, page(report)).unwrap();
    path
}
