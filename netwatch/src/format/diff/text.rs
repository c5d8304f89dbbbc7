//! A comparison as plain text: `+` appeared, `-` vanished, `~` changed.

use super::{notes, number, side, subject, threshold, verdict, word};
use crate::diff::{Change, ChangeKind, Comparison, Measure, SubjectKind};
use crate::format::escape;

pub(super) fn text(difference: &Comparison) -> String {
    let mut text = String::new();
    for (name, sides) in [("old", &difference.old), ("new", &difference.new)] {
        sides.iter().for_each(|one| text += &format!("{name}  {}\n", side(one)));
    }
    for kind in SubjectKind::ALL {
        let changes: Vec<&Change> = difference.changes.iter().filter(|change| change.subject.kind() == kind).collect();
        if changes.is_empty() {
            continue;
        }
        text += &format!("\n{}\n", kind.name());
        changes.iter().for_each(|change| text += &line(change));
    }
    text += &format!("\n{}\n", verdict(difference));
    if difference.is_same() || difference.changes.iter().any(|change| change.kind == ChangeKind::Changed) {
        text += &format!("{}\n", threshold(difference));
    }
    notes(difference).iter().for_each(|note| text += &format!("note: {}\n", escape(note)));
    text
}

fn line(change: &Change) -> String {
    let mark = match change.kind {
        ChangeKind::Appeared => '+',
        ChangeKind::Vanished => '-',
        ChangeKind::Changed => '~',
    };
    let subject = subject(change);
    let numbers: Vec<String> = change.measures.iter().filter_map(|measure| measure_text(change, measure)).collect();
    let numbers = if numbers.is_empty() { String::new() } else { format!("  ({})", numbers.join(", ")) };
    format!("  {mark} {}{numbers}\n", escape(&subject))
}

/// The old and the new value of a changed measure; for a subject on one side only, its value.
fn measure_text(change: &Change, measure: &Measure) -> Option<String> {
    let word = word(measure, change.subject.kind());
    match (measure.old, measure.new) {
        (Some(old), Some(new)) if measure.is_changed => {
            Some(format!("{word} {} → {}", number(measure, old), number(measure, new)))
        }
        (Some(_), Some(_)) | (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            (change.kind != ChangeKind::Changed).then(|| format!("{word} {}", number(measure, one)))
        }
    }
}
