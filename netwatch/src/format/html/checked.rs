//! The verdict of a policy: what it does not allow, and the lines that would allow it.

use super::markup::{text, verbatim};
use super::table::{ColumnKind, HtmlCell, HtmlTable, column, detail};
use crate::allow::{AllowRule, Violation};
use crate::format::check::{CheckedPolicy, words};
use crate::format::escape;
use crate::format::summary::text::cut;

/// Addresses of a violation that are listed.
const MAX_ADDRESSES: usize = 8;
/// Violations whose lines are listed.
const MAX_ADDED: usize = 100;
/// Characters of a remark.
const MAX_TEXT: usize = 500;

/// The verdict in a sentence.
pub(super) fn introduction(checked: &CheckedPolicy<'_>) -> String {
    let (class, sign) = if checked.verdict.fails() { ("bad", "✗") } else { ("good", "✓") };
    format!(
        "<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {}</p>\n<p class=\"means\">{}, in <code>{}</code>.</p>\n",
        text(&words::verdict(checked)),
        text(&words::extent(checked)),
        text(&cut(checked.file, MAX_TEXT))
    )
}

/// The violations.
pub(super) fn table(checked: &CheckedPolicy<'_>) -> HtmlTable {
    let row = |violation: &Violation| {
        vec![
            HtmlCell::text(words::title(violation)),
            HtmlCell::text(words::reason(violation)),
            HtmlCell::text(words::nearest(checked, violation).unwrap_or_default()),
            HtmlCell::text(words::programs(violation)),
            HtmlCell::text(words::count(violation)),
            HtmlCell::text(words::addresses(violation, MAX_ADDRESSES)),
        ]
    };
    HtmlTable {
        id: "violations-table",
        caption: "Violations",
        columns: vec![
            column("Violation", ColumnKind::Text, ""),
            column("Reason", ColumnKind::Bad, ""),
            column("Nearest rule", ColumnKind::Prose, ""),
            column("Program", ColumnKind::Text, ""),
            column("Count", ColumnKind::Text, ""),
            detail("Addresses", ColumnKind::Code, ""),
        ],
        rows: checked.verdict.violations.iter().map(row).collect(),
        empty: "Everything that the run reached is allowed.",
        ..HtmlTable::default()
    }
}

/// The lines to add, and remarks.
pub(super) fn remarks(checked: &CheckedPolicy<'_>) -> String {
    let verdict = checked.verdict;
    let rule = |rule: &AllowRule| format!("line {}: {rule}", rule.line);
    let expired: Vec<String> = checked.rules(&verdict.expired).map(rule).collect();
    let unused: Vec<String> = checked.rules(&verdict.unused).map(rule).collect();
    let mut html = String::new();
    if !verdict.violations.is_empty() {
        let added = verdict.violations.iter().take(MAX_ADDED).map(|violation| violation.add.as_str());
        let lines = added.collect::<Vec<_>>().join("\n");
        html += &format!(
            "<div class=\"tabs\" id=\"added\" data-label=\"Policy\"><details class=\"tab\" open><summary>Lines that allow this</summary>\
             <pre tabindex=\"0\" aria-label=\"Lines that allow this\">\n{}</pre></details></div>\n",
            verbatim(&lines)
        );
    }
    for (title, items) in [
        ("Uncertain", &verdict.uncertain),
        ("Expired rules", &expired),
        ("Unused rules", &unused),
        ("Notes", &verdict.notes),
    ] {
        if !items.is_empty() {
            let items = items.iter().map(|item| format!("<li>{}</li>", text(&escape(&cut(item, MAX_TEXT)))));
            html += &format!("<h3>{title}</h3><ul class=\"remarks\">{}</ul>\n", items.collect::<String>());
        }
    }
    html
}
