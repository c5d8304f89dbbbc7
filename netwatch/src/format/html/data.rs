//! The data of the script of the page: the tables, as JSON in an element that is not executed.

use serde::Serialize;

use super::markup::island;
use super::table::HtmlTable;

/// The tables, and the length of the charts.
#[derive(Serialize)]
pub(super) struct PageData<'a> {
    /// From the start to the last time in any chart, nanoseconds.
    pub length_ns: u64,
    pub tables: Vec<NamedTable<'a>>,
}

/// A table with its id.
#[derive(Serialize)]
pub(super) struct NamedTable<'a> {
    pub id: &'a str,
    pub caption: &'a str,
    pub table: &'a HtmlTable,
}

impl PageData<'_> {
    /// The element.
    pub fn html(&self) -> String {
        let json = serde_json::to_string(self).expect("plain data");
        format!("<script type=\"application/json\" id=\"data\">{}</script>\n", island(&json))
    }
}
