//! A comparison as Markdown: a table of changes.

use super::{notes, side, subject, threshold, values, verdict};
use crate::diff::{Change, Comparison};
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
    format!(
        "| {} | {} | {} | {} | {} |\n",
        change.kind.name(),
        change.subject.kind().name(),
        cell(&subject(change)),
        values(change, |measure| measure.old),
        values(change, |measure| measure.new),
    )
}
