//! A verdict as plain text.

use std::fmt::Write;

use super::{CheckedPolicy, words};
use crate::allow::{AllowRule, Violation};
use crate::format::escape;

/// Addresses that are listed.
const MAX_ADDRESSES: usize = 8;

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let mut text = format!("{}: {}\n", escape(checked.file), words::verdict(checked));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", words::extent(checked));
    for run in &verdict.runs {
        let _ = writeln!(text, "{}", escape(&words::run(run)));
    }
    for violation in &verdict.violations {
        text += &block(checked, violation);
    }
    let closing = closing(checked);
    if !closing.is_empty() {
        text.push('\n');
    }
    text + &closing
}

/// Uncertainties, needless rules and notes.
fn closing(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let mut text = String::new();
    let mut line = |label: &str, content: &str| {
        let _ = writeln!(text, "{label:<10} {}", escape(content));
    };
    let rule = |rule: &AllowRule| format!("{}:{} {rule}", checked.file, rule.line);
    verdict.uncertain.iter().for_each(|one| line("UNCERTAIN", one));
    for expired in checked.rules(&verdict.expired) {
        line("expired", &(rule(expired) + &words::until(expired)));
    }
    checked.rules(&verdict.unused).for_each(|unused| line("unused", &rule(unused)));
    verdict.notes.iter().for_each(|note| line("note", note));
    text
}

fn block(checked: &CheckedPolicy<'_>, violation: &Violation) -> String {
    let mut text = format!("\nVIOLATION  {}\n", escape(&words::title(violation)));
    let runs: Vec<&str> = violation.runs.iter().map(String::as_str).collect();
    let rows = [
        ("program", words::programs(violation)),
        ("address", words::addresses(violation, MAX_ADDRESSES)),
        ("name", words::evidence(violation)),
        ("count", words::count(violation)),
        ("run", if checked.verdict.runs.len() > 1 { runs.join(", ") } else { String::new() }),
        ("reason", words::reason(violation)),
        ("nearest", words::nearest(checked, violation).unwrap_or_default()),
    ];
    for (label, content) in rows.iter().filter(|(_, content)| !content.is_empty()) {
        let _ = writeln!(text, "  {label:<8} {}", escape(content));
    }
    text += "  to allow it, add\n";
    for line in violation.add.lines() {
        let _ = writeln!(text, "    {}", escape(line));
    }
    text
}
