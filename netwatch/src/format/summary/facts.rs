//! The facts below the endpoints: loopback, housekeeping, the balance, losses, notes. All but notes
//! are always there, also at 0.

use super::host_loopback;
use super::line::{Line, Style};
use super::names;
use super::processes;
use super::text::{together, wrap};
use super::units::{bytes, count, plural, signed};
use crate::flow::{Amount, Balance, BalanceState, Counters, Difference, FileBalance, PerDirection, RemainderKind};
use crate::format::{escape, words};
use crate::report::{InboundService, Report, list_published};

/// Width of the first column; terminals under [`NARROW`] get the value below its name instead.
const KEY: usize = 19;
const NARROW: usize = 60;
/// Services listed; the JSON document has all of them.
const MAX_SERVICES: usize = 10;

pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let (balance_style, balance) = balance(report);
    let (lost_style, lost) = lost(report);
    // A capture has no loopback.
    if report.replay.is_none() {
        lines.extend(fact("loopback", Style::Plain, &loopback(report), width));
    }
    if let Some(ports) = list_published(&report.interface.published) {
        lines.extend(fact("published", Style::Plain, &ports, width));
    }
    for (at, service) in services(report).iter().enumerate() {
        lines.extend(fact(if at == 0 { "services" } else { "" }, Style::Plain, service, width));
    }
    for (key, style, value) in names::facts(report).into_iter().chain(processes::facts(report)) {
        lines.extend(fact(key, style, &value, width));
    }
    lines.extend(fact("payload", Style::Plain, &payload(report), width));
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

/// A paragraph per service, that with most bytes first.
fn services(report: &Report) -> Vec<String> {
    let services = report.services();
    let mut facts: Vec<String> = services.iter().take(MAX_SERVICES).map(|one| service(report, one)).collect();
    if services.len() > MAX_SERVICES {
        facts.push(format!("{} more", count((services.len() - MAX_SERVICES) as u64)));
    }
    facts
}

/// `tcp/80, published as 8080: 3 clients, 12.5 connections/s (peak 40), …`.
fn service(report: &Report, service: &InboundService) -> String {
    let InboundService { protocol, port, clients, failed, .. } = service;
    let mut parts = vec![plural(*clients, "client", "clients")];
    parts.extend(words::rates(report, service));
    parts.extend(words::response_times(service).map(|times| format!("response {times}")));
    parts.extend(words::unmeasured(service));
    parts.extend(words::statuses(service));
    if failed.attempts() > 0 {
        parts.push(format!("{} failed", plural(failed.attempts(), "attempt", "attempts")));
    }
    let parts: Vec<String> = parts.iter().map(|part| together(part)).collect();
    let name = words::published(&format!("{protocol}/{port}"), &service.published);
    format!("{name}: {}", parts.join(", "))
}

fn loopback(report: &Report) -> String {
    match report.loopback.flows.len() as u64 {
        0 => amount(report.loopback.totals),
        flows => {
            let all = format!("{} in {}", amount(report.loopback.totals), plural(flows, "flow", "flows"));
            let host = host_loopback::text(report).map(|text| format!("\n{text}")).unwrap_or_default();
            format!("{all}, not in the total{host}")
        }
    }
}

/// What applications sent and received.
fn payload(report: &Report) -> String {
    let payload = report.payload();
    match (payload.bytes(), payload.gap()) {
        (Some(PerDirection { egress, ingress }), _) => {
            let [sent, received] = [egress, ingress].map(|number| together(&bytes(number)));
            format!("{sent} sent, {received} received")
        }
        (None, gap) => format!("unknown: {}", gap.map(words::payload_gap).unwrap_or_default()),
    }
}

fn housekeeping(report: &Report) -> String {
    let kinds = [
        (RemainderKind::Arp, "ARP"),
        (RemainderKind::NeighborDiscovery, "neighbor discovery"),
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
    if seen.is_empty() { sum } else { format!("{sum}: {}", seen.join(", ")) }
}

fn amount(counters: PerDirection<Counters>) -> String {
    let Counters { packets, wire_bytes, .. } = counters.both();
    let packets = plural(packets, "packet", "packets");
    if wire_bytes == 0 { packets } else { format!("{packets}, {}", together(&bytes(wire_bytes))) }
}

pub(super) fn balance(report: &Report) -> (Style, String) {
    let balance = &report.balance;
    let counted = both(balance.counted);
    if let Some(file) = &balance.file {
        return against_file(balance, file);
    }
    match (balance.state, balance.interface) {
        (BalanceState::Closed, _) => (Style::Good, closed(balance)),
        (BalanceState::Live, _) => (Style::Plain, format!("pending (run in progress); so far:\n{counted}")),
        (BalanceState::Open, Some(interface)) => (Style::Bad, open(balance, interface)),
        (BalanceState::NotApplicable, _) => {
            (Style::Plain, format!("{}; counted:\n{counted}{}", words::balance(report), unassigned(balance)))
        }
        (BalanceState::Unknown | BalanceState::Open, _) => {
            let why = words::unknown_reason(report);
            (Style::Warning, format!("unknown, {why}; counted:\n{counted}{}", unassigned(balance)))
        }
    }
}

/// Frames of a file have no direction, so their sum is compared.
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
        let text = format!("difference 0 to the {} of the file:\n{counted}{left_out}", frames(file.frames));
        return (Style::Good, text);
    }
    let Difference { skbs, bytes } = file.difference;
    let by = format!("{} frames, {} bytes", signed(skbs), signed(bytes));
    (
        Style::Bad,
        format!("DIFFERENCE {by}\ncounted: {counted}\nfile: {}{left_out}{}", frames(file.frames), unassigned(balance)),
    )
}

fn closed(balance: &Balance) -> String {
    let counted = both(balance.counted);
    match dropped(balance) {
        None => format!("difference 0 to the interface counters:\n{counted}"),
        Some(dropped) => format!("difference 0; {dropped}:\n{counted}"),
    }
}

/// Packets to the target that the interface dropped after they were counted, such as those that the
/// kernel sends while the link goes down. The kernel keeps no bytes of them, so only netwatch has
/// them.
pub(super) fn dropped(balance: &Balance) -> Option<String> {
    let bytes = balance.difference.map_or(0, |by| by.ingress.bytes.unsigned_abs());
    let (skbs, bytes) = (plural(balance.dropped, "skb", "skbs"), plural(bytes, "byte", "bytes"));
    (balance.dropped > 0).then(|| format!("the interface dropped {skbs} ({bytes}) on receive"))
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

/// Packets counted in no flow or remainder: a defect of netwatch, so printed only if there are any.
fn unassigned(balance: &Balance) -> String {
    if balance.unassigned == PerDirection::default() {
        return String::new();
    }
    format!("\ncounted in no flow or remainder: {}", differences(balance.unassigned))
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

/// The kinds of losses of which there are some.
pub(super) fn only_lost(all: &str) -> String {
    let some = all.split(", ").filter(|kind| !kind.starts_with("0\u{a0}"));
    some.collect::<Vec<_>>().join(", ")
}

/// Lost observations by kind, also those of which there are none.
pub(super) fn lost(report: &Report) -> (Style, String) {
    let (lost, folded) = (report.lost, report.folded);
    let from_the_kernel = report.replay.as_ref().is_none_or(|replay| replay.by_kernel);
    let kernel_losses = [(lost.samples, "sample", "samples"), (lost.new_flows, "flow start", "flow starts")];
    let truncated = report.replay.as_ref().map(|replay| (replay.cut_frames, "truncated frame", "truncated frames"));
    let reasons = [
        (folded.icmp_errors, "ICMP error", "ICMP errors"),
        (lost.unreadable, "unreadable packet", "unreadable packets"),
        (lost.table_full + lost.insert_failed, "packet without a flow", "packets without a flow"),
        (folded.flows, "folded flow", "folded flows"),
        (names::lost(report), "name", "names"),
    ];
    let kernel_losses = kernel_losses.into_iter().filter(|_| from_the_kernel);
    // A capture has no processes.
    let of_processes = report.replay.is_none().then(|| (processes::lost(report), "process event", "process events"));
    // Only `--pid-only` selects.
    let unselected = (lost.unselected > 0).then_some((
        lost.unselected,
        "unselected process or socket",
        "unselected processes or sockets",
    ));
    let reasons = truncated.into_iter().chain(kernel_losses).chain(reasons).chain(of_processes).chain(unselected);
    let reasons: Vec<_> = reasons.collect();
    let texts: Vec<String> =
        reasons.iter().map(|(number, one, many)| plural(*number, &together(one), &together(many))).collect();
    let more = if folded.at_least { " or more" } else { "" };
    let later = words::unknown_after(report).map(|after| format!("; {after}: unknown")).unwrap_or_default();
    let style = if reasons.iter().all(|(number, ..)| *number == 0) { Style::Plain } else { Style::Warning };
    (style, texts.join(", ") + more + &later)
}
