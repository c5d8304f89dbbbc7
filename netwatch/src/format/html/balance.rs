//! The balance and all lost observations, also those of which there are none.

use std::fmt::Write;

use super::markup::text;
use crate::flow::{Amount, Difference, PerDirection, RemainderKind};
use crate::format::summary::units::{count, signed};
use crate::format::words;
use crate::report::Report;

/// The titles of the columns of numbers.
const NUMBERS: [&str; 4] = ["Sent, skbs", "Sent, bytes", "Received, skbs", "Received, bytes"];

/// The result of the balance.
pub(super) fn verdict(report: &Report) -> String {
    let balance = &report.balance;
    let (class, sign) = match balance.state {
        crate::flow::BalanceState::Closed => ("good", "✓"),
        crate::flow::BalanceState::Open => ("bad", "✗"),
        crate::flow::BalanceState::Live | crate::flow::BalanceState::Unknown => ("warn", "?"),
        crate::flow::BalanceState::NotApplicable => ("", "–"),
    };
    let result = words::balance(report);
    format!("<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> Balance {}.</p>\n", text(&result))
}

/// The parts of the balance.
pub(super) fn table(report: &Report) -> String {
    let balance = &report.balance;
    let heads =
        NUMBERS.map(|name| format!("<th role=\"columnheader\" scope=\"col\" class=\"number\">{name}</th>")).concat();
    let mut html = format!(
        "<div class=\"table\"><table role=\"table\"><caption>Balance: skbs and bytes, as the interface counts them</caption>\
         <thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Part</th>{heads}</tr></thead><tbody role=\"rowgroup\">\n"
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
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">Dropped by the interface</th><td role=\"cell\" class=\"none\"></td>\
             <td role=\"cell\" class=\"none\"></td><td role=\"cell\" data-label=\"{}\" class=\"number\">{}</td><td role=\"cell\" class=\"none\"></td></tr>",
            NUMBERS[2],
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
    let cell = |(label, number): (&str, String)| {
        format!("<td role=\"cell\" data-label=\"{label}\" class=\"number\">{number}</td>")
    };
    let numbers: String = NUMBERS.into_iter().zip(numbers).map(cell).collect();
    format!("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{name}</th>{numbers}</tr>\n")
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
    html += "<div class=\"table\"><table role=\"table\"><caption>Lost observations by kind</caption><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Observation</th>\
             <th role=\"columnheader\" scope=\"col\" class=\"number\">Lost</th><th role=\"columnheader\" scope=\"col\">Meaning</th></tr></thead><tbody role=\"rowgroup\">\n";
    for loss in losses {
        let class = if loss.number > 0 { " class=\"warn\"" } else { "" };
        let _ = writeln!(
            html,
            "<tr role=\"row\"{class}><th role=\"rowheader\" scope=\"row\">{}</th><td role=\"cell\" data-label=\"Lost\" class=\"number\">{}</td>\
             <td role=\"cell\" data-label=\"Meaning\" class=\"prose\">{}</td></tr>",
            text(loss.name),
            count(loss.number),
            text(loss.meaning)
        );
    }
    html + "</tbody></table></div>\n"
}
