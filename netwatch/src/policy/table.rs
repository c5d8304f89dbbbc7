//! A plain table of required ports, for a manual or a ticket.

use super::header;
use super::rows::{Row, rows};
use super::text::comment;
use super::{Requirements, RuleOptions};

const TITLES: [&str; 8] = ["DIRECTION", "PROTOCOL", "PORT", "NAME", "PURPOSE", "NEED", "PROGRAM", "ADDRESSES"];
/// Bytes of a name in a cell.
const MAX_NAME_BYTES: usize = 200;

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let rows = rows(requirements, options);
    let mut text = format!("{}\n\n", header::table_title(requirements));
    text += &match rows.is_empty() {
        true => "No network access is required.\n".to_owned(),
        false => table(&rows.iter().flat_map(lines).collect::<Vec<_>>()),
    };
    text.push('\n');
    let notes = header::table_notes(requirements, options, &rows);
    text + &header::commented(&notes, "-").replace("\n-   ", "\n  ")
}

/// A line for each address; only the first has the other cells.
fn lines(row: &Row) -> Vec<[String; 8]> {
    let need = match row.is_required {
        true => row.need().to_owned(),
        false => format!("{}: {}", row.need(), row.failures),
    };
    let first = [
        row.direction().to_owned(),
        row.protocol.clone(),
        row.port.clone(),
        comment(&row.name, MAX_NAME_BYTES),
        comment(&row.purpose, MAX_NAME_BYTES),
        need,
        comment(&row.programs(), MAX_NAME_BYTES),
    ];
    let mut lines = Vec::new();
    for address in &row.addresses {
        let mark = row.mark(address);
        let cells = if lines.is_empty() { first.clone() } else { Default::default() };
        lines.push(with_last(cells, format!("{}{mark}", address.address)));
    }
    if lines.is_empty() {
        lines.push(with_last(first, String::new()));
    }
    lines
}

fn with_last(cells: [String; 7], last: String) -> [String; 8] {
    let [a, b, c, d, e, f, g] = cells;
    [a, b, c, d, e, f, g, last]
}

/// Pads each column to its widest cell, except the last one. Columns without content are left out.
fn table(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let columns: Vec<(usize, usize)> =
        (0..TITLES.len()).map(|column| (column, width(column))).filter(|(_, width)| *width > 0).collect();
    let line = |cell: &dyn Fn(usize) -> String| {
        let pad = |&(column, width): &(usize, usize)| format!("{:<1$}", cell(column), width.max(TITLES[column].len()));
        columns.iter().map(pad).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head = line(&|column| TITLES[column].to_owned());
    head + &rows.iter().map(|row| line(&|column| row[column].clone())).collect::<String>()
}
