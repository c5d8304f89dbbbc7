//! Required ports as a table in Markdown, for a README or a manual.

use super::header;
use super::rows::{Row, rows};
use super::text::comment;
use super::{Requirements, RuleOptions};

const HEAD: &str = "| Purpose | Name | Protocol | Port | Direction | Addresses | Need | Program |\n\
    |---|---|---|---|---|---|---|---|\n";
/// Maximum length of a name in a cell, bytes.
const MAX_NAME_BYTES: usize = 200;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let rows = rows(requirements, options);
    let mut text = format!("## {}\n\n", escaped(&header::table_title(requirements)));
    text += &match rows.is_empty() {
        true => "No network access is required.\n".to_owned(),
        false => HEAD.to_owned() + &rows.iter().map(line).collect::<String>(),
    };
    text.push('\n');
    for note in header::table_notes(requirements, options, &rows) {
        text += &format!("- {}\n", escaped(&note));
    }
    text
}

fn line(row: &Row) -> String {
    let addresses = row.addresses.iter().map(|address| format!("`{}`{}", address.address, row.mark(address)));
    let need = match row.is_required {
        true => row.need().to_owned(),
        false => format!("{}: {}", row.need(), row.failures),
    };
    let cells = [
        cell(&row.purpose),
        cell(&row.name),
        row.protocol.clone(),
        row.port.clone(),
        row.direction().to_owned(),
        addresses.collect::<Vec<_>>().join("<br>"),
        need,
        cell(&row.programs()),
    ];
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
