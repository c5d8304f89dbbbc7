//! A verdict as Markdown, for a pull request or the summary of a job.

use std::fmt::Write;

use super::{CheckedPolicy, words};
use crate::allow::{AllowRule, Violation};
use crate::format::escape;
use crate::format::markdown::cell;
use crate::report::counted;

/// Addresses that are listed.
const MAX_ADDRESSES: usize = 8;
/// Violations that are listed: the summary of a job in GitHub Actions is limited to 1 MiB.
const MAX_VIOLATIONS: usize = 200;

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let mark = if verdict.fails() { "❌" } else { "✅" };
    let mut text = format!("## {mark} Network access: {}\n\n", words::verdict(checked));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "Policy {}: {}.", code(checked.file), words::extent(checked));
    for run in &verdict.runs {
        let _ = writeln!(text, "- {}", code(&words::run(run)));
    }
    if !verdict.violations.is_empty() {
        text += "\n| Violation | Program | Address | Name | Count | Reason | Nearest rule |\n|---|---|---|---|---|---|---|\n";
        let listed = || verdict.violations.iter().take(MAX_VIOLATIONS);
        listed().for_each(|violation| text += &row(checked, violation));
        let more = verdict.violations.len().saturating_sub(MAX_VIOLATIONS);
        if more > 0 {
            let _ = write!(text, "\nNot listed: {}.\n", counted(more as u64, "more violation"));
        }
        text += "\nTo allow this, add to the policy:\n\n```toml\n";
        text += &listed().map(added).collect::<Vec<_>>().join("\n");
        text += "```\n";
    }
    let rule = |rule: &AllowRule| format!("{}:{} {rule}", checked.file, rule.line);
    let expired: Vec<String> =
        checked.rules(&verdict.expired).map(|expired| rule(expired) + &words::until(expired)).collect();
    let unused: Vec<String> = checked.rules(&verdict.unused).map(rule).collect();
    for (title, items) in [
        ("Uncertain", &verdict.uncertain),
        ("Expired rules", &expired),
        ("Unused rules", &unused),
        ("Notes", &verdict.notes),
    ] {
        if !items.is_empty() {
            let _ = write!(text, "\n**{title}**\n\n");
            text += &items.iter().map(|item| format!("- {}\n", code(item))).collect::<String>();
        }
    }
    text
}

fn row(checked: &CheckedPolicy<'_>, violation: &Violation) -> String {
    let cells = [
        words::title(violation),
        words::programs(violation),
        words::addresses(violation, MAX_ADDRESSES),
        words::evidence(violation),
        words::count(violation),
        words::reason(violation),
        words::nearest(checked, violation).unwrap_or_default(),
    ];
    let cells: Vec<String> = cells.iter().map(|content| cell(content)).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Lines of a policy in a code block, which three backticks would end.
fn added(violation: &Violation) -> String {
    let lines = violation.add.lines().map(|line| escape(line).replace("```", "'''") + "\n");
    lines.collect()
}

/// A code span outside of a table, where a pipe needs no escape.
fn code(text: &str) -> String {
    cell(text).replace(r"\|", "|")
}
