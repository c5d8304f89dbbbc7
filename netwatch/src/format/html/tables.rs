//! The tables of the page, from the report.

mod processes;

use std::net::IpAddr;

pub(super) use processes::{tree, unix};

use super::table::{Cell, Kind, Table, column};
use crate::flow::{Direction, FailedAttempts, Protocol};
use crate::format::summary::units::count;
use crate::format::words;
use crate::name::Lookup;
use crate::process::ProcessId;
use crate::report::{Report, ReportEndpoint, ReportFlow, Series};

/// Addresses or names that a cell lists.
const LISTED: usize = 6;

/// When the run, or the capture, began: what times on the page are counted from.
pub(super) fn began_ns(report: &Report) -> u64 {
    report.replay.as_ref().map_or(report.run.started_ns, |replay| replay.started_ns)
}

/// Who it talked to.
pub(super) fn endpoints(report: &Report) -> Table {
    let whole = report.totals.both().wire_bytes;
    Table {
        id: "endpoints",
        caption: "Endpoints",
        columns: vec![
            column("Remote", Kind::Text, "its name, else its address"),
            column("Address", Kind::Code, ""),
            column("Service", Kind::Code, "protocol and the port that was asked for"),
            column("Programs", Kind::Text, ""),
            column("FlowShare", Kind::FlowShare, "of all bytes, both ways"),
            column("Sent", Kind::Bytes, "as a wire would carry it"),
            column("Received", Kind::Bytes, "as a wire would carry it"),
            column("Connections", Kind::Count, "TCP: handshakes begun; others: flows"),
            column("Failed", Kind::Count, "attempts that came to nothing"),
            column("Speaks", Kind::Text, "in brackets: only the port says so"),
            column("Connect time", Kind::Duration, "median of the TCP handshakes"),
            column("Packets", Kind::Count, "both ways"),
            column("Direction", Kind::Text, "out: the program connected; in: it was connected to"),
            column("Name by", Kind::Text, "what said the name"),
            column("Other names", Kind::Text, "of the address and of its flows"),
        ],
        rows: report.endpoints.iter().map(|known| endpoint(report, known)).collect(),
        whole,
        empty: "Nothing was sent or received.",
        ..Table::default()
    }
}

fn endpoint(report: &Report, known: &ReportEndpoint) -> Vec<Cell> {
    let endpoint = &known.endpoint;
    let both = endpoint.counters.both();
    let resolvers: Vec<String> =
        report.forwarded_to(endpoint).iter().map(|resolver| resolver.ip().to_string()).collect();
    let name = match (&known.display_name, resolvers.is_empty()) {
        (Some(shown), _) => Cell::text(shown.name.as_str()),
        (None, true) => Cell::text(words::address(&endpoint.key.remote)),
        (None, false) => Cell::text(format!("the host's resolver: {}", resolvers.join(", "))),
    };
    vec![
        name,
        Cell::text(words::address(&endpoint.key.remote)),
        Cell::text(words::service(&endpoint.key)),
        Cell::text(programs(report, known.processes.iter())),
        Cell::Number(both.wire_bytes),
        Cell::Number(endpoint.counters.egress.wire_bytes),
        Cell::Number(endpoint.counters.ingress.wire_bytes),
        Cell::Number(endpoint.connections),
        Cell::unless_zero(endpoint.failed.attempts()),
        Cell::text(known.application.as_ref().map(application).unwrap_or_default()),
        Cell::number(endpoint.handshake_rtt_ns),
        Cell::Number(both.packets),
        Cell::text(endpoint.key.direction.of_flow()),
        Cell::text(known.display_name.as_ref().map_or("", |shown| shown.source.name())),
        Cell::text(listed(known.other_names().map(|name| name.as_str()))),
    ]
}

fn application(application: &crate::report::ApplicationProtocol) -> String {
    if application.is_proven() { application.name.to_string() } else { format!("({})", application.name) }
}

/// Names of programs, each once.
fn programs<'a>(report: &Report, ids: impl Iterator<Item = &'a ProcessId>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for process in ids.filter_map(|id| report.processes.get(*id)) {
        if !names.contains(&process.comm.as_str()) {
            names.push(&process.comm);
        }
    }
    names.join(", ")
}

/// Every flow of the link.
pub(super) fn flows(report: &Report) -> Table {
    Table { id: "flows", caption: "Flows", ..table_of(report, &report.flows) }
}

/// Every flow of the namespace's own `lo`.
pub(super) fn loopback(report: &Report) -> Table {
    Table { id: "loopback", caption: "Flows on localhost", ..table_of(report, &report.loopback.flows) }
}

fn table_of(report: &Report, flows: &[ReportFlow]) -> Table {
    let began_ns = began_ns(report);
    Table {
        columns: vec![
            column("Remote", Kind::Text, "its name, else its address"),
            column("Address", Kind::Code, ""),
            column("Service", Kind::Code, "protocol and the port that was asked for"),
            column("Program", Kind::Text, "the surest of those that used it"),
            column("Began", Kind::At, "first packet, since the start"),
            column("Lasted", Kind::Duration, "from the first packet to the last"),
            column("Sent", Kind::Bytes, "as a wire would carry it"),
            column("Received", Kind::Bytes, "as a wire would carry it"),
            column("Failed", Kind::Text, ""),
            column("Speaks", Kind::Text, "what its bytes prove"),
            column("Packets", Kind::Count, "both ways"),
            column("Connect time", Kind::Duration, "of the TCP handshake"),
            column("Round trip", Kind::Duration, "mean, from data to its acknowledgement"),
            column("Sent again", Kind::Count, "TCP packets below the highest sequence number, both ways"),
            column("Direction", Kind::Text, "out: the program connected; in: it was connected to"),
            column("Local port", Kind::Code, ""),
        ],
        rows: flows.iter().map(|known| flow(report, known, began_ns)).collect(),
        empty: "There are none.",
        ..Table::default()
    }
}

fn flow(report: &Report, known: &ReportFlow, began_ns: u64) -> Vec<Cell> {
    let flow = &known.flow;
    let endpoint = crate::flow::EndpointKey::of(&flow.key, flow.opened_by);
    let address = flow.key.remote.addr.to_string();
    let tcp = flow.tcp.unwrap_or_default();
    let both = flow.counters.both();
    let has_ports = Protocol(flow.key.protocol).has_ports() && !flow.key.fragment;
    vec![
        Cell::text(known.display_name().map_or(address.as_str(), |shown| shown.name.as_str())),
        Cell::text(&address),
        Cell::text(words::service(&endpoint)),
        Cell::text(programs(report, known.users.first().map(|user| &user.process).into_iter())),
        Cell::Number(flow.first_seen_ns.saturating_sub(began_ns)),
        Cell::Number(flow.last_seen_ns.saturating_sub(flow.first_seen_ns)),
        Cell::Number(flow.counters.egress.wire_bytes),
        Cell::Number(flow.counters.ingress.wire_bytes),
        Cell::text(failed(&flow.failed())),
        Cell::text(
            known.naming.as_ref().and_then(|naming| naming.application.as_ref()).map(application).unwrap_or_default(),
        ),
        Cell::Number(both.packets),
        Cell::number(tcp.handshake_rtt_ns),
        Cell::number(tcp.round_trips.mean_ns()),
        Cell::unless_zero(tcp.retransmitted_packets.both()),
        Cell::text(flow.opened_by.of_flow()),
        if has_ports { Cell::Number(flow.key.local.port.into()) } else { Cell::Nothing },
    ]
}

fn failed(failed: &FailedAttempts) -> String {
    let kinds = [
        (failed.refused, "refused"),
        (failed.unanswered, "no answer"),
        (failed.reset, "reset in the handshake"),
        (failed.unreachable, "unreachable"),
    ];
    let said = kinds.iter().filter(|(number, _)| *number > 0).map(|(number, how)| match number {
        1 => (*how).to_owned(),
        number => format!("{how} ({} times)", count(*number)),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What DNS was asked.
pub(super) fn lookups(report: &Report) -> Table {
    let began_ns = began_ns(report);
    let row = |lookup: &Lookup| {
        let outcomes: Vec<String> =
            lookup.outcomes.iter().map(|(rcode, number)| outcome(&rcode.to_string(), *number)).collect();
        vec![
            Cell::text(lookup.question.name.as_str()),
            Cell::text(lookup.question.kind.to_string()),
            Cell::text(match lookup.queried_by {
                Direction::Egress => lookup.application.name().to_owned(),
                Direction::Ingress => format!("{}, asked by others", lookup.application.name()),
            }),
            Cell::Number(lookup.first_seen_ns.saturating_sub(began_ns)),
            Cell::Number(lookup.queries),
            Cell::text(outcomes.join(", ")),
            Cell::unless_zero(lookup.unanswered()),
            Cell::number(lookup.response_times.mean_ns()),
            Cell::text(addresses(&lookup.addresses)),
            Cell::text(lookup.aliases.iter().map(|alias| alias.as_str()).collect::<Vec<_>>().join(" → ")),
        ]
    };
    Table {
        id: "lookups",
        caption: "Questions of DNS",
        columns: vec![
            column("Question", Kind::Text, ""),
            column("Type", Kind::Text, ""),
            column("By", Kind::Text, ""),
            column("First", Kind::At, "first asked, since the start"),
            column("Asked", Kind::Count, "times"),
            column("Answers", Kind::Text, "by response code"),
            column("No answer", Kind::Count, "questions"),
            column("Took", Kind::Duration, "mean time to the answer"),
            column("Addresses", Kind::Code, ""),
            column("Aliases", Kind::Text, "names that it led to"),
        ],
        rows: report.naming.lookups.iter().map(row).collect(),
        empty: "No question of DNS was seen.",
        ..Table::default()
    }
}

fn outcome(rcode: &str, number: u64) -> String {
    if number == 1 { rcode.to_owned() } else { format!("{} × {rcode}", count(number)) }
}

fn addresses(addresses: &[IpAddr]) -> String {
    let said: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    listed(said.iter().map(String::as_str))
}

/// The first few, and how many more there are.
fn listed<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let (shown, rest) = all.split_at(all.len().min(LISTED));
    let more = if rest.is_empty() { String::new() } else { format!(", +{}", rest.len()) };
    shown.join(", ") + &more
}

/// What came to nothing.
pub(super) fn attempts(report: &Report) -> Table {
    let began_ns = began_ns(report);
    let rows = report.attempts.iter().map(|attempt| {
        let process = attempt.process.and_then(|id| report.processes.get(id));
        vec![
            Cell::text(words::target(attempt)),
            Cell::text(words::cause(attempt)),
            Cell::Number(attempt.count),
            Cell::text(process.map(words::process).unwrap_or_default()),
            Cell::Number(attempt.first_ns.saturating_sub(began_ns)),
            Cell::Number(attempt.last_ns.saturating_sub(began_ns)),
        ]
    });
    Table {
        id: "attempts",
        caption: "Attempts that came to nothing",
        columns: vec![
            column("What", Kind::Code, ""),
            column("Why not", Kind::Text, ""),
            column("Times", Kind::Count, ""),
            column("Tried by", Kind::Text, ""),
            column("First", Kind::At, "since the start"),
            column("Last", Kind::At, "since the start"),
        ],
        rows: rows.collect(),
        empty: "Nothing was tried in vain.",
        ..Table::default()
    }
}

/// Traffic over time, the table behind the pictures.
pub(super) fn steps(report: &Report, series: &Series) -> Table {
    let began_ns = began_ns(report);
    let rows = series.intervals.iter().map(|step| {
        let crate::flow::PerDirection { egress, ingress } = step.totals;
        vec![
            Cell::Number(step.start_ns.saturating_sub(began_ns)),
            Cell::Number(step.length_ns),
            Cell::Number(egress.wire_bytes),
            Cell::Number(ingress.wire_bytes),
            Cell::Number(egress.packets),
            Cell::Number(ingress.packets),
            Cell::Number(step.opened),
            Cell::Number(step.active),
        ]
    });
    Table {
        id: "steps",
        caption: "Traffic over time",
        columns: vec![
            column("From", Kind::At, "since the start"),
            column("Length", Kind::Duration, ""),
            column("Sent", Kind::Bytes, ""),
            column("Received", Kind::Bytes, ""),
            column("Packets sent", Kind::Count, ""),
            column("Packets received", Kind::Count, ""),
            column("Flows begun", Kind::Count, ""),
            column("Flows active", Kind::Count, "that carried something"),
        ],
        rows: rows.collect(),
        empty: "Throughput over time was not recorded.",
        ..Table::default()
    }
}
