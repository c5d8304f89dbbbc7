//! The comparison with an earlier run.

use super::Baseline;
use super::markup::text;
use super::table::{ColumnKind, HtmlCell, HtmlTable, column};
use crate::diff::Change;
use crate::format::diff::{notes, side, subject, threshold, values};
use crate::format::summary::text::cut;

/// Characters of a run or a note.
const MAX_TEXT: usize = 500;

/// What is compared.
pub(super) fn introduction(baseline: &Baseline<'_>) -> String {
    let comparison = baseline.comparison;
    let runs: Vec<String> = comparison.old.iter().map(side).collect();
    format!("<p class=\"means\">Compared with {}. {}.</p>\n", text(&cut(&runs.join(", "), MAX_TEXT)), {
        let threshold = threshold(comparison);
        text(&(threshold[..1].to_uppercase() + &threshold[1..])).into_owned()
    })
}

/// The differences.
pub(super) fn table(baseline: &Baseline<'_>) -> HtmlTable {
    let row = |change: &Change| {
        vec![
            HtmlCell::text(subject(change)),
            HtmlCell::text(change.kind.name()),
            HtmlCell::text(change.subject.kind().name()),
            HtmlCell::text(values(change, |measure| measure.old)),
            HtmlCell::text(values(change, |measure| measure.new)),
        ]
    };
    HtmlTable {
        id: "changes-table",
        caption: "Changes",
        columns: vec![
            column("What", ColumnKind::Text, ""),
            column("Change", ColumnKind::Word, ""),
            column("Kind", ColumnKind::Word, ""),
            column("Before", ColumnKind::Text, ""),
            column("Now", ColumnKind::Text, ""),
        ],
        rows: baseline.comparison.changes.iter().map(row).collect(),
        empty: "Nothing differs.",
        ..HtmlTable::default()
    }
}

/// What limits the comparison.
pub(super) fn limits(baseline: &Baseline<'_>) -> String {
    let notes = notes(baseline.comparison);
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", text(&cut(note, MAX_TEXT)))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"means\">{items}</ul>\n") }
}
