//! A table as plain data, written as HTML and as JSON.

use std::collections::HashMap;
use std::fmt::Write;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::markup::text;
use crate::format::escape;
use crate::format::summary::text::cut;
use crate::format::summary::units::{bytes, count, duration};

/// Rows in the HTML, for readers without JavaScript.
const STATIC_ROWS: usize = 100;
/// Maximum indentation of a tree, levels; deeper rows get the same.
const MAX_DEPTH: usize = 12;
/// Characters of a text in a cell: names from packets can have 64 KiB.
const MAX_TEXT: usize = 1_000;
/// Tables with at least so many columns are lists of cards also on a tablet.
const WIDE: usize = 5;

/// How the cells of a column are displayed and sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ColumnKind {
    /// Words.
    Text,
    /// A short word of a fixed list.
    Word,
    /// Sentences, which get more space.
    Prose,
    /// Words about a failure.
    Bad,
    /// Addresses and the like.
    Code,
    /// Words, indented by the depth of the row.
    Tree,
    /// A count.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes, with a bar for their share of the `whole` of the table.
    Share,
    /// Nanoseconds.
    Duration,
    /// Nanoseconds since the start of the run.
    At,
}

/// A column: its title, and an explanation of the title where needed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct HtmlColumn {
    pub title: &'static str,
    pub kind: ColumnKind,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub help: &'static str,
    /// Displayed only in the details of a row.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_detail: bool,
}

/// Creates a column.
pub(super) fn column(title: &'static str, kind: ColumnKind, help: &'static str) -> HtmlColumn {
    HtmlColumn { title, kind, help, is_detail: false }
}

/// Creates a column of the details of a row.
pub(super) fn detail(title: &'static str, kind: ColumnKind, help: &'static str) -> HtmlColumn {
    HtmlColumn { is_detail: true, ..column(title, kind, help) }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HtmlCell {
    Text(String),
    Number(u64),
    /// Unknown or none.
    Nothing,
}

impl HtmlCell {
    /// Text, escaped so that it cannot reorder its line.
    pub fn text(text: impl AsRef<str>) -> Self {
        match text.as_ref() {
            "" => Self::Nothing,
            text => Self::Text(escape(&cut(text, MAX_TEXT)).into_owned()),
        }
    }

    /// A number that may be unknown.
    pub fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Nothing, Self::Number)
    }

    /// A number that is left out if it is 0.
    pub fn unless_zero(number: u64) -> Self {
        Self::number(Some(number).filter(|number| *number > 0))
    }
}

/// A table.
#[derive(Debug, Default)]
pub(super) struct HtmlTable {
    /// Id of its element, and in the data.
    pub id: &'static str,
    pub caption: &'static str,
    pub columns: Vec<HtmlColumn>,
    pub rows: Vec<Vec<HtmlCell>>,
    /// Depth of each row of a tree; empty for other tables.
    pub depths: Vec<usize>,
    /// The whole of which shares are parts.
    pub whole: u64,
    /// Text in place of a table without rows.
    pub empty: &'static str,
    /// Rows of a second table, each a part of a row of this one.
    pub parts: Option<Box<TableParts>>,
}

/// The parts of the rows of a table, shown in the details of a row.
#[derive(Debug, Serialize)]
pub(super) struct TableParts {
    pub table: HtmlTable,
    /// For each row of `table`, the index of the row that it is a part of.
    pub of: Vec<usize>,
}

impl HtmlTable {
    /// The element that the script takes over, with the first rows for readers without JavaScript.
    pub fn html(&self) -> String {
        let Self { id, caption, empty, .. } = self;
        let wide = if self.shown_columns().count() >= WIDE { " wide" } else { "" };
        if self.rows.is_empty() {
            return format!("<p class=\"nothing\">{}</p>\n", text(empty));
        }
        let mut html = format!(
            "<div class=\"table{wide}\" id=\"{id}\"><table role=\"table\"><caption>{caption}</caption><thead role=\"rowgroup\"><tr role=\"row\">"
        );
        for (_, HtmlColumn { title, kind, help, .. }) in self.shown_columns() {
            let title_of = if help.is_empty() { String::new() } else { format!(" title=\"{}\"", text(help)) };
            let _ = write!(
                html,
                "<th role=\"columnheader\" scope=\"col\"{}{title_of}>{}</th>",
                class(*kind, None),
                text(title)
            );
        }
        html += "</tr></thead><tbody role=\"rowgroup\">\n";
        for row in self.rows.iter().take(STATIC_ROWS).enumerate() {
            self.write_row(row, &mut html);
        }
        html += "</tbody></table>";
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

    fn write_row(&self, (at, row): (usize, &Vec<HtmlCell>), html: &mut String) {
        *html += "<tr role=\"row\">";
        for (column, HtmlColumn { title, kind, .. }) in self.shown_columns() {
            let cell = row.get(column).unwrap_or(&HtmlCell::Nothing);
            let class = class(*kind, self.depths.get(at).copied());
            let content = self.shown(*kind, cell);
            let _ = match column {
                0 => write!(html, "<th role=\"rowheader\" scope=\"row\"{class}>{content}</th>"),
                _ => write!(html, "<td role=\"cell\" data-label=\"{}\"{class}>{content}</td>", text(title)),
            };
        }
        *html += "</tr>\n";
    }

    /// The columns that are not details, with their indexes.
    fn shown_columns(&self) -> impl Iterator<Item = (usize, &HtmlColumn)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.is_detail)
    }

    fn shown(&self, kind: ColumnKind, cell: &HtmlCell) -> String {
        match (kind, cell) {
            (_, HtmlCell::Nothing) => "–".to_owned(),
            (_, HtmlCell::Text(plain)) => text(plain).into_owned(),
            (ColumnKind::Code, HtmlCell::Number(number)) => number.to_string(),
            (ColumnKind::Bytes, HtmlCell::Number(number)) => bytes(*number),
            (ColumnKind::Share, HtmlCell::Number(number)) => share(*number, self.whole),
            (ColumnKind::Duration, HtmlCell::Number(number)) => duration(*number),
            (ColumnKind::At, HtmlCell::Number(number)) => at(*number),
            (_, HtmlCell::Number(number)) => count(*number),
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
    let label = if tenths == 0 && part > 0 { "&lt; 0.1%" } else { &percent };
    format!("{}<span>{label}</span>", bar(&percent))
}

/// A bar of a width in percent.
pub(super) fn bar(percent: &str) -> String {
    format!(
        "<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"100%\" height=\"100%\"/><rect width=\"{percent}\" height=\"100%\"/></svg>"
    )
}

fn class(kind: ColumnKind, depth: Option<usize>) -> String {
    match (kind, depth) {
        (ColumnKind::Text, _) => String::new(),
        (ColumnKind::Word, _) => " class=\"word\"".to_owned(),
        (ColumnKind::Prose, _) => " class=\"prose\"".to_owned(),
        (ColumnKind::Bad, _) => " class=\"bad\"".to_owned(),
        (ColumnKind::Code, _) => " class=\"code\"".to_owned(),
        (ColumnKind::Tree, Some(depth)) => format!(" class=\"tree d{}\"", depth.min(MAX_DEPTH)),
        (ColumnKind::Tree, None) => " class=\"tree\"".to_owned(),
        (ColumnKind::Share, _) => " class=\"share\"".to_owned(),
        (ColumnKind::Count | ColumnKind::Bytes | ColumnKind::Duration | ColumnKind::At, _) => {
            " class=\"number\"".to_owned()
        }
    }
}

impl Serialize for HtmlTable {
    /// By column. Texts of a column are numbered, so that each is written once.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct TableData<'a> {
            columns: &'a [HtmlColumn],
            length: usize,
            values: Vec<ColumnValues<'a>>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            depths: &'a [usize],
            whole: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            parts: Option<&'a TableParts>,
        }
        let values = (0..self.columns.len()).map(|column| ColumnValues { rows: &self.rows, column }).collect();
        let (length, depths) = (self.rows.len(), self.depths.as_slice());
        let parts = self.parts.as_deref();
        TableData { columns: &self.columns, length, values, depths, whole: self.whole, parts }.serialize(serializer)
    }
}

/// The values of one column.
struct ColumnValues<'a> {
    rows: &'a [Vec<HtmlCell>],
    column: usize,
}

impl<'a> ColumnValues<'a> {
    fn cells(&self) -> impl Iterator<Item = &'a HtmlCell> {
        let column = self.column;
        self.rows.iter().filter_map(move |row| row.get(column))
    }
}

impl Serialize for ColumnValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.cells().any(|cell| matches!(cell, HtmlCell::Text(_))) {
            return IndexedTexts::of(self.cells()).serialize(serializer);
        }
        let mut list = serializer.serialize_seq(Some(self.rows.len()))?;
        for cell in self.cells() {
            match cell {
                HtmlCell::Number(number) => list.serialize_element(number)?,
                HtmlCell::Text(_) | HtmlCell::Nothing => list.serialize_element(&None::<u64>)?,
            }
        }
        list.end()
    }
}

/// The distinct texts of a column, and for each row the index of its text: -1 for none.
#[derive(Serialize)]
struct IndexedTexts<'a> {
    texts: Vec<&'a str>,
    of: Vec<isize>,
}

impl<'a> IndexedTexts<'a> {
    fn of(cells: impl Iterator<Item = &'a HtmlCell>) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        let number = |cell: &'a HtmlCell| {
            let HtmlCell::Text(text) = cell else { return -1 };
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

    fn table() -> HtmlTable {
        let columns = vec![column("Name", ColumnKind::Text, ""), column("Bytes", ColumnKind::Share, "of all")];
        let row = |name: &str, bytes| vec![HtmlCell::text(name), bytes];
        let rows =
            vec![row("a<b", HtmlCell::Number(750)), row("", HtmlCell::Nothing), row("a<b", HtmlCell::Number(250))];
        HtmlTable { id: "t", caption: "T", columns, rows, whole: 1_000, ..HtmlTable::default() }
    }

    #[test]
    fn each_text_is_written_once() {
        let json = serde_json::to_value(table()).unwrap();
        assert_eq!(json["values"], serde_json::json!([{ "texts": ["a<b"], "of": [0, -1, 0] }, [750, null, 250]]));
    }

    #[test]
    fn the_html_is_readable_without_javascript() {
        let html = table().html();
        assert!(
            html.contains("<th role=\"rowheader\" scope=\"row\">a&lt;b</th>") && html.contains("<span>75.0%</span>"),
            "{html}"
        );
        assert!(html.contains("<th role=\"rowheader\" scope=\"row\">–</th>"), "{html}");
        let many = HtmlTable { rows: vec![vec![HtmlCell::Number(1)]; 150], ..table() };
        assert!(many.html().contains("and 50 more"));
    }

    #[test]
    fn details_are_data_only_and_long_texts_are_cut() {
        let columns = vec![column("Name", ColumnKind::Text, ""), detail("Path", ColumnKind::Code, "")];
        let rows = vec![vec![HtmlCell::text("a"), HtmlCell::text("x".repeat(65_536))]];
        let table = HtmlTable { columns, rows, ..table() };
        assert!(!table.html().contains("Path") && !table.html().contains("xxx"));
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json["columns"][1]["is_detail"], true);
        assert_eq!(json["values"][1]["texts"][0].as_str().unwrap().chars().count(), MAX_TEXT);
    }
}
