//! What the page's script works with: the tables, as JSON in an element that is not executed.

use serde::Serialize;

use super::markup::island;
use super::table::Table;

/// The tables, and how long the pictures are.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    /// From the start to whatever was last.
    pub length_ns: u64,
    pub tables: Vec<Named<'a>>,
}

/// A table under its id.
#[derive(Serialize)]
pub(super) struct Named<'a> {
    pub id: &'a str,
    pub caption: &'a str,
    pub table: &'a Table,
}

impl Data<'_> {
    /// The element.
    pub fn html(&self) -> String {
        let json = serde_json::to_string(self).expect("plain data");
        format!("<script type=\"application/json\" id=\"data\">{}</script>\n", island(&json))
    }
}
