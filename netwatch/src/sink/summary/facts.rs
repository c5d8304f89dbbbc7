//! What stands below the endpoints: loopback, housekeeping, the balance, what was lost, notes. Each always, also at 0, but for notes.

use super::line::{Line, Style};
use super::text::wrap;
use super::units::{bytes, count, plural, signed};
use crate::flow::{Amount, Balance, Counters, Difference, PerDirection, RemainderKind, Report, State};
use crate::sink::escape;

/// Width of the first column; terminals under [`NARROW`] get the value below its name instead.
const KEY: usize = 19;
const NARROW: usize = 60;

pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let (balance_style, balance) = balance(&report.balance);
    let (lost_style, lost) = lost(report);
    lines.extend(fact("loopback", Style::Plain, &loopback(report), width));
    lines.extend(fact("link housekeeping", Style::Plain, &housekeeping(report), width));
    lines.extend(fact("balance", balance_style, &balance, width));
    lines.extend(fact("lost", lost_style, &lost, width));
    for note in &report.notes {
        lines.extend(fact("note", Style::Warning, &escape(note), width));
    }
    lines
}

fn fact(key: &str, style: Style, value: &str, width: usize) -> Vec<Line> {
    if width < NARROW {
        let below = wrap(value, width - 2).into_iter().map(|part| Line::new(Style::Plain, "  ").with(style, part));
        return std::iter::once(Line::new(Style::Faint, key)).chain(below).collect();
    }
    let parts = wrap(value, width - KEY).into_iter().enumerate();
    parts
        .map(|(at, part)| {
            Line::new(Style::Faint, format!("{:<KEY$}", if at == 0 { key } else { "" })).with(style, part)
        })
        .collect()
}

fn loopback(report: &Report) -> String {
    let flows = report.loopback.flows.len() as u64;
    format!("{} in {}, not part of the total", amount(report.loopback.totals), plural(flows, "flow", "flows"))
}

fn housekeeping(report: &Report) -> String {
    let packets = |kind| count(report.remainders.of(kind).both().packets);
    format!(
        "{} of the kernel's own (ARP {}, neighbour discovery {}, MLD {}, IGMP {})",
        amount(report.remainders.sum(RemainderKind::is_housekeeping)),
        packets(RemainderKind::Arp),
        packets(RemainderKind::NeighbourDiscovery),
        packets(RemainderKind::Mld),
        packets(RemainderKind::Igmp),
    )
}

fn amount(counters: PerDirection<Counters>) -> String {
    let Counters { packets, wire_bytes, .. } = counters.both();
    format!("{}, {}", plural(packets, "packet", "packets"), bytes(wire_bytes))
}

fn balance(balance: &Balance) -> (Style, String) {
    let dropped = match balance.dropped {
        0 => String::new(),
        number => format!("; the interface dropped {} of the received", count(number)),
    };
    let counted = both(balance.counted);
    match (balance.state, balance.interface) {
        (State::Closed, _) => {
            (Style::Good, format!("difference 0; {counted}, the same as the interface counted{dropped}"))
        }
        (State::Live, _) => (Style::Plain, format!("not yet: interim figures are live; counted so far: {counted}")),
        (State::Open, Some(interface)) => (Style::Bad, open(balance, interface) + &dropped),
        (State::Unknown | State::Open, _) => {
            let why = "unknown: the interface was gone before its counters could be read";
            (Style::Warning, format!("{why}; counted: {counted}{}", unassigned(balance)))
        }
    }
}

fn open(balance: &Balance, interface: PerDirection<Amount>) -> String {
    let by = balance.difference.map(differences).unwrap_or_default();
    let (counted, interface) = (both(balance.counted), both(interface));
    format!("DIFFERENCE {by}; counted: {counted}; the interface: {interface}{}", unassigned(balance))
}

/// A defect of netwatch, so it is said only when there is one.
fn unassigned(balance: &Balance) -> String {
    if balance.unassigned == PerDirection::default() {
        return String::new();
    }
    format!("; counted under no name: {}", differences(balance.unassigned))
}

fn both(amounts: PerDirection<Amount>) -> String {
    let amount =
        |Amount { skbs, bytes }| format!("{}, {}", plural(skbs, "skb", "skbs"), plural(bytes, "byte", "bytes"));
    format!("sent {} and received {}", amount(amounts.egress), amount(amounts.ingress))
}

fn differences(by: PerDirection<Difference>) -> String {
    let one = |Difference { skbs, bytes }| format!("{} skbs, {} bytes", signed(skbs), signed(bytes));
    format!("sent {} and received {}", one(by.egress), one(by.ingress))
}

/// Every reason, also those that never happened: a zero is a statement.
fn lost(report: &Report) -> (Style, String) {
    let (lost, folded) = (report.lost, report.folded);
    let at_least = if folded.at_least { "at least " } else { "" };
    let said = [
        plural(lost.samples, "sample", "samples"),
        plural(lost.new_flows, "start time", "start times"),
        plural(folded.icmp_errors, "ICMP error", "ICMP errors"),
        format!("{} unreadable", plural(lost.unreadable, "packet", "packets")),
        format!("{} beyond the flow table", plural(lost.table_full + lost.insert_failed, "packet", "packets")),
        format!("{at_least}{} folded into their endpoint", plural(folded.flows, "flow", "flows")),
    ];
    let numbers = [
        lost.samples,
        lost.new_flows,
        folded.icmp_errors,
        lost.unreadable,
        lost.table_full,
        lost.insert_failed,
        folded.flows,
    ];
    let style = if numbers.iter().all(|number| *number == 0) { Style::Plain } else { Style::Warning };
    (style, said.join(", "))
}
