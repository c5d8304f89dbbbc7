//! The network requirements of a program as Markdown (CommonMark with GitHub's tables): for a README or a pull request.
//!
//! What came over the wire stands in code spans only, where nothing of it is markup.

mod requirements;

use std::io::{self, Write};

use super::escape;
use super::summary::head::{ending, to_the_second};
use super::summary::text::command;
use super::summary::units::{bytes, count, plural};
use super::words::{self, unbroken};
use crate::flow::{Direction, PerDirection};
use crate::name::Lookup;
use crate::process::{Attempt, Attribution};
use crate::report::Report;
use crate::wire::Application;
use crate::wire::dns::Rcode;
use requirements::{Host, Requirement};

/// Writes all of it.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut text = format!("# Network requirements of {}\n\n", code(&program(report)));
    text += &about(report);
    text += &requirements(report, Direction::Egress);
    text += &requirements(report, Direction::Ingress);
    text += &unix_sockets(report);
    text += &lookups(report);
    text += &attempts(report);
    text += &measured(report);
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The program's own name, or the capture's.
fn program(report: &Report) -> String {
    let path = match &report.replay {
        Some(replay) => &replay.file,
        None => report.run.command.first().map_or("", String::as_str),
    };
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_owned()
}

fn about(report: &Report) -> String {
    let PerDirection { egress, ingress } = report.totals;
    let carried = format!("{} sent, {} received", bytes(egress.wire_bytes), bytes(ingress.wire_bytes));
    if let Some(replay) = &report.replay {
        let frames = unbroken(plural(replay.frames.skbs, "frame", "frames"));
        let said = format!("Read from the capture {}: {frames}, {carried}.\n\n", code(&replay.file));
        let early = replay.ended_early.as_ref().map(|early| {
            format!("**Only a part of the file**, up to byte {}: {}\n\n", early.offset, code(&early.cause))
        });
        return said + &early.unwrap_or_default();
    }
    let run = &report.run;
    let how = ending(report);
    let by = if run.netwatch.is_empty() { String::new() } else { format!(" by netwatch {}", code(&run.netwatch)) };
    let on = if run.kernel.is_empty() { String::new() } else { format!(" on Linux {}", code(&run.kernel)) };
    format!(
        "Watched{by}{on}, {}: {how}, {carried}.\n\n{}\n\n",
        to_the_second(run.started_ns),
        code(&command(&run.command))
    )
}

fn requirements(report: &Report, direction: Direction) -> String {
    let all = Requirement::all(report, direction);
    let (title, nothing) = match direction {
        Direction::Egress => ("Must be reachable", "Nothing: it opened no connection that was answered.\n\n"),
        Direction::Ingress => ("Must be let in", ""),
    };
    if all.is_empty() {
        return if nothing.is_empty() { String::new() } else { format!("## {title}\n\n{nothing}") };
    }
    let mut text = format!("## {title}\n\n");
    text += "| Host | Port | Speaks | Used by | Addresses | Connections | Sent | Received |\n";
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
            Host::Named(name) => cell(name),
            Host::Unnamed => "(no name)".to_owned(),
            Host::Resolver => "(the host's resolver)".to_owned(),
            Host::Clients => "(clients)".to_owned(),
        },
        application.as_deref().map(cell).unwrap_or_default(),
        cells(processes.iter()),
        cells(addresses.iter()),
        count(*connections),
        bytes(egress.wire_bytes),
        bytes(ingress.wire_bytes),
    )
}

fn unix_sockets(report: &Report) -> String {
    if report.processes.local_sockets.is_empty() {
        return String::new();
    }
    let mut text =
        "## Services of this machine (unix sockets)\n\nWhich of them failed is known of runs with `--failed-calls` only.\n\n| Path | Connections | Failed |\n|---|--:|--:|\n".to_owned();
    for peer in &report.processes.local_sockets {
        text += &format!("| {} | {} | {} |\n", cell(&peer.path), count(peer.connections), count(peer.failed));
    }
    text + "\n"
}

fn lookups(report: &Report) -> String {
    let is_asked = |lookup: &&Lookup| lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
    let asked: Vec<&Lookup> = report.naming.lookups.iter().filter(is_asked).collect();
    if asked.is_empty() {
        return String::new();
    }
    let mut text = "## DNS\n\n| Question | Type | Asked | Answer |\n|---|---|--:|---|\n".to_owned();
    for lookup in asked {
        let name = cell(lookup.question.name.as_str());
        text += &format!("| {name} | {} | {} | {} |\n", lookup.question.kind, count(lookup.queries), answer(lookup));
    }
    text + "\n"
}

/// The addresses, or what came instead.
fn answer(lookup: &Lookup) -> String {
    let failed = lookup.outcomes.keys().filter(|rcode| **rcode != Rcode::NOERROR).map(ToString::to_string);
    let silent = (lookup.unanswered() > 0).then(|| "no answer".to_owned());
    let bad: Vec<String> = failed.chain(silent).collect();
    let addresses: Vec<String> = lookup.addresses.iter().map(ToString::to_string).collect();
    match (addresses.is_empty(), bad.is_empty()) {
        (true, true) => "none of that type".to_owned(),
        (true, false) => bad.join(", "),
        (false, true) => cells(addresses.iter()),
        (false, false) => format!("{}; {}", cells(addresses.iter()), bad.join(", ")),
    }
}

fn attempts(report: &Report) -> String {
    if report.attempts.is_empty() {
        return String::new();
    }
    let mut text = "## Tried without success\n\n| What | Why not | Times | Tried by |\n|---|---|--:|---|\n".to_owned();
    for attempt in &report.attempts {
        let Attempt { count: times, process, .. } = attempt;
        let process = process.and_then(|id| report.processes.get(id)).map(|process| cell(&process.comm));
        text += &format!(
            "| {} | {} | {} | {} |\n",
            cell(&words::target(attempt)),
            plain(&words::cause(attempt)),
            count(*times),
            process.unwrap_or_default()
        );
    }
    text + "\n"
}

/// What stands behind the numbers, losses included.
fn measured(report: &Report) -> String {
    let mut lines = vec![format!("Every packet was counted. Balance {}.", words::balance(report))];
    let losses = words::losses(report);
    let lost: Vec<String> = losses
        .iter()
        .filter(|loss| loss.number > 0)
        .map(|loss| format!("{} {} ({})", count(loss.number), loss.what, loss.means))
        .collect();
    lines.push(if lost.is_empty() { "Nothing was lost.".to_owned() } else { format!("Lost: {}.", lost.join("; ")) });
    lines.extend(report.gaps().iter().map(|gap| format!("**Not complete**: {}.", plain(gap))));
    let naming = &report.naming;
    let beside = words::beside_folded(report);
    if naming.unnamed.flows > 0 || !beside.is_empty() {
        let of = format!("{} of {} flows", count(naming.unnamed.flows), count(naming.flows.flows));
        lines.push(format!("{of} have no name ({}){beside}.", bytes(naming.unnamed.wire_bytes)));
    }
    for (why, share) in &naming.hidden {
        let flows = unbroken(plural(share.flows, "flow", "flows"));
        lines.push(format!("Names may be hidden by {} in {flows}.", code(why.name())));
    }
    if let Attribution::Off(why) = &report.processes.attribution {
        lines.push(format!("Processes are not known: {}.", code(why)));
    }
    if report.replay.is_none() {
        let flows = unbroken(plural(report.loopback.flows.len() as u64, "flow", "flows"));
        lines.push(format!("On its own localhost: {flows}, not listed."));
    }
    lines.extend(report.notes.iter().map(|note| format!("Note: {}.", plain(note))));
    let lines: Vec<String> = lines.iter().map(|line| format!("- {line}\n")).collect();
    format!("## How this was measured\n\n{}", lines.concat())
}

/// A code span (CommonMark, 6.1): longer fences than any run of backticks inside, so that nothing in it ends it.
fn code(text: &str) -> String {
    let text = escape(text);
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A blank at both ends is taken away again; without it a backtick there would belong to the fence, and a blank of the text's own be lost.
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A code span in a table: there, a pipe ends the cell even in code, unless escaped (GitHub Flavored Markdown, 4.10).
pub(in crate::format) fn cell(text: &str) -> String {
    code(text).replace('|', r"\|")
}

/// Words of our own as they are; anything that could be markup, or a link, as [`cell`].
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
    fn code_spans_hold_whatever_is_in_them() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\nb"), r"`a\nb`");
        assert_eq!(cell("a|b"), r"`a\|b`");
        assert_eq!(code(""), "");
    }
}
