//! A comparison as Markdown: a table of changes.

use super::{notes, number, side, threshold, verdict, word};
use crate::diff::{Change, ChangeKind, Comparison, Measure, ValueRange};
use crate::format::escape;
use crate::format::markdown::cell;

pub(super) fn text(difference: &Comparison) -> String {
    let mut text = format!("# Network differences: {}\n\n", verdict(difference));
    for (name, sides) in [("Old", &difference.old), ("New", &difference.new)] {
        sides.iter().for_each(|one| text += &format!("- {name}: {}\n", code(&side(one))));
    }
    if !difference.is_same() {
        text += "\n| | Kind | Subject | Old | New |\n|---|---|---|---|---|\n";
        difference.changes.iter().for_each(|change| text += &row(change));
    }
    text += &format!("\nIn this comparison, {}.\n", threshold(difference));
    for note in notes(difference) {
        text += &format!("\n- {}\n", code(&note));
    }
    text
}

/// A code span outside of a table, where a pipe needs no escape.
fn code(text: &str) -> String {
    cell(&escape(text)).replace(r"\|", "|")
}

fn row(change: &Change) -> String {
    let side = |pick: fn(&Measure) -> Option<ValueRange>| {
        let number = |measure: &Measure| {
            let range = pick(measure)?;
            let matters = change.kind != ChangeKind::Changed || measure.is_changed;
            matters.then(|| format!("{} {}", word(measure, change.subject.kind()), number(measure, range)))
        };
        change.measures.iter().filter_map(number).collect::<Vec<_>>().join(", ")
    };
    format!(
        "| {} | {} | {} | {} | {} |\n",
        change.kind.name(),
        change.subject.kind().name(),
        cell(&change.subject.to_string()),
        side(|measure| measure.old),
        side(|measure| measure.new),
    )
}
