//! The table of DNS lookups.

use super::{Cell, Column, RowId};
use crate::dashboard::model::Model;
use crate::dashboard::update::LookupFacts;

pub const COLUMNS: &[Column] = &[
    Column::text("NAME", 0, 0),
    Column::text("TYPE", 6, 0),
    Column::number("QUERIES", 8, 0),
    Column::number("ANSWERS", 8, 0),
    Column::number("TIME", 8, 0),
    Column::text("RESULT", 18, 0),
];
/// The most frequent first, then the newest.
pub const DEFAULT_SORT: (usize, bool) = (2, true);

pub fn rows(model: &Model) -> Vec<RowId> {
    model.lookups.keys().map(|number| RowId::Lookup(*number)).collect()
}

pub fn cell(model: &Model, number: u64, column: usize) -> Option<Cell> {
    let lookup = &model.lookups.get(&number)?.facts;
    Some(match column {
        0 => Cell::Text(lookup.name.clone()),
        1 => Cell::Text(lookup.kind.clone()),
        2 => Cell::Count(lookup.queries),
        3 => Cell::Count(lookup.responses),
        4 => Cell::time(lookup.mean_ns),
        _ => Cell::Text(result(lookup)),
    })
}

/// The error, else the addresses.
pub fn result(lookup: &LookupFacts) -> String {
    match (lookup.errors.first(), lookup.addresses.as_slice()) {
        (Some((code, _)), _) => code.to_uppercase(),
        (None, []) if lookup.responses == 0 => "no answer yet".to_owned(),
        (None, []) => "no address".to_owned(),
        (None, [only]) => only.clone(),
        (None, [first, rest @ ..]) => format!("{first} +{}", rest.len()),
    }
}
