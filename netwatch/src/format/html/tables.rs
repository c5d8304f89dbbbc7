//! The tables of the page.

mod processes;

use std::net::IpAddr;

pub(super) use processes::{local_sockets, tree};

use super::table::{ColumnKind, HtmlCell, HtmlTable, column, detail};
use crate::flow::{Direction, FailedAttempts, Protocol};
use crate::format::summary::units::count;
use crate::format::words;
use crate::name::Lookup;
use crate::process::ProcessId;
use crate::report::{Report, ReportFlow};

/// Addresses or names listed in a cell; further ones are counted.
const MAX_LISTED: usize = 6;

/// Start of the run or the capture, from which times on the page are counted.
pub(super) fn start_ns(report: &Report) -> u64 {
    report.replay.as_ref().map_or(report.run.started_ns, |replay| replay.started_ns)
}

/// The programs of these processes, without wrappers.
pub(super) fn programs(report: &Report, ids: &[ProcessId]) -> String {
    report.programs_of(ids).into_iter().collect::<Vec<_>>().join(", ")
}

/// Every flow of the link.
pub(super) fn flows(report: &Report) -> HtmlTable {
    HtmlTable { id: "flows", caption: "Connections", ..table_of(report, &report.flows) }
}

/// Every flow of the loopback.
pub(super) fn loopback(report: &Report) -> HtmlTable {
    HtmlTable { id: "loopback", caption: "Flows on the loopback", ..table_of(report, &report.loopback.flows) }
}

fn table_of(report: &Report, flows: &[ReportFlow]) -> HtmlTable {
    let start_ns = start_ns(report);
    HtmlTable {
        columns: vec![
            column("Remote", ColumnKind::Text, "name, or address without one"),
            column("Service", ColumnKind::Code, "protocol and port of the service"),
            column("Program", ColumnKind::Text, "of the processes that used it, the one with the best evidence"),
            column("Sent", ColumnKind::Bytes, "as a wire would carry it"),
            column("Received", ColumnKind::Bytes, "as a wire would carry it"),
            column("Failed", ColumnKind::Bad, ""),
            column("Start", ColumnKind::At, "first packet, since the start of the run"),
            column("Duration", ColumnKind::Duration, "from the first packet to the last"),
            detail("Address", ColumnKind::Code, ""),
            detail("Protocol", ColumnKind::Text, "identified by content"),
            detail("Packets", ColumnKind::Count, "both directions"),
            detail("Handshake", ColumnKind::Duration, "time of the TCP handshake"),
            detail("Round trip", ColumnKind::Duration, "mean, from data to its acknowledgement"),
            detail(
                "Retransmitted",
                ColumnKind::Count,
                "TCP packets below the highest sequence number, both directions",
            ),
            detail("Direction", ColumnKind::Text, "out: opened by the program; in: opened by a remote"),
            detail("Local port", ColumnKind::Code, ""),
        ],
        rows: flows.iter().map(|known| flow(report, known, start_ns)).collect(),
        empty: "No flows.",
        ..HtmlTable::default()
    }
}

fn flow(report: &Report, known: &ReportFlow, start_ns: u64) -> Vec<HtmlCell> {
    let flow = &known.flow;
    let endpoint = crate::flow::EndpointKey::of(&flow.key, flow.opened_by);
    let address = flow.key.remote.addr.to_string();
    let tcp = flow.tcp.unwrap_or_default();
    let both = flow.counters.both();
    let has_ports = Protocol(flow.key.protocol).has_ports() && !flow.key.fragment;
    let remote = match known.display_name() {
        Some(display) => display.name.as_str(),
        None if report.interface.host_service_of(flow).is_some() => "host loopback",
        None => &address,
    };
    vec![
        HtmlCell::text(remote),
        HtmlCell::text(words::service(&endpoint)),
        HtmlCell::text(program(report, known)),
        HtmlCell::Number(flow.counters.egress.wire_bytes),
        HtmlCell::Number(flow.counters.ingress.wire_bytes),
        HtmlCell::text(failed(&flow.failed())),
        HtmlCell::Number(flow.first_seen_ns.saturating_sub(start_ns)),
        HtmlCell::Number(flow.last_seen_ns.saturating_sub(flow.first_seen_ns)),
        HtmlCell::text(&address),
        HtmlCell::text(
            known
                .naming
                .as_ref()
                .and_then(|naming| naming.application.as_ref())
                .map(words::application)
                .unwrap_or_default(),
        ),
        HtmlCell::Number(both.packets),
        HtmlCell::number(tcp.handshake_rtt_ns),
        HtmlCell::number(tcp.round_trips.mean_ns()),
        HtmlCell::unless_zero(tcp.retransmitted_packets.both()),
        HtmlCell::text(flow.opened_by.of_flow()),
        if has_ports { HtmlCell::Number(flow.key.local.port.into()) } else { HtmlCell::Nothing },
    ]
}

/// The program of the process with the best evidence.
fn program<'a>(report: &'a Report, known: &ReportFlow) -> &'a str {
    let process = known.users.first().and_then(|user| report.processes.get(user.process));
    process.map_or("", |process| process.program())
}

fn failed(failed: &FailedAttempts) -> String {
    let texts = failed.causes().map(|(how, number)| match number {
        1 => how.to_owned(),
        number => format!("{how} ({} times)", count(number)),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// DNS lookups.
pub(super) fn lookups(report: &Report) -> HtmlTable {
    let start_ns = start_ns(report);
    let row = |lookup: &Lookup| {
        let outcomes: Vec<String> =
            lookup.outcomes.iter().map(|(rcode, number)| outcome(&rcode.to_string(), *number)).collect();
        vec![
            HtmlCell::text(lookup.question.name.as_str()),
            HtmlCell::text(lookup.question.kind.to_string()),
            HtmlCell::text(outcomes.join(", ")),
            HtmlCell::text(addresses(&lookup.addresses)),
            HtmlCell::Number(lookup.queries),
            HtmlCell::unless_zero(lookup.unanswered()),
            HtmlCell::number(lookup.response_times.mean_ns()),
            HtmlCell::Number(lookup.first_seen_ns.saturating_sub(start_ns)),
            HtmlCell::text(match lookup.queried_by {
                Direction::Egress => lookup.application.name().to_owned(),
                Direction::Ingress => format!("{}, queried by others", lookup.application.name()),
            }),
            HtmlCell::text(lookup.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>().join(" → ")),
        ]
    };
    HtmlTable {
        id: "lookups",
        caption: "DNS lookups",
        columns: vec![
            column("Name", ColumnKind::Text, ""),
            column("Type", ColumnKind::Text, ""),
            column("Responses", ColumnKind::Text, "by response code"),
            column("Addresses", ColumnKind::Code, ""),
            column("Queries", ColumnKind::Count, ""),
            column("Unanswered", ColumnKind::Count, "queries"),
            column("Response time", ColumnKind::Duration, "mean"),
            detail("First", ColumnKind::At, "first query, since the start of the run"),
            detail("Protocol", ColumnKind::Text, ""),
            detail("Aliases", ColumnKind::Text, "CNAME and HTTPS targets"),
        ],
        rows: report.naming.lookups.iter().map(row).collect(),
        empty: "No DNS query was seen.",
        ..HtmlTable::default()
    }
}

fn outcome(rcode: &str, number: u64) -> String {
    if number == 1 { rcode.to_owned() } else { format!("{} × {rcode}", count(number)) }
}

fn addresses(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    listed(texts.iter().map(String::as_str))
}

/// The first few, and how many more there are.
pub(super) fn listed<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let (shown, rest) = all.split_at(all.len().min(MAX_LISTED));
    let more = if rest.is_empty() { String::new() } else { format!(", +{}", rest.len()) };
    shown.join(", ") + &more
}
