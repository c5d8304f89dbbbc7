//! Required ports as comma-separated values (RFC 4180): one row per address, for sorting and
//! filtering in a spreadsheet.

use super::rows::{Row, rows};
use super::text::comment;
use super::{Requirements, RuleOptions};

const COLUMNS: [&str; 11] =
    ["purpose", "name", "protocol", "port", "direction", "address", "used", "need", "program", "attempted", "result"];
/// Maximum length of a name in a cell, bytes.
const MAX_NAME_BYTES: usize = 255;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for row in rows(requirements, options) {
        match row.addresses.is_empty() {
            true => text += &line(&row, "", [row.is_required, !row.is_required], &row.failures),
            false => row.addresses.iter().for_each(|address| {
                text += &line(&row, &address.address, [address.is_used(), address.is_attempted()], &address.failures);
            }),
        }
    }
    text
}

fn line(row: &Row, address: &str, uses: [bool; 2], result: &str) -> String {
    let [used, attempted] = uses.map(|is| if is { "yes" } else { "no" }.to_owned());
    let cells = [
        quoted(comment(&row.purpose.label, MAX_NAME_BYTES) + row.purpose.mark()),
        cell(&row.name),
        cell(&row.protocol),
        row.port.clone(),
        row.direction().to_owned(),
        address.to_owned(),
        used,
        row.need().to_owned(),
        cell(&row.programs()),
        attempted,
        cell(result),
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
