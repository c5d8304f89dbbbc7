//! The last lines of the short summary: processes, whether everything was counted, what to do next.

use std::collections::BTreeMap;

use super::line::{Line, Style};
use super::text::{together, wrap};
use super::units::bytes;
use super::{facts, host_loopback, names, processes};
use crate::flow::BalanceState;
use crate::format::escape;
use crate::process::Attribution;
use crate::report::{Report, list_published};

/// Width of the first column.
const KEY: usize = 11;
/// Programs listed; further ones are added up.
const MAX_PROGRAMS: usize = 5;

pub(super) fn lines(report: &Report, with_next: bool, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    if report.processes.attribution == Attribution::On && !report.flows.is_empty() {
        lines.extend(fact("processes", Style::Plain, &programs(report), width));
    }
    if let Some(services) = host_loopback::text(report) {
        lines.extend(fact("localhost", Style::Plain, &services, width));
    }
    if let Some(ports) = list_published(&report.interface.published) {
        lines.extend(fact("published", Style::Plain, &ports, width));
    }
    if report.used_local_sockets().next().is_some() {
        let text = processes::local_sockets(report, report.used_local_sockets());
        lines.extend(fact("local", Style::Plain, &text, width));
    }
    if let Some(hidden) = names::hidden(report) {
        lines.extend(fact("unnamed", Style::Plain, &hidden, width));
    }
    lines.extend(verified(report, width));
    for note in &report.notes {
        lines.extend(fact("note", Style::Warning, &escape(note), width));
    }
    if with_next && report.complete && report.replay.is_none() {
        lines.extend(fact("next", Style::Faint, "netwatch ports · netwatch report --open", width));
    }
    lines
}

fn fact(key: &str, style: Style, value: &str, width: usize) -> Vec<Line> {
    let parts = wrap(value, width - KEY).into_iter().enumerate();
    let key = |at| format!("{:<KEY$}", if at == 0 { key } else { "" });
    parts.map(|(at, part)| Line::new(Style::Faint, key(at)).with(style, part)).collect()
}

/// `shop.py 1.98 MB, curl 6.6 kB`.
fn programs(report: &Report) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (process, part) in report.processes.list.iter().zip(report.by_process()) {
        if part.total.flows > 0 {
            *sums.entry(process.program()).or_default() += part.total.counters.both().wire_bytes;
        }
    }
    let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    let (shown, rest) = sums.split_at(sums.len().min(MAX_PROGRAMS));
    let mut texts: Vec<String> =
        shown.iter().map(|(program, sum)| together(&format!("{} {}", escape(program), bytes(*sum)))).collect();
    if !rest.is_empty() {
        let sum = rest.iter().map(|(_, sum)| sum).sum();
        texts.push(together(&format!("{} more {}", rest.len(), bytes(sum))));
    }
    if texts.is_empty() { "unknown".to_owned() } else { texts.join(", ") }
}

/// One line if everything was counted. Otherwise the balance and the losses in full.
fn verified(report: &Report, width: usize) -> Vec<Line> {
    let (balance_style, balance) = facts::balance(report);
    let (lost_style, lost) = facts::lost(report);
    let is_lossless = lost_style == Style::Plain;
    match report.balance.state {
        BalanceState::Closed => {
            let is_whole = report.replay.as_ref().is_none_or(|replay| replay.missing == 0);
            let complete = match (is_whole, is_lossless) {
                (false, _) => " that the file has",
                (true, true) => ", nothing lost",
                (true, false) => "",
            };
            let dropped = facts::dropped(&report.balance).map(|dropped| format!("; {dropped}")).unwrap_or_default();
            let text = format!("every packet counted{complete}{dropped}");
            let mut lines = fact("verified", Style::Good, &text, width);
            if !is_lossless {
                lines.extend(fact("lost", lost_style, &facts::only_lost(&lost), width));
            }
            return lines;
        }
        BalanceState::Live => return fact("verified", Style::Plain, "pending (run in progress)", width),
        _ => {}
    }
    let mut lines = fact("balance", balance_style, &balance, width);
    if !is_lossless {
        lines.extend(fact("lost", lost_style, &facts::only_lost(&lost), width));
    }
    lines
}
