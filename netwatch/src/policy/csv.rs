//! Required ports as comma-separated values (RFC 4180): one row per address, for sorting and
//! filtering in a spreadsheet.

use super::rows::{Row, rows};
use super::text::comment;
use super::{Requirements, RuleOptions};

const COLUMNS: [&str; 9] = ["purpose", "name", "protocol", "port", "direction", "address", "used", "need", "program"];
/// Maximum length of a name in a cell, bytes.
const MAX_NAME_BYTES: usize = 255;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for row in rows(requirements, options) {
        let addresses = row.addresses.iter().map(|address| (address.address.as_str(), address.is_used));
        let addresses: Vec<(&str, bool)> = addresses.collect();
        let without = [("", true)];
        for (address, is_used) in if addresses.is_empty() { &without[..] } else { &addresses[..] } {
            text += &line(&row, address, *is_used);
        }
    }
    text
}

fn line(row: &Row, address: &str, is_used: bool) -> String {
    let cells = [
        quoted(comment(&row.purpose.label, MAX_NAME_BYTES) + row.purpose.mark()),
        cell(&row.name),
        cell(&row.protocol),
        row.port.clone(),
        row.direction().to_owned(),
        address.to_owned(),
        if is_used { "yes" } else { "no" }.to_owned(),
        row.need().to_owned(),
        cell(&row.programs()),
    ];
    cells.join(",") + "\r\n"
}

/// [`comment`] leaves no quote and no line feed. A spreadsheet would evaluate a cell that begins
/// like a formula.
fn cell(text: &str) -> String {
    quoted(comment(text, MAX_NAME_BYTES))
}

fn quoted(safe: String) -> String {
    let safe = if safe.starts_with(['=', '+', '-', '@']) { format!("'{safe}") } else { safe };
    if safe.contains(',') { format!("\"{safe}\"") } else { safe }
}
