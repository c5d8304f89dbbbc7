//! A plain table of required ports, for a manual or a ticket. If it is too wide, the addresses are
//! below the other cells; on very narrow terminals, all cells are below each other.

use super::header;
use super::rows::{Row, rows};
use super::text::{comment, wrap};
use super::{Requirements, RuleOptions};

const TITLES: [&str; COLUMNS] = ["DIRECTION", "PROTOCOL", "PORT", "NAME", "PURPOSE", "RESULT", "PROGRAM"];
const COLUMNS: usize = 7;
const ADDRESSES: &str = "ADDRESSES";
const NAME: usize = 3;
/// Minimum width to which a cell is wrapped; 0 for cells that are never wrapped.
const MIN_WIDTHS: [usize; COLUMNS] = [0, 0, 0, 16, 10, 9, 8];
/// The gap between two columns.
const GAP: &str = "  ";
/// Minimum width. On narrower terminals, lines are longer than the terminal, because shorter ones
/// would be unreadable.
const MIN_WIDTH: usize = 40;
/// Width of the notes if the width of the table is unlimited.
const NOTES_WIDTH: usize = 110;
/// Maximum length of a name in a cell, bytes.
const MAX_NAME_BYTES: usize = 200;

/// A row: its cells and its addresses.
type TableRow = ([String; COLUMNS], Vec<String>);

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let rows = rows(requirements, options);
    let width = options.width.unwrap_or(usize::MAX).max(MIN_WIDTH);
    let mut text = header::table_title(requirements);
    text = wrap(&text, width).join("\n") + "\n\n";
    let (required, attempted): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.is_required);
    text += &match required.is_empty() {
        true => header::NOTHING_REQUIRED.to_owned() + "\n",
        false => layout(&required, width),
    };
    if !attempted.is_empty() {
        text += &format!("\n{}\n\n", wrap(header::ATTEMPTED, width).join("\n"));
        text += &layout(&attempted, width);
    }
    text.push('\n');
    let notes = header::table_notes(requirements, options, &rows);
    text + &header::wrapped(&notes, "-", width.min(NOTES_WIDTH)).replace("\n-   ", "\n  ")
}

fn cells(row: &Row) -> TableRow {
    let cells = [
        row.direction().to_owned(),
        row.protocol.clone(),
        row.port.clone(),
        comment(&row.name, MAX_NAME_BYTES),
        comment(&row.purpose.label, MAX_NAME_BYTES) + row.purpose.mark(),
        row.failures.clone(),
        comment(&row.programs(), MAX_NAME_BYTES),
    ];
    (cells, row.addresses.iter().map(|address| format!("{}{}", address.address, row.mark(address))).collect())
}

fn layout(rows: &[&Row], width: usize) -> String {
    let rows: Vec<TableRow> = rows.iter().map(|row| cells(row)).collect();
    let rows = rows.as_slice();
    let wide = wide(rows);
    if wide.lines().all(|line| line.len() <= width) {
        return wide;
    }
    addresses_below(rows, width).unwrap_or_else(|| rows.iter().map(|row| block(row, width)).collect())
}

/// The columns that have content, with the width of their widest cell.
fn columns(rows: &[TableRow]) -> Vec<(usize, usize)> {
    let width = |column: usize| rows.iter().map(|(cells, _)| cells[column].len()).max().unwrap_or(0);
    let used = (0..COLUMNS).map(|column| (column, width(column))).filter(|(_, width)| *width > 0);
    used.map(|(column, width)| (column, width.max(TITLES[column].len()))).collect()
}

/// The cells, padded, and what follows them.
fn line(columns: &[(usize, usize)], cell: impl Fn(usize) -> String, last: &str) -> String {
    let padded = columns.iter().map(|&(column, width)| format!("{:<width$}{GAP}", cell(column)));
    (padded.collect::<String>() + last).trim_end().to_owned() + "\n"
}

/// A line for each address; only the first has the other cells.
fn wide(rows: &[TableRow]) -> String {
    let columns = columns(rows);
    let has_addresses = rows.iter().any(|(_, addresses)| !addresses.is_empty());
    let mut text = line(&columns, |column| TITLES[column].to_owned(), if has_addresses { ADDRESSES } else { "" });
    for (cells, addresses) in rows {
        let first = addresses.first().map_or("", String::as_str);
        text += &line(&columns, |column| cells[column].clone(), first);
        for address in addresses.iter().skip(1) {
            text += &line(&columns, |_| String::new(), address);
        }
    }
    text
}

/// Long cells are wrapped, and the addresses begin below the name. `None` if even that is too wide.
fn addresses_below(rows: &[TableRow], width: usize) -> Option<String> {
    let mut columns = columns(rows);
    let sum = |columns: &[(usize, usize)]| columns.iter().map(|(_, width)| width + GAP.len()).sum::<usize>();
    while sum(&columns) > width + GAP.len() {
        let can_shrink = |(column, width): &&mut (usize, usize)| (1..*width).contains(&MIN_WIDTHS[*column]);
        let widest = columns.iter_mut().filter(can_shrink).max_by_key(|(_, width)| *width)?;
        widest.1 -= 1;
    }
    let indent: usize =
        columns.iter().take_while(|(column, _)| *column < NAME).map(|(_, width)| width + GAP.len()).sum();
    let mut text = line(&columns, |column| TITLES[column].to_owned(), "");
    for (cells, addresses) in rows {
        let wrapped: Vec<(usize, Vec<String>)> =
            columns.iter().map(|(column, width)| (*column, wrap(&cells[*column], *width))).collect();
        let height = wrapped.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
        for at in 0..height {
            let cell = |column| {
                let lines = wrapped.iter().find(|(of, _)| *of == column).map(|(_, lines)| lines);
                lines.and_then(|lines| lines.get(at)).cloned().unwrap_or_default()
            };
            text += &line(&columns, cell, "");
        }
        text += &list(addresses, indent, width);
    }
    Some(text)
}

/// `outbound tcp/443 app.example, HTTPS, by shop.py`, and the addresses below.
fn block((cells, addresses): &TableRow, width: usize) -> String {
    let [direction, protocol, port, name, purpose, result, program] = cells;
    let service = if port.is_empty() { protocol.clone() } else { format!("{protocol}/{port}") };
    let by = if program.is_empty() { String::new() } else { format!("by {program}") };
    let first = [direction, &service, name].map(String::as_str).join(" ");
    let parts = [first.trim_end(), purpose, result, &by];
    let about = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    wrap(&about, width - 2).join("\n  ") + "\n" + &list(addresses, 2, width)
}

/// The addresses in lines of this width, each address with its mark.
fn list(addresses: &[String], indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for address in addresses {
        if used > 0 && used + 2 + address.len() <= width {
            text += ", ";
            used += 2;
        } else {
            text += if used > 0 { ",\n" } else { "" };
            text += &" ".repeat(indent);
            used = indent;
        }
        text += address;
        used += address.len();
    }
    if addresses.is_empty() { text } else { text + "\n" }
}
