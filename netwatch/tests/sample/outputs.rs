//! All outputs, each with the name of its format.

use netwatch::allow;
use netwatch::diff::{self, compare};
use netwatch::export::{self, ExportTable};
use netwatch::format::history::{self, RecordedRun};
use netwatch::format::{check as checks, csv, diff as diffs, html, json, markdown, summary};
use netwatch::policy;
use netwatch::report::Report;

type NamedOutputs = Vec<(String, String)>;

pub fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("text")
}

/// The reports of one run.
pub fn reports(report: &Report) -> NamedOutputs {
    let mut all = Vec::new();
    for (by, width) in
        [(summary::GroupBy::Endpoint, 200), (summary::GroupBy::Endpoint, 60), (summary::GroupBy::Process, 100)]
    {
        let options = summary::SummaryOptions { width, by, verbose: true, ..summary::SummaryOptions::default() };
        all.push((format!("summary {by:?} {width}"), written(|out| summary::write(report, &options, out).unwrap())));
    }
    all.push(("json".into(), written(|out| json::write(report, out).unwrap())));
    all.push(("ndjson".into(), written(|out| json::lines::write(report, out).unwrap())));
    all.push(("csv".into(), written(|out| csv::write(report, out).unwrap())));
    all.push(("markdown".into(), written(|out| markdown::write(report, out).unwrap())));
    let ports = policy::page_ports(report, report.run.id.clone(), &policy::RuleOptions::default());
    all.push((
        "html".into(),
        written(|out| html::write(&html::Page { ports: Some(&ports), ..html::Page::new(report) }, out).unwrap()),
    ));
    all
}

/// Firewall rules from all of these runs.
pub fn rules(reports: &[&Report]) -> NamedOutputs {
    let options =
        policy::RuleOptions { with_failed: true, only_used: true, by_remote: true, ..policy::RuleOptions::default() };
    let rules =
        |format| (format!("rules {format:?}"), written(|out| policy::write(format, reports, &options, out).unwrap()));
    policy::RuleFormat::ALL.map(rules).into()
}

/// What differs.
pub fn differences(old: &[&Report], new: &[&Report]) -> NamedOutputs {
    let difference = compare(old, new, &diff::DiffOptions::default());
    let written = |format| {
        (format!("diff {format:?}"), written(|out| diffs::write(&difference, format, out).expect("into memory")))
    };
    [diffs::DiffFormat::Text, diffs::DiffFormat::Markdown, diffs::DiffFormat::Json].map(written).into()
}

/// The verdict of a check against a policy of one rule, and what is learned.
pub fn checks(reports: &[&Report]) -> NamedOutputs {
    let today = allow::PolicyDate::new(2026, 6, 15);
    let list = allow::parse("[[allow]]\nname = \"*.example\"\nport = 443\n").expect("a policy");
    let verdict = allow::check(reports, &list, today);
    let checked = checks::CheckedPolicy { file: "netwatch.toml", list: &list, verdict: &verdict };
    let written = |format: checks::CheckFormat| {
        let text = written(|out| checks::write(&checked, format, out).expect("into memory"));
        (format!("check {format:?}"), text)
    };
    let learned = allow::policy(&allow::learn(reports, &list, today), reports);
    checks::CheckFormat::ALL.map(written).into_iter().chain([("learn".to_owned(), learned)]).collect()
}

/// The list of runs, with this one.
pub fn history(entry: RecordedRun) -> NamedOutputs {
    vec![
        ("history".into(), history::table(std::slice::from_ref(&entry), Some(100))),
        ("history as JSON".into(), history::json(&[entry])),
    ]
}

/// Tables for other programs, as CSV.
pub fn exports(report: &Report) -> NamedOutputs {
    let text = |table| written(|out| export::write(&[report], table, export::ExportFormat::Csv, out).unwrap());
    [ExportTable::Flows, ExportTable::Series].map(|table| (format!("export {table:?}"), text(table))).into()
}
