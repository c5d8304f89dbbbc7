//! What stands below the endpoints: loopback, housekeeping, the balance, what was lost, notes. Each always, also at 0, but for notes.

use super::line::{Line, Style};
use super::names;
use super::processes;
use super::text::{together, wrap};
use super::units::{bytes, count, plural, signed};
use crate::flow::{Amount, Balance, BalanceState, Counters, Difference, FileBalance, PerDirection, RemainderKind};
use crate::format::{escape, words};
use crate::report::Report;

/// Width of the first column; terminals under [`NARROW`] get the value below its name instead.
const KEY: usize = 19;
const NARROW: usize = 60;

pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let (balance_style, balance) = balance(report);
    let (lost_style, lost) = lost(report);
    // A capture is of a link.
    if report.replay.is_none() {
        lines.extend(fact("loopback", Style::Plain, &loopback(report), width));
    }
    for (key, style, value) in names::facts(report).into_iter().chain(processes::facts(report)) {
        lines.extend(fact(key, style, &value, width));
    }
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
    match report.loopback.flows.len() as u64 {
        0 => amount(report.loopback.totals),
        flows => format!("{} in {}, not in the total", amount(report.loopback.totals), plural(flows, "flow", "flows")),
    }
}

fn housekeeping(report: &Report) -> String {
    let kinds = [
        (RemainderKind::Arp, "ARP"),
        (RemainderKind::NeighborDiscovery, "neighbour discovery"),
        (RemainderKind::Mld, "MLD"),
        (RemainderKind::Igmp, "IGMP"),
    ];
    let packets = |(kind, name)| (report.remainders.of(kind).both().packets, name);
    let seen: Vec<String> = kinds
        .map(packets)
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, name)| together(&format!("{} {name}", count(*number))))
        .collect();
    let sum = amount(report.remainders.sum(RemainderKind::is_housekeeping));
    let whose = if report.replay.is_none() { " of the kernel's own" } else { "" };
    if seen.is_empty() { sum } else { format!("{sum}{whose}: {}", seen.join(", ")) }
}

fn amount(counters: PerDirection<Counters>) -> String {
    let Counters { packets, wire_bytes, .. } = counters.both();
    let packets = plural(packets, "packet", "packets");
    if wire_bytes == 0 { packets } else { format!("{packets}, {}", together(&bytes(wire_bytes))) }
}

fn balance(report: &Report) -> (Style, String) {
    let balance = &report.balance;
    let counted = both(balance.counted);
    if let Some(file) = &balance.file {
        return against_file(balance, file);
    }
    match (balance.state, balance.interface) {
        (BalanceState::Closed, _) => (Style::Good, closed(balance)),
        (BalanceState::Live, _) => (Style::Plain, format!("not yet, interim figures are live; so far:\n{counted}")),
        (BalanceState::Open, Some(interface)) => (Style::Bad, open(balance, interface)),
        (BalanceState::Unknown | BalanceState::Open, _) => {
            let why = words::why_unknown(report);
            (Style::Warning, format!("unknown, {why}; counted:\n{counted}{}", unassigned(balance)))
        }
    }
}

/// Frames of a file have no direction of their own, so it is their sum that is compared.
fn against_file(balance: &Balance, file: &FileBalance) -> (Style, String) {
    let frames = |Amount { skbs, bytes }: Amount| {
        together(&format!("{}, {}", plural(skbs, "frame", "frames"), plural(bytes, "byte", "bytes")))
    };
    let left_out = match file.left_out.skbs {
        0 => String::new(),
        _ => format!("\nleft out: {}", frames(file.left_out)),
    };
    let counted = both(balance.counted);
    if balance.closed() {
        let said = format!("difference 0 with the file's {}:\n{counted}{left_out}", frames(file.frames));
        return (Style::Good, said);
    }
    let Difference { skbs, bytes } = file.difference;
    let by = format!("{} frames, {} bytes", signed(skbs), signed(bytes));
    (
        Style::Bad,
        format!("DIFFERENCE {by}\ncounted: {counted}\nfile: {}{left_out}{}", frames(file.frames), unassigned(balance)),
    )
}

/// Of packets that veth dropped the kernel keeps no bytes, so there the bytes are on netwatch's side only.
fn closed(balance: &Balance) -> String {
    let counted = both(balance.counted);
    if balance.dropped == 0 {
        return format!("difference 0 with the interface's own counters:\n{counted}");
    }
    let bytes = balance.difference.map_or(0, |by| by.ingress.bytes.unsigned_abs());
    let dropped = plural(balance.dropped, "skb", "skbs");
    let bytes = plural(bytes, "byte", "bytes");
    format!("difference 0, the interface dropped {dropped} ({bytes}) of the received:\n{counted}")
}

fn open(balance: &Balance, interface: PerDirection<Amount>) -> String {
    let by = balance.difference.map(differences).unwrap_or_default();
    let (counted, interface) = (both(balance.counted), both(interface));
    let dropped = match balance.dropped {
        0 => String::new(),
        skbs => format!(" and dropped {}", plural(skbs, "skb", "skbs")),
    };
    format!("DIFFERENCE {by}\ncounted: {counted}\ninterface: {interface}{dropped}{}", unassigned(balance))
}

/// A defect of netwatch, so it is said only when there is one.
fn unassigned(balance: &Balance) -> String {
    if balance.unassigned == PerDirection::default() {
        return String::new();
    }
    format!("\ncounted under no name: {}", differences(balance.unassigned))
}

fn both(amounts: PerDirection<Amount>) -> String {
    let amount =
        |Amount { skbs, bytes }| format!("{}, {}", plural(skbs, "skb", "skbs"), plural(bytes, "byte", "bytes"));
    sent_and_received(amounts.map(amount))
}

fn differences(by: PerDirection<Difference>) -> String {
    sent_and_received(by.map(|Difference { skbs, bytes }| format!("{} skbs, {} bytes", signed(skbs), signed(bytes))))
}

fn sent_and_received(PerDirection { egress, ingress }: PerDirection<String>) -> String {
    format!("{} {}", together(&format!("sent {egress};")), together(&format!("received {ingress}")))
}

/// Every reason that there can be, also those that never happened: a zero is a statement.
fn lost(report: &Report) -> (Style, String) {
    let (lost, folded) = (report.lost, report.folded);
    let from_the_kernel = report.replay.as_ref().is_none_or(|replay| replay.by_kernel);
    let of_the_kernel = [(lost.samples, "sample", "samples"), (lost.new_flows, "start time", "start times")];
    let cut = report.replay.as_ref().map(|replay| (replay.cut_frames, "cut frame", "cut frames"));
    let reasons = [
        (folded.icmp_errors, "ICMP error", "ICMP errors"),
        (lost.unreadable, "unreadable packet", "unreadable packets"),
        (lost.table_full + lost.insert_failed, "packet without a flow", "packets without a flow"),
        (folded.flows, "folded flow", "folded flows"),
        (names::lost(report), "name", "names"),
    ];
    let of_the_kernel = of_the_kernel.into_iter().filter(|_| from_the_kernel);
    // A capture knows of none.
    let of_processes = report.replay.is_none().then(|| (processes::lost(report), "process event", "process events"));
    let reasons: Vec<_> = cut.into_iter().chain(of_the_kernel).chain(reasons).chain(of_processes).collect();
    let said: Vec<String> =
        reasons.iter().map(|(number, one, many)| plural(*number, &together(one), &together(many))).collect();
    let more = if folded.at_least { " or more" } else { "" };
    let style = if reasons.iter().all(|(number, ..)| *number == 0) { Style::Plain } else { Style::Warning };
    (style, said.join(", ") + more)
}
