//! The HTML page: its structure, and itself in a real Chromium.

mod answers;
mod browser;
mod looks;
mod structure;
mod works;

#[path = "../sample/mod.rs"]
mod sample;

use std::fs;
use std::path::PathBuf;

use netwatch::allow::{self, AllowList, PolicyDate, PolicyVerdict};
use netwatch::diff::{Comparison, DiffOptions, compare};
use netwatch::format::check::CheckedPolicy;
use netwatch::format::html::{self, Baseline, Page, PagePorts};
use netwatch::policy::{RuleOptions, page_ports};
use netwatch::report::Report;

/// What a page shows besides a run: the ports, the verdict of a policy, and an earlier run.
struct Context {
    ports: PagePorts,
    list: AllowList,
    verdict: PolicyVerdict,
    before: Report,
    comparison: Comparison,
}

impl Context {
    /// With a policy that allows part of the run, and a run before that reached less.
    fn of(report: &Report) -> Self {
        let list = allow::parse("[[allow]]\nname = \"*.example\"\nport = 443\n").unwrap();
        let mut before = report.clone();
        before.run.id = "1b0e".to_owned();
        before.endpoints.truncate(before.endpoints.len() / 2);
        Self {
            ports: page_ports(report, report.run.id.clone(), &RuleOptions::default()),
            verdict: allow::check(&[report], &list, PolicyDate::new(2026, 6, 15)),
            comparison: compare(&[&before], &[report], &DiffOptions::default()),
            list,
            before,
        }
    }

    fn page(&self, report: &Report) -> String {
        written(&Page {
            ports: Some(&self.ports),
            checked: Some(CheckedPolicy { file: "netwatch.toml", list: &self.list, verdict: &self.verdict }),
            baseline: Some(Baseline { report: &self.before, comparison: &self.comparison }),
            ..Page::new(report)
        })
    }
}

fn written(page: &Page<'_>) -> String {
    let mut text = Vec::new();
    html::write(page, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The page of a report, as `netwatch report` writes it without a policy and an earlier run.
fn page(report: &Report) -> String {
    let ports = page_ports(report, report.run.id.clone(), &RuleOptions::default());
    written(&Page { ports: Some(&ports), ..Page::new(report) })
}

/// A place of its own for what a test writes; it is kept for review by people.
fn place(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("html");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// The page of a report as a file.
fn file(name: &str, report: &Report) -> PathBuf {
    save(name, &page(report))
}

/// The page with everything as a file.
fn full_file(name: &str, report: &Report) -> PathBuf {
    save(name, &Context::of(report).page(report))
}

fn save(name: &str, page: &str) -> PathBuf {
    let path = place(name);
    fs::write(&path, page).unwrap();
    path
}
