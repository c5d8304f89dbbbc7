//! The balance and all lost observations, also those of which there are none.

use std::fmt::Write;

use super::markup::text;
use crate::flow::{Amount, Difference, PerDirection, RemainderKind};
use crate::format::summary::units::{count, signed};
use crate::format::words;
use crate::report::Report;

/// The result of the balance.
pub(super) fn verdict(report: &Report) -> String {
    let balance = &report.balance;
    let (class, sign) = match balance.state {
        crate::flow::BalanceState::Closed => ("good", "✓"),
        crate::flow::BalanceState::Open => ("bad", "✗"),
        crate::flow::BalanceState::Live | crate::flow::BalanceState::Unknown => ("warn", "?"),
    };
    let result = words::balance(report);
    format!("<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> Balance {}.</p>\n", text(&result))
}

/// The parts of the balance.
pub(super) fn table(report: &Report) -> String {
    let balance = &report.balance;
    let mut html = String::from(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Balance\" tabindex=\"0\"><table><caption>Balance: buffers and bytes, as the interface counts them</caption><thead><tr>\
         <th scope=\"col\">Part</th><th scope=\"col\" class=\"number\">Sent, skbs</th><th scope=\"col\" class=\"number\">Sent, bytes</th>\
         <th scope=\"col\" class=\"number\">Received, skbs</th><th scope=\"col\" class=\"number\">Received, bytes</th></tr></thead><tbody>\n",
    );
    html += &row("Flows", balance.flows);
    for (kind, amounts) in &balance.remainders {
        html += &row(name(*kind), *amounts);
    }
    html += &row("Counted by netwatch", balance.counted);
    if let Some(interface) = balance.interface {
        html += &row("Counted by the interface", interface);
    }
    if balance.dropped > 0 {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">Dropped by the interface</th><td></td><td></td><td class=\"number\">{}</td><td></td></tr>",
            count(balance.dropped)
        );
    }
    if let Some(by) = balance.difference {
        html += &differences("Difference", by);
    }
    if balance.unassigned != PerDirection::default() {
        html += &differences("Counted in no flow or remainder (a defect of netwatch)", balance.unassigned);
    }
    html += "</tbody></table></div>\n";
    if let Some(file) = &balance.file {
        let _ = writeln!(
            html,
            "<p>The file holds {}, of which {} were left out; difference {} frames, {} bytes.</p>",
            words::amount(file.frames).replace("skbs", "frames"),
            words::amount(file.left_out).replace("skbs", "frames"),
            signed(file.difference.skbs),
            signed(file.difference.bytes)
        );
    }
    html
}

fn name(kind: RemainderKind) -> &'static str {
    match kind {
        RemainderKind::NonIp => "Neither IP nor ARP",
        RemainderKind::Malformed => "Malformed",
        RemainderKind::Overflow => "Overflow: flow table full",
        RemainderKind::Arp => "Link housekeeping: ARP",
        RemainderKind::NeighborDiscovery => "Link housekeeping: neighbor discovery",
        RemainderKind::Mld => "Link housekeeping: MLD",
        RemainderKind::Igmp => "Link housekeeping: IGMP",
    }
}

fn row(name: &str, PerDirection { egress, ingress }: PerDirection<Amount>) -> String {
    cells(name, [egress.skbs, egress.bytes, ingress.skbs, ingress.bytes].map(count))
}

fn differences(name: &str, PerDirection { egress, ingress }: PerDirection<Difference>) -> String {
    cells(name, [egress.skbs, egress.bytes, ingress.skbs, ingress.bytes].map(signed))
}

fn cells(name: &str, numbers: [String; 4]) -> String {
    let numbers = numbers.map(|number| format!("<td class=\"number\">{number}</td>")).concat();
    format!("<tr><th scope=\"row\">{name}</th>{numbers}</tr>\n")
}

/// Lost observations by kind.
pub(super) fn losses(report: &Report) -> String {
    let losses = words::losses(report);
    let lost = losses.iter().map(|loss| loss.number).sum();
    let (class, sign) = match (lost, words::unknown_after(report)) {
        (0, None) => ("good", "✓"),
        (0, Some(_)) => ("warn", "?"),
        _ => ("warn", "!"),
    };
    let verdict = words::losses_known(report, lost);
    let mut html = format!("<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {verdict}</p>\n");
    html += "<div class=\"scroll\" role=\"region\" aria-label=\"Lost\" tabindex=\"0\"><table><caption>Lost observations by kind</caption><thead><tr><th scope=\"col\">Observation</th><th scope=\"col\" class=\"number\">Lost</th><th scope=\"col\">Meaning</th></tr></thead><tbody>\n";
    for loss in losses {
        let class = if loss.number > 0 { " class=\"warn\"" } else { "" };
        let _ = writeln!(
            html,
            "<tr{class}><th scope=\"row\">{}</th><td class=\"number\">{}</td><td>{}</td></tr>",
            text(loss.name),
            count(loss.number),
            text(loss.meaning)
        );
    }
    html + "</tbody></table></div>\n"
}
