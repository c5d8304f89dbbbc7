//! The tree of processes, with the connections of which each was the first user.

use std::collections::BTreeMap;

use super::{Cell, Column, RowId};
use crate::dashboard::model::Model;

pub const COLUMNS: &[Column] = &[
    Column::text("PROCESS", 0, 0),
    Column::number("PID", 8, 0),
    Column::number("OPEN", 5, 0),
    Column::number("CONNS", 6, 0),
    Column::number("SENT", 8, 0),
    Column::number("RECEIVED", 9, 0),
    Column::number("RATE", 9, 0),
    Column::number("FAILED", 7, 0),
];

/// The traffic of a process, and its depth in the tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessSum {
    depth: usize,
    open: u64,
    connections: u64,
    sent: u64,
    received: u64,
    rate: u64,
    failed: u64,
}

/// The processes with their sums.
#[derive(Debug, Default)]
pub struct ProcessSums {
    sums: BTreeMap<u32, ProcessSum>,
    /// Depth first.
    order: Vec<u32>,
}

pub fn sums(model: &Model) -> ProcessSums {
    let mut sums: BTreeMap<u32, ProcessSum> =
        model.processes.keys().map(|number| (*number, ProcessSum::default())).collect();
    for flow in model.flows.values() {
        let Some((number, _)) = flow.facts.processes.first() else { continue };
        let sum = sums.entry(*number).or_default();
        sum.open += u64::from(flow.facts.is_open);
        sum.connections += flow.facts.connections;
        sum.sent += flow.facts.amounts.0.1;
        sum.received += flow.facts.amounts.1.1;
        sum.rate += flow.growth.rates.0 + flow.growth.rates.1;
        sum.failed += if flow.facts.out { flow.facts.failed } else { 0 };
    }
    let mut children: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
    for number in sums.keys() {
        let parent = model.processes.get(number).and_then(|process| process.parent);
        // A parent has a lower number, so there is no cycle.
        let parent = parent.filter(|parent| parent < number && sums.contains_key(parent));
        children.entry(parent).or_default().push(*number);
    }
    let mut waiting: Vec<(u32, usize)> = Vec::new();
    let push = |waiting: &mut Vec<(u32, usize)>, parent: Option<u32>, depth| {
        waiting.extend(children.get(&parent).into_iter().flatten().rev().map(|number| (*number, depth)));
    };
    push(&mut waiting, None, 0);
    let mut order = Vec::new();
    while let Some((number, depth)) = waiting.pop() {
        sums.entry(number).or_default().depth = depth;
        order.push(number);
        push(&mut waiting, Some(number), depth + 1);
    }
    ProcessSums { sums, order }
}

pub fn rows(sums: &ProcessSums) -> Vec<RowId> {
    sums.order.iter().map(|number| RowId::Process(*number)).collect()
}

pub fn cell(model: &Model, sums: &ProcessSums, number: u32, column: usize) -> Option<Cell> {
    let sum = sums.sums.get(&number)?;
    Some(match column {
        0 => Cell::Text(name(model, number, sum.depth)),
        1 => model.processes.get(&number).map_or(Cell::Empty, |process| Cell::Id(process.pid.into())),
        2 => Cell::Count(sum.open),
        3 => Cell::Count(sum.connections),
        4 => Cell::Bytes(sum.sent),
        5 => Cell::Bytes(sum.received),
        6 => Cell::Rate(sum.rate),
        _ => Cell::Count(sum.failed),
    })
}

/// The arguments, else the name, behind the place in the tree.
fn name(model: &Model, number: u32, depth: usize) -> String {
    let process = model.processes.get(&number);
    let arguments = process.and_then(|process| process.arguments.as_ref()).map(|arguments| arguments.join(" "));
    let name = arguments.filter(|text| !text.is_empty()).or_else(|| process.map(|process| process.comm.clone()));
    let branch = if depth > 0 { "└ " } else { "" };
    format!("{:indent$}{branch}{}", "", name.unwrap_or_else(|| "?".to_owned()), indent = 2 * depth.saturating_sub(1))
}
