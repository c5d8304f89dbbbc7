//! Required ports as a table in Markdown, for a README or a manual.

use super::header;
use super::rows::{Row, rows};
use super::text::comment;
use super::{Requirements, RuleOptions};

const REQUIRED: &str = "| Purpose | Name | Protocol | Port | Direction | Addresses | Program |\n\
    |---|---|---|---|---|---|---|\n";
const ATTEMPTED: &str = "| Purpose | Name | Protocol | Port | Direction | Addresses | Program | Result |\n\
    |---|---|---|---|---|---|---|---|\n";
/// Maximum length of a name in a cell, bytes.
const MAX_NAME_BYTES: usize = 200;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let rows = rows(requirements, options);
    let mut text = format!("## {}\n\n", escaped(&header::table_title(requirements)));
    let (required, attempted): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_required);
    text += &match required.is_empty() {
        true => header::NOTHING_REQUIRED.to_owned() + "\n",
        false => REQUIRED.to_owned() + &required.iter().map(|row| line(row)).collect::<String>(),
    };
    if !attempted.is_empty() {
        text += &format!("\n{}\n\n{ATTEMPTED}", header::ATTEMPTED);
        attempted.iter().for_each(|row| text += &line(row));
    }
    text.push('\n');
    for note in header::table_notes(requirements, options, &rows) {
        text += &format!("- {}\n", escaped(&note));
    }
    text
}

fn line(row: &Row) -> String {
    let addresses = row.addresses.iter().map(|address| format!("`{}`{}", address.address, row.mark(address)));
    let mut cells = vec![
        cell(&row.purpose.label) + row.purpose.mark(),
        cell(&row.name),
        row.protocol.clone(),
        row.port.clone(),
        row.direction().to_owned(),
        addresses.collect::<Vec<_>>().join("<br>"),
        cell(&row.programs()),
    ];
    if !row.is_required {
        cells.push(row.failures.clone());
    }
    format!("| {} |\n", cells.join(" | "))
}

fn cell(text: &str) -> String {
    escaped(&comment(text, MAX_NAME_BYTES))
}

/// Escapes the characters that Markdown interprets. [`comment`] has already removed those of HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if "*_~|[]\\`<>".contains(c) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}
