//! `netwatch check` and `netwatch learn`: policies, what they allow, and how a verdict is written.

mod formats;
mod learning;
mod matching;
mod policies;
mod runs;
#[path = "../sample/mod.rs"]
mod sample;
mod schemas;
mod tables;
#[path = "../policy/tool.rs"]
#[allow(dead_code, reason = "the tests of firewall rules use all of it")]
mod tool;

use netwatch::allow::{self, AllowList, PolicyDate, PolicyVerdict};
use netwatch::report::Report;

/// The day of every check here.
fn today() -> PolicyDate {
    PolicyDate::new(2026, 6, 15)
}

#[track_caller]
fn policy(text: &str) -> AllowList {
    allow::parse(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

#[track_caller]
fn check(reports: &[&Report], text: &str) -> PolicyVerdict {
    allow::check(reports, &policy(text), today())
}

/// `tcp/443 app.example` and the like.
fn subjects(verdict: &PolicyVerdict) -> Vec<String> {
    verdict.violations.iter().map(|violation| format!("{} {}", violation.service, violation.remote)).collect()
}
