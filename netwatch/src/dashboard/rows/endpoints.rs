//! The table of endpoints.

use super::{Cell, Column, RowId, SharedNames};
use crate::dashboard::model::{Model, RemoteKey};

pub const COLUMNS: &[Column] = &[
    Column::text("REMOTE", 0, 0),
    Column::text("SERVICE", 9, 0),
    Column::text("PROCESS", 18, 110),
    Column::number("OPEN", 5, 0),
    Column::number("CONNS", 6, 90),
    Column::number("SENT", 8, 0),
    Column::number("RECEIVED", 9, 0),
    Column::number("RATE", 9, 0),
    Column::text("TREND", 12, 124),
    Column::number("MEAN RTT", 8, 100),
    Column::number("FAILED", 7, 0),
];
/// By the bytes received.
pub const DEFAULT_SORT: (usize, bool) = (6, true);

pub fn rows(model: &Model) -> Vec<RowId> {
    let is_used = |key: &&RemoteKey| model.endpoints[*key].connections > 0 || model.endpoints[*key].last_ns > 0;
    model.endpoints.keys().filter(is_used).map(|key| RowId::Endpoint(*key)).collect()
}

pub fn cell(model: &Model, shared: &SharedNames<'_>, key: &RemoteKey, column: usize) -> Option<Cell> {
    let endpoint = model.endpoints.get(key)?;
    let (sent, received) = endpoint.growth.amounts;
    Some(match column {
        0 => Cell::Text(shared.remote(endpoint, key)),
        1 => Cell::Text(key.service()),
        2 => Cell::Text(endpoint.processes.first().map(|number| model.process_label(*number)).unwrap_or_default()),
        3 => Cell::Count(endpoint.open),
        4 => Cell::Count(endpoint.connections),
        5 => Cell::Bytes(sent.1),
        6 => Cell::Bytes(received.1),
        7 => Cell::Rate(endpoint.growth.rates.0 + endpoint.growth.rates.1),
        8 => Cell::Trend(endpoint.history.to_vec()),
        9 => Cell::time(endpoint.rtt_ns),
        _ => Cell::Count(endpoint.failed),
    })
}
