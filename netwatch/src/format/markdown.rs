//! The traffic of a program as Markdown (CommonMark with GitHub's tables): for a pull request. What
//! a firewall has to allow is in `netwatch ports --format markdown`, with unused answers of DNS.
//!
//! Text from the wire is in code spans only, so that none of it is markup.

mod requirements;

use std::io::{self, Write};

use super::escape;
use super::summary::head::{ending, to_the_second};
use super::summary::text::command;
use super::summary::units::{bytes, count, plural};
use super::words::{self, with_plain_spaces};
use crate::flow::{Direction, PerDirection};
use crate::name::Lookup;
use crate::process::{AttemptCause, Attribution, file_name};
use crate::report::{DnsForwarder, Report};
use crate::wire::Application;
use crate::wire::dns::Rcode;
use requirements::{PeerHost, Requirement};

/// Before the connections, because used addresses are not all that a firewall has to allow.
const PORTS: &str = "These are the addresses that were used. `netwatch ports --format markdown` lists what a firewall has to allow.\n\n";

/// Writes the document.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut text = format!("# Network traffic of {}\n\n", code(&program(report)));
    text += &about(report);
    text += &requirements(report, Direction::Egress);
    text += &requirements(report, Direction::Ingress);
    text += &local_sockets(report);
    text += &lookups(report);
    text += &attempts(report);
    text += &measured(report);
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The name of the program or of the capture.
fn program(report: &Report) -> String {
    match &report.replay {
        Some(replay) => file_name(&replay.file).to_owned(),
        None => report.subjects().into_iter().next().unwrap_or_default(),
    }
}

fn about(report: &Report) -> String {
    let PerDirection { egress, ingress } = report.totals;
    let carried = format!("{} sent, {} received", bytes(egress.wire_bytes), bytes(ingress.wire_bytes));
    if let Some(replay) = &report.replay {
        let frames = with_plain_spaces(plural(replay.frames.skbs, "frame", "frames"));
        let text = format!("Read from the capture {}: {frames}, {carried}.\n\n", code(&replay.file));
        let early = replay.ended_early.as_ref().map(|early| {
            format!("**Incomplete**: the file was read up to byte {}: {}\n\n", early.offset, code(&early.cause))
        });
        return text + &early.unwrap_or_default();
    }
    let run = &report.run;
    let how = ending(report);
    let by = if run.netwatch.is_empty() { String::new() } else { format!(" by netwatch {}", code(&run.netwatch)) };
    let on = if run.kernel.is_empty() { String::new() } else { format!(" on Linux {}", code(&run.kernel)) };
    format!(
        "Measured{by}{on}, {}: {how}, {carried}.\n\n{}\n\n",
        to_the_second(run.started_ns),
        code(&command(&run.command))
    )
}

fn requirements(report: &Report, direction: Direction) -> String {
    let all = Requirement::all(report, direction);
    let (title, nothing) = match direction {
        Direction::Egress => ("Outgoing connections", "None: no outgoing connection was answered.\n\n"),
        Direction::Ingress => ("Incoming connections", ""),
    };
    if all.is_empty() {
        return if nothing.is_empty() { String::new() } else { format!("## {title}\n\n{nothing}") };
    }
    let mut text = format!("## {title}\n\n");
    if direction == Direction::Egress {
        text += PORTS;
    }
    text += "| Host | Port | Protocol | Programs | Addresses | Connections | Sent | Received |\n";
    text += "|---|---|---|---|---|--:|--:|--:|\n";
    all.iter().for_each(|requirement| text += &row(requirement));
    text + "\n"
}

fn row(requirement: &Requirement) -> String {
    let Requirement { host, service, application, processes, addresses, connections, counters } = requirement;
    let PerDirection { egress, ingress } = counters;
    format!(
        "| {} | {service} | {} | {} | {} | {} | {} | {} |\n",
        match host {
            PeerHost::Named(name) => cell(name),
            PeerHost::Unnamed => "(no name)".to_owned(),
            PeerHost::Dns => DnsForwarder::NAME.to_owned(),
            PeerHost::Clients => "(clients)".to_owned(),
        },
        application.as_deref().map(cell).unwrap_or_default(),
        cells(processes.iter()),
        cells(addresses.iter()),
        count(*connections),
        bytes(egress.wire_bytes),
        bytes(ingress.wire_bytes),
    )
}

fn local_sockets(report: &Report) -> String {
    if report.used_local_sockets().next().is_none() {
        return String::new();
    }
    let mut text =
        "## Local sockets\n\nTraffic of the peer processes is not captured. Failures are known with `--failed-calls` only.\n\n"
            .to_owned();
    // Without a failed connection, the failures may be unknown.
    let has_failures = report.used_local_sockets().any(|peer| peer.failed > 0);
    text += if has_failures {
        "| Path | Connections | Failed |\n|---|--:|--:|\n"
    } else {
        "| Path | Connections |\n|---|--:|\n"
    };
    for peer in report.used_local_sockets() {
        let failed = if has_failures { format!(" {} |", count(peer.failed)) } else { String::new() };
        text += &format!("| {} | {} |{failed}\n", cell(&peer.path), count(peer.connections));
    }
    text + "\n"
}

fn lookups(report: &Report) -> String {
    let is_query = |lookup: &&Lookup| lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
    let queries: Vec<&Lookup> = report.naming.lookups.iter().filter(is_query).collect();
    if queries.is_empty() {
        return String::new();
    }
    let mut text = "## DNS\n\n| Name | Type | Queries | Response |\n|---|---|--:|---|\n".to_owned();
    for lookup in queries {
        let name = cell(lookup.question.name.as_str());
        text += &format!("| {name} | {} | {} | {} |\n", lookup.question.kind, count(lookup.queries), response(lookup));
    }
    text + "\n"
}

/// The addresses, or why there are none.
fn response(lookup: &Lookup) -> String {
    let failed = lookup.outcomes.keys().filter(|rcode| **rcode != Rcode::NOERROR).map(ToString::to_string);
    let silent = (lookup.unanswered() > 0).then(|| AttemptCause::TIMEOUT.to_owned());
    let bad: Vec<String> = failed.chain(silent).collect();
    let addresses: Vec<String> = lookup.addresses.iter().map(ToString::to_string).collect();
    match (addresses.is_empty(), bad.is_empty()) {
        (true, true) => "no record of this type".to_owned(),
        (true, false) => bad.join(", "),
        (false, true) => cells(addresses.iter()),
        (false, false) => format!("{}; {}", cells(addresses.iter()), bad.join(", ")),
    }
}

fn attempts(report: &Report) -> String {
    let failures = report.failures();
    if failures.is_empty() {
        return String::new();
    }
    let mut text = "## Failed attempts\n\n| Target | Cause | Attempts | Program |\n|---|---|--:|---|\n".to_owned();
    for failure in &failures {
        let process = failure.attempt.process.and_then(|id| report.processes.get(id));
        let process = process.map(|process| cell(process.program()));
        text += &format!(
            "| {} | {} | {} | {} |\n",
            cell(&words::target(failure)),
            plain(&words::cause(failure)),
            count(failure.count),
            process.unwrap_or_default()
        );
    }
    text + "\n"
}

/// How reliable the numbers are: balance, losses, gaps, notes.
fn measured(report: &Report) -> String {
    // Only a closed balance proves that no packet is missing.
    let counted = if report.balance.closed() { "Every packet was counted. " } else { "" };
    let mut lines = vec![format!("{counted}Balance {}.", words::balance(report))];
    let losses = words::losses(report);
    let lost: Vec<String> = losses
        .iter()
        .filter(|loss| loss.number > 0)
        .map(|loss| format!("{} {} ({})", count(loss.number), loss.name, loss.meaning))
        .collect();
    lines.push(match (lost.is_empty(), words::unknown_after(report)) {
        (true, _) => words::losses_known(report, 0),
        (false, None) => format!("Lost: {}.", lost.join("; ")),
        (false, Some(after)) => format!("Lost: {}. Losses {after} are unknown.", lost.join("; ")),
    });
    lines.extend(report.gaps().iter().map(|gap| format!("**Incomplete**: {}.", plain(gap))));
    let naming = &report.naming;
    let beside = words::not_counting_folded(report);
    if naming.unnamed.flows > 0 || !beside.is_empty() {
        let of = format!("{} of {} flows", count(naming.unnamed.flows), count(naming.flows.flows));
        lines.push(format!("{of} have no name ({}){beside}.", bytes(naming.unnamed.wire_bytes)));
    }
    for (reason, share) in &naming.hidden {
        let flows = with_plain_spaces(plural(share.flows, "flow", "flows"));
        lines.push(format!("Names may be hidden by {} in {flows}.", code(reason.name())));
    }
    if let Attribution::Off(why) = &report.processes.attribution {
        lines.push(format!("Processes were not traced: {}.", code(why)));
    }
    if report.replay.is_none() {
        let flows = with_plain_spaces(plural(report.loopback.flows.len() as u64, "flow", "flows"));
        lines.push(format!("On the loopback of the namespace: {flows}, not listed."));
    }
    lines.extend(report.notes.iter().map(|note| format!("Note: {}.", plain(note))));
    let lines: Vec<String> = lines.iter().map(|line| format!("- {line}\n")).collect();
    format!("## How this was measured\n\n{}", lines.concat())
}

/// A code span (CommonMark, 6.1). Its fence is longer than any run of backticks inside, so that no
/// content ends it.
fn code(text: &str) -> String {
    let text = escape(text);
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // CommonMark strips a space at both ends. Without it, a backtick there would join the fence,
    // and a space of the text would be stripped.
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A code span in a table: there, a pipe ends the cell even in code, unless escaped (GitHub
/// Flavored Markdown, 4.10).
pub(in crate::format) fn cell(text: &str) -> String {
    code(text).replace('|', r"\|")
}

/// Plain words as they are; text that could be markup or a link as [`cell`].
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .:;,()/'+%-→".contains(c);
    let is_link = text.contains("://") || text.contains("www.");
    if text.chars().all(is_plain) && !is_link { text.to_owned() } else { cell(text) }
}

fn cells<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.map(|text| cell(text)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_spans_keep_any_content() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\nb"), r"`a\nb`");
        assert_eq!(cell("a|b"), r"`a\|b`");
        assert_eq!(code(""), "");
    }
}
