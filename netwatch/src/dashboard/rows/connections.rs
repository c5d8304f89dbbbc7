//! The table of connections.

use super::{Cell, Column, ConnectionScope, RowId, remote};
use crate::dashboard::model::{LiveFlow, Model, RemoteKey};
use crate::dashboard::update::FlowUpdate;

pub const COLUMNS: &[Column] = &[
    Column::text("REMOTE", 0, 0),
    Column::text("SERVICE", 9, 0),
    Column::text("LOCAL", 21, 130),
    Column::text("PROCESS", 18, 110),
    Column::text("STATE", 8, 0),
    Column::number("AGE", 8, 0),
    Column::number("SENT", 8, 0),
    Column::number("RECEIVED", 9, 0),
    Column::number("RATE", 9, 0),
    Column::number("MEAN RTT", 8, 100),
    Column::number("AGAIN", 5, 120),
];
/// By the bytes received.
pub const DEFAULT_SORT: (usize, bool) = (7, true);

pub fn rows(model: &Model, scope: Option<ConnectionScope>, open_only: bool) -> Vec<RowId> {
    let is_listed = |flow: &LiveFlow| {
        let is_in_scope = match scope {
            None => true,
            Some(ConnectionScope::Endpoint(key)) => RemoteKey::of(&flow.facts) == key,
            Some(ConnectionScope::Process(number)) => {
                flow.facts.processes.iter().any(|(process, _)| *process == number)
            }
        };
        is_in_scope && (!open_only || flow.facts.is_open)
    };
    model.flows.iter().filter(|(_, flow)| is_listed(flow)).map(|(id, _)| RowId::Flow(*id)).collect()
}

/// `open`, `failed`, or why it ended; `-` for packets without a connection.
pub fn state(flow: &FlowUpdate) -> &str {
    match &flow.ended {
        _ if flow.failed > 0 => "failed",
        None if flow.is_open => "open",
        None => "-",
        Some(reason) if reason == "end of flow" => "closed",
        Some(reason) if reason == "idle timeout" => "idle",
        Some(_) => "ended",
    }
}

pub fn cell(model: &Model, id: u64, column: usize) -> Option<Cell> {
    let flow = model.flows.get(&id)?;
    let facts = &flow.facts;
    Some(match column {
        0 => Cell::Text(remote(facts.name.as_ref(), &RemoteKey::of(facts))),
        1 => Cell::Text(RemoteKey::of(facts).service()),
        2 => Cell::Text(facts.local.to_string()),
        3 => Cell::Text(facts.processes.first().map(|(number, _)| model.process_label(*number)).unwrap_or_default()),
        4 => Cell::Text(state(facts).to_owned()),
        5 => {
            let until_ns = if facts.is_open { model.now.time_ns.max(facts.last_ns) } else { facts.last_ns };
            Cell::Time(until_ns.saturating_sub(facts.first_ns))
        }
        6 => Cell::Bytes(facts.amounts.0.1),
        7 => Cell::Bytes(facts.amounts.1.1),
        8 => Cell::Rate(flow.growth.rates.0 + flow.growth.rates.1),
        9 => Cell::time(facts.rtt_ns.or(facts.handshake_ns)),
        _ => Cell::Count(facts.retransmitted),
    })
}
