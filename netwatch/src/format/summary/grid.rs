//! A table of aligned columns. Only the first column shrinks: a cell that does not fit gets a line
//! of its own, as in `df`.

use super::line::{Line, Style};
use super::text::{self, wrap};

/// Spaces between columns.
const GAP: usize = 2;
/// The first column is never made narrower than an IPv4 address.
const MIN_FIRST: usize = 15;
/// Indent of remarks below a row.
const REMARK: &str = "  └ ";

/// One row: the first cell is aligned left, the second and third too, the others right.
#[derive(Debug, Default)]
pub(super) struct GridRow {
    pub cells: Vec<String>,
    pub style: Style,
    /// Remark below the row in a faint style; empty for none.
    pub aside: String,
    /// Remark below the row about failures; empty for none.
    pub below: String,
}

/// Whether every cell fits its column.
pub(super) fn is_roomy(rows: &[GridRow], width: usize) -> bool {
    let widest = rows.iter().filter_map(|row| row.cells.first()).map(|cell| text::width(cell)).max();
    fit(rows, width).is_some_and(|widths| widths.first().copied() >= widest)
}

/// The lines of the table, or `None` if it cannot be made narrow enough.
pub(super) fn lines(rows: &[GridRow], left: usize, width: usize) -> Option<Vec<Line>> {
    let widths = fit(rows, width)?;
    Some(rows.iter().flat_map(|row| row_lines(row, &widths, left, width)).collect())
}

fn fit(rows: &[GridRow], width: usize) -> Option<Vec<usize>> {
    let columns = rows.iter().map(|row| row.cells.len()).max()?;
    let cell_width = |row: &GridRow, column: usize| row.cells.get(column).map_or(0, |cell| text::width(cell));
    let mut widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| cell_width(row, column)).max().unwrap_or(0)).collect();
    let first = widths.first_mut()?;
    let wanted = std::mem::take(first);
    let others: usize = widths.iter().sum::<usize>() + GAP * (columns - 1);
    let room = width.checked_sub(others)?;
    if room < wanted.min(MIN_FIRST) {
        return None;
    }
    widths[0] = wanted.min(room);
    Some(widths)
}

fn row_lines(row: &GridRow, widths: &[usize], left: usize, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut cells = row.cells.clone();
    if text::width(&cells[0]) > widths[0] {
        let first = std::mem::take(&mut cells[0]);
        lines.extend(wrap(&first, width).into_iter().map(|part| Line::new(row.style, part)));
    }
    let padded: Vec<String> = cells.iter().zip(widths).enumerate().map(|(at, cell)| pad(at < left, cell)).collect();
    lines.push(Line::new(row.style, padded.join(&" ".repeat(GAP)).trim_end()));
    lines.extend(remark(&row.aside, Style::Faint, width));
    lines.extend(below(&row.below, width));
    lines
}

fn pad(left: bool, (cell, width): (&String, &usize)) -> String {
    if left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

/// A remark about failures below a row.
pub(super) fn below(text: &str, width: usize) -> Vec<Line> {
    remark(text, Style::Bad, width)
}

fn remark(text: &str, style: Style, width: usize) -> Vec<Line> {
    if text.is_empty() {
        return Vec::new();
    }
    let indent = text::width(REMARK);
    let parts = wrap(text, width - indent).into_iter().enumerate();
    parts
        .map(|(at, part)| {
            let lead = if at == 0 { REMARK.to_owned() } else { " ".repeat(indent) };
            Line::new(Style::Faint, lead).with(style, part)
        })
        .collect()
}
