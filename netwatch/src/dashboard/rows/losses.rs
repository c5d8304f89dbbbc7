//! The table of lost observations, with the notes of the report.

use super::{Cell, Column, RowId};
use crate::dashboard::model::Model;

pub const COLUMNS: &[Column] = &[Column::text("REASON", 0, 0), Column::number("LOST", 12, 0)];
/// The largest first, then the notes.
pub const DEFAULT_SORT: (usize, bool) = (1, true);

pub fn rows(model: &Model) -> Vec<RowId> {
    let losses = (0..model.losses.len()).map(RowId::Loss);
    losses.chain((0..model.notes.len()).map(RowId::Note)).collect()
}

pub fn cell(model: &Model, row: RowId, column: usize) -> Option<Cell> {
    match (row, column) {
        (RowId::Loss(place), 0) => Some(Cell::Text(model.losses.get(place)?.0.clone())),
        (RowId::Loss(place), _) => Some(Cell::Count(model.losses.get(place)?.1)),
        (RowId::Note(place), 0) => Some(Cell::Text(format!("note: {}", model.notes.get(place)?))),
        _ => None,
    }
}
