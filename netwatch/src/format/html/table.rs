//! A table as plain data, written as HTML and as JSON.

use std::collections::HashMap;
use std::fmt::Write;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::markup::text;
use crate::format::escape;
use crate::format::summary::units::{bytes, count, duration};

/// Rows that are there without JavaScript.
const STATIC_ROWS: usize = 100;
/// Steps to the right that a tree shows; deeper ones are drawn there too.
const MAX_DEPTH: usize = 12;

/// How a column's cells are shown, and how they sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Words.
    Text,
    /// Addresses and the like.
    Code,
    /// Words, moved to the right by the row's depth.
    Tree,
    /// A count.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes, with a bar for their part of the table's `whole`.
    FlowShare,
    /// Nanoseconds.
    Duration,
    /// Nanoseconds since the run began.
    At,
}

/// A column: its title, and what its title means where that is not plain.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub title: &'static str,
    pub kind: Kind,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub help: &'static str,
}

/// A column.
pub(super) fn column(title: &'static str, kind: Kind, help: &'static str) -> Column {
    Column { title, kind, help }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Number(u64),
    /// Not known, or there is none.
    Nothing,
}

impl Cell {
    /// Text, of which nothing can reorder the line that it stands in.
    pub fn text(text: impl AsRef<str>) -> Self {
        match text.as_ref() {
            "" => Self::Nothing,
            text => Self::Text(escape(text).into_owned()),
        }
    }

    /// A number that may not be known.
    pub fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Nothing, Self::Number)
    }

    /// A number of which 0 says nothing.
    pub fn unless_zero(number: u64) -> Self {
        Self::number(Some(number).filter(|number| *number > 0))
    }
}

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Of its element, and in the data.
    pub id: &'static str,
    pub caption: &'static str,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// How deep each row of a tree is; empty if it is none.
    pub depths: Vec<usize>,
    /// What shares are parts of.
    pub whole: u64,
    /// Said instead of a table that has no rows.
    pub empty: &'static str,
}

impl Table {
    /// The element that the script takes over; with as many rows as it has to be readable without.
    pub fn html(&self) -> String {
        let Self { id, caption, empty, .. } = self;
        if self.rows.is_empty() {
            return format!("<p class=\"nothing\">{}</p>\n", text(empty));
        }
        let mut html = format!(
            "<div class=\"table\" id=\"{id}\"><div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption><thead><tr>"
        );
        for Column { title, kind, help } in &self.columns {
            let title_of = if help.is_empty() { String::new() } else { format!(" title=\"{}\"", text(help)) };
            let _ = write!(html, "<th scope=\"col\"{}{title_of}>{}</th>", class(*kind, None), text(title));
        }
        html += "</tr></thead><tbody>\n";
        for row in self.rows.iter().take(STATIC_ROWS).enumerate() {
            self.write_row(row, &mut html);
        }
        html += "</tbody></table></div>";
        let more = self.rows.len().saturating_sub(STATIC_ROWS);
        if more > 0 {
            let _ = write!(
                html,
                "<p class=\"more\">… and {} more, which need JavaScript to be shown.</p>",
                count(more as u64)
            );
        }
        html + "</div>\n"
    }

    fn write_row(&self, (at, row): (usize, &Vec<Cell>), html: &mut String) {
        *html += "<tr>";
        for (column, (Column { kind, .. }, cell)) in self.columns.iter().zip(row).enumerate() {
            let class = class(*kind, self.depths.get(at).copied());
            let (open, close) = if column == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            let _ = write!(html, "<{open}{class}>{}</{close}>", self.shown(*kind, cell));
        }
        *html += "</tr>\n";
    }

    fn shown(&self, kind: Kind, cell: &Cell) -> String {
        match (kind, cell) {
            (_, Cell::Nothing) => "–".to_owned(),
            (_, Cell::Text(said)) => text(said).into_owned(),
            (Kind::Code, Cell::Number(number)) => number.to_string(),
            (Kind::Bytes, Cell::Number(number)) => bytes(*number),
            (Kind::FlowShare, Cell::Number(number)) => share(*number, self.whole),
            (Kind::Duration, Cell::Number(number)) => duration(*number),
            (Kind::At, Cell::Number(number)) => at(*number),
            (_, Cell::Number(number)) => count(*number),
        }
    }
}

/// `+1.234 s`.
fn at(ns: u64) -> String {
    format!("+{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}

/// A bar and the percentage.
fn share(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1_000).checked_div(u128::from(whole)).unwrap_or(0);
    let percent = format!("{}.{}%", tenths / 10, tenths % 10);
    let said = if tenths == 0 && part > 0 { "&lt; 0.1%" } else { &percent };
    format!("{}<span>{said}</span>", bar(&percent))
}

/// A bar of a width in percent.
pub(super) fn bar(percent: &str) -> String {
    format!(
        "<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"100%\" height=\"100%\"/><rect width=\"{percent}\" height=\"100%\"/></svg>"
    )
}

fn class(kind: Kind, depth: Option<usize>) -> String {
    match (kind, depth) {
        (Kind::Text, _) => String::new(),
        (Kind::Code, _) => " class=\"code\"".to_owned(),
        (Kind::Tree, Some(depth)) => format!(" class=\"tree d{}\"", depth.min(MAX_DEPTH)),
        (Kind::Tree, None) => " class=\"tree\"".to_owned(),
        (Kind::FlowShare, _) => " class=\"share\"".to_owned(),
        (Kind::Count | Kind::Bytes | Kind::Duration | Kind::At, _) => " class=\"number\"".to_owned(),
    }
}

impl Serialize for Table {
    /// By column: texts of one are numbered, so that each is there once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Data<'a> {
            columns: &'a [Column],
            length: usize,
            values: Vec<Values<'a>>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            depths: &'a [usize],
            whole: u64,
        }
        let values = (0..self.columns.len()).map(|column| Values { rows: &self.rows, column }).collect();
        let (length, depths) = (self.rows.len(), self.depths.as_slice());
        Data { columns: &self.columns, length, values, depths, whole: self.whole }.serialize(serializer)
    }
}

/// One column of all rows.
struct Values<'a> {
    rows: &'a [Vec<Cell>],
    column: usize,
}

impl<'a> Values<'a> {
    fn cells(&self) -> impl Iterator<Item = &'a Cell> {
        let column = self.column;
        self.rows.iter().filter_map(move |row| row.get(column))
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.cells().any(|cell| matches!(cell, Cell::Text(_))) {
            return Numbered::of(self.cells()).serialize(serializer);
        }
        let mut list = serializer.serialize_seq(Some(self.rows.len()))?;
        for cell in self.cells() {
            match cell {
                Cell::Number(number) => list.serialize_element(number)?,
                Cell::Text(_) | Cell::Nothing => list.serialize_element(&None::<u64>)?,
            }
        }
        list.end()
    }
}

/// The texts of a column, each once, and which of them each row has: -1 for none.
#[derive(Serialize)]
struct Numbered<'a> {
    texts: Vec<&'a str>,
    of: Vec<isize>,
}

impl<'a> Numbered<'a> {
    fn of(cells: impl Iterator<Item = &'a Cell>) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        let number = |cell: &'a Cell| {
            let Cell::Text(text) = cell else { return -1 };
            let number = *numbers.entry(text).or_insert_with(|| {
                texts.push(text.as_str());
                texts.len() - 1
            });
            isize::try_from(number).unwrap_or(-1)
        };
        let of = cells.map(number).collect();
        Self { texts, of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![column("Name", Kind::Text, ""), column("Bytes", Kind::FlowShare, "of all")];
        let row = |name: &str, bytes| vec![Cell::text(name), bytes];
        let rows = vec![row("a<b", Cell::Number(750)), row("", Cell::Nothing), row("a<b", Cell::Number(250))];
        Table { id: "t", caption: "T", columns, rows, whole: 1_000, ..Table::default() }
    }

    #[test]
    fn texts_are_there_once() {
        let json = serde_json::to_value(table()).unwrap();
        assert_eq!(json["values"], serde_json::json!([{ "texts": ["a<b"], "of": [0, -1, 0] }, [750, null, 250]]));
    }

    #[test]
    fn readable_without_javascript() {
        let html = table().html();
        assert!(html.contains("<th scope=\"row\">a&lt;b</th>") && html.contains("<span>75.0%</span>"), "{html}");
        assert!(html.contains("<th scope=\"row\">–</th>"), "{html}");
        let many = Table { rows: vec![vec![Cell::Number(1)]; 150], ..table() };
        assert!(many.html().contains("and 50 more"));
    }
}
