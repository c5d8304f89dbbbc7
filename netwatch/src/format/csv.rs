//! Flows as comma-separated values (RFC 4180) for spreadsheets: a row each, units in the names of
//! columns.

use std::borrow::Cow;
use std::io::{self, Write};

use super::{escape, rfc3339};
use crate::flow::{Counters, EndReason, Flow, PayloadGap, PerDirection, Protocol, RemainderKind};
use crate::report::{Report, ReportFlow};

/// The columns, in their order. New ones come at the end.
pub const COLUMNS: [&str; 44] = [
    "run_id",
    "kind",
    "protocol",
    "direction",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "name",
    "name_source",
    "application",
    "application_evidence",
    "pid",
    "comm",
    "process_evidence",
    "first_seen",
    "last_seen",
    "duration_ns",
    "egress_packets",
    "egress_wire_bytes",
    "egress_skbs",
    "egress_bytes",
    "ingress_packets",
    "ingress_wire_bytes",
    "ingress_skbs",
    "ingress_bytes",
    "connections",
    "handshake_rtt_ns",
    "rtt_min_ns",
    "rtt_mean_ns",
    "rtt_count",
    "egress_retransmitted_packets",
    "ingress_retransmitted_packets",
    "refused",
    "timeout",
    "timeout_syns",
    "handshake_resets",
    "unreachable",
    "fragment",
    "epoch",
    "end_reason",
    "payload_egress_bytes",
    "payload_ingress_bytes",
    "payload_unknown",
];

/// Writes the header line.
pub fn write_header(out: &mut dyn Write) -> io::Result<()> {
    record(out, COLUMNS.map(str::to_owned).to_vec())
}

/// Writes a row for each flow of the link, and one for each sum that has no flows of its own, so
/// that packets and bytes add up to the report's totals; then the loopback's flows, which are in no
/// total.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut buffered = io::BufWriter::with_capacity(64 * 1024, out);
    report.flows.iter().try_for_each(|known| record(&mut buffered, flow("flow", known, report)))?;
    for (kind, counters) in sums(report) {
        record(&mut buffered, sum(kind, counters, report))?;
    }
    report.loopback.flows.iter().try_for_each(|known| record(&mut buffered, flow("loopback_flow", known, report)))?;
    buffered.flush()
}

pub(in crate::format) fn record(out: &mut dyn Write, cells: Vec<String>) -> io::Result<()> {
    let mut row = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    row.write_record(&cells)?;
    out.write_all(&row.into_inner().map_err(|error| error.into_error())?)
}

/// Traffic of the target without a row of its own.
fn sums(report: &Report) -> impl Iterator<Item = (&'static str, PerDirection<Counters>)> {
    let others = [RemainderKind::NonIp, RemainderKind::Malformed, RemainderKind::Overflow];
    let others = others.map(|kind| (kind.name(), report.remainders.of(kind)));
    let all = std::iter::once(("folded", report.folded.counters)).chain(others);
    all.filter(|(_, counters)| !counters.both().is_zero())
}

fn sum(kind: &str, counters: PerDirection<Counters>, report: &Report) -> Vec<String> {
    const BEFORE: usize = 16;
    let mut cells = vec![safe_text(&report.run.id), kind.to_owned()];
    cells.extend(std::iter::repeat_n(String::new(), BEFORE));
    cells.extend(amounts(counters));
    cells.resize(COLUMNS.len(), String::new());
    cells
}

fn flow(kind: &str, known: &ReportFlow, report: &Report) -> Vec<String> {
    let flow = &known.flow;
    let key = &flow.key;
    let mut cells = vec![
        safe_text(&report.run.id),
        kind.to_owned(),
        Protocol(key.protocol).to_string(),
        flow.opened_by.of_flow().to_owned(),
        key.local.addr.to_string(),
        key.local.port.to_string(),
        key.remote.addr.to_string(),
        key.remote.port.to_string(),
    ];
    cells.extend(names(known, report));
    cells.extend([
        rfc3339(flow.first_seen_ns),
        rfc3339(flow.last_seen_ns),
        flow.last_seen_ns.saturating_sub(flow.first_seen_ns).to_string(),
    ]);
    cells.extend(amounts(flow.counters));
    cells.extend(facts(flow));
    cells
}

fn names(known: &ReportFlow, report: &Report) -> [String; 7] {
    let shown = known.display_name();
    let application = known.naming.as_ref().and_then(|naming| naming.application.as_ref());
    let user = known.users.first();
    let process = user.and_then(|user| report.processes.get(user.process));
    let text = |text: Option<&str>| text.map(safe_text).unwrap_or_default();
    [
        text(shown.map(|shown| shown.name.as_str())),
        text(shown.map(|shown| shown.source.name())),
        text(application.map(|application| application.name.as_ref())),
        text(application.map(|application| application.evidence.as_ref())),
        process.map(|process| process.pid.to_string()).unwrap_or_default(),
        text(process.map(|process| process.comm.as_str())),
        text(user.map(|user| user.evidence.name())),
    ]
}

fn amounts(counters: PerDirection<Counters>) -> impl Iterator<Item = String> {
    [counters.egress, counters.ingress]
        .into_iter()
        .flat_map(|Counters { skbs, packets, bytes, wire_bytes }| [packets, wire_bytes, skbs, bytes])
        .map(|value| value.to_string())
}

fn facts(flow: &Flow) -> [String; 18] {
    let tcp = flow.tcp.unwrap_or_default();
    let failed = flow.failed();
    let payload = flow.payload.bytes();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let of_tcp = |value: u64| number(flow.tcp.map(|_| value));
    [
        flow.connections().to_string(),
        number(tcp.handshake_rtt_ns),
        number(tcp.round_trips.min_ns),
        number(tcp.round_trips.mean_ns()),
        of_tcp(tcp.round_trips.count),
        of_tcp(tcp.retransmitted_packets.egress),
        of_tcp(tcp.retransmitted_packets.ingress),
        failed.refused.to_string(),
        failed.unanswered.to_string(),
        failed.unanswered_tries.to_string(),
        failed.reset.to_string(),
        failed.unreachable.to_string(),
        flow.key.fragment.to_string(),
        flow.epoch.to_string(),
        flow.end_reason().map(EndReason::name).unwrap_or_default().to_owned(),
        number(payload.map(|bytes| bytes.egress)),
        number(payload.map(|bytes| bytes.ingress)),
        flow.payload.missing().map(PayloadGap::name).unwrap_or_default().to_owned(),
    ]
}

/// Untrusted text for a spreadsheet. A cell that begins with one of these characters is taken for a
/// formula and may be executed; an apostrophe in front makes it text (OWASP, "CSV Injection").
pub fn safe_text(text: &str) -> String {
    let is_formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let safe = if is_formula { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) };
    escape(&safe).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text() {
        for formula in ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)"] {
            assert_eq!(safe_text(formula), format!("'{formula}"));
        }
        assert_eq!((safe_text("\t=1"), safe_text("\r=1\0")), (r"'\t=1".to_owned(), r"'\r=1\u{0}".to_owned()));
        assert_eq!(safe_text("app.example"), "app.example");
        assert_eq!(safe_text("a=b"), "a=b");
    }

    #[test]
    fn quotes_and_line_ends_follow_rfc_4180() {
        let mut out = Vec::new();
        record(&mut out, vec!["a\"b".into(), "c,d".into(), "e\r\nf".into(), String::new()]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\"\"b\",\"c,d\",\"e\r\nf\",\r\n");
    }
}
