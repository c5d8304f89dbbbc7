//! Processes in the summary: a few lines below the endpoints, or (`--by process`) a tree in place
//! of the endpoints.

use std::collections::BTreeMap;

use super::endpoints::port;
use super::line::{Line, Style};
use super::text::{command, cut, together, width as width_of};
use super::units::{bytes, count, plural};
use crate::flow::{EndpointKey, Remote};
use crate::format::{escape, words};
use crate::process::{AttemptTarget, Attribution, LocalSocket, Process, ProcessId};
use crate::report::{AttributionCounts, Failure, FlowSum, ProcessTraffic, Report};

/// Processes and paths listed; further ones are counted.
const MAX_LISTED: usize = 3;
/// Failed attempts listed, a line each.
const MAX_ATTEMPTS: usize = 10;
/// Endpoints listed per process of the tree.
const MAX_ENDPOINTS: usize = 10;
/// Processes of the tree: a build can have thousands.
const MAX_PROCESSES: usize = 200;
/// Width of a column of amounts in the tree.
const AMOUNT: usize = 8;

/// Key, style and value of each line; none if processes were not traced.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, Style, String)> {
    let mut facts = Vec::new();
    if report.processes.attribution == Attribution::On && !report.flows.is_empty() {
        facts.push(("processes", Style::Plain, used_by(report)));
    }
    if !report.processes.local_sockets.is_empty() {
        facts.push(("local sockets", Style::Plain, local_sockets(report, report.processes.local_sockets.iter())));
    }
    if !report.attempts.is_empty() {
        facts.push(("failed attempts", Style::Warning, attempts(report)));
    }
    facts
}

/// Number of lost observations about processes.
pub(super) fn lost(report: &Report) -> u64 {
    report.processes.lost.sum()
}

/// `curl 1.28 MB, sh 131 B and 3 more; 7 flows by socket, 1 flow inferred from the port`.
fn used_by(report: &Report) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (process, part) in report.processes.list.iter().zip(report.by_process()) {
        if part.total.flows > 0 {
            *sums.entry(process.program()).or_default() += part.total.counters.both().wire_bytes;
        }
    }
    let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    let named = sums.iter().map(|(comm, sum)| together(&format!("{} {}", escape(comm), bytes(*sum))));
    let AttributionCounts { socket, tuple, netns, kernel, unattributed } = report.attribution_counts();
    let how = [
        (socket, "by socket"),
        (tuple, "inferred from the port"),
        (netns, "attributed to the command only"),
        (kernel, "answered by the kernel"),
        (unattributed, "of an unknown process"),
    ];
    let how = how.into_iter().filter(|(flows, _)| *flows > 0);
    let how: Vec<String> = how.map(|(flows, how)| format!("{} {how}", plural(flows, "flow", "flows"))).collect();
    let programs = if sums.is_empty() { String::new() } else { listed(named) + "; " };
    programs + &how.join(", ")
}

pub(super) fn local_sockets<'a>(report: &Report, sockets: impl Iterator<Item = &'a LocalSocket>) -> String {
    let peer = |peer: &LocalSocket| {
        let mut programs: Vec<_> = peer.processes.iter().map(|id| program(report, *id)).collect();
        programs.sort_unstable();
        programs.dedup();
        programs.truncate(MAX_LISTED);
        let failed = if peer.failed > 0 { format!(", {} failed", count(peer.failed)) } else { String::new() };
        together(&format!("{} ({}, {}×{failed})", escape(&peer.path), programs.join(", "), count(peer.connections)))
    };
    format!(
        "{}; traffic of the peer process is not captured",
        listed(sockets.map(peer).collect::<Vec<_>>().into_iter())
    )
}

fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let rest = items.len().saturating_sub(MAX_LISTED);
    let named: Vec<String> = items.take(MAX_LISTED).collect();
    let more = if rest > 0 { format!(" and {} more", count(rest as u64)) } else { String::new() };
    named.join(", ") + &more
}

fn attempts(report: &Report) -> String {
    let rows = report.counted_attempts();
    let mut lines: Vec<String> = rows.iter().take(MAX_ATTEMPTS).map(|row| attempt(report, row)).collect();
    let rest = rows.len().saturating_sub(MAX_ATTEMPTS);
    if rest > 0 {
        lines.push(format!("and {} more", count(rest as u64)));
    }
    lines.join("\n")
}

/// `printer.example, 198.51.100.99:8443 (tcp): timeout (4 SYNs), 2 times (curl)`.
fn attempt(report: &Report, row: &Failure<'_>) -> String {
    let attempt = row.attempt;
    let target = match (&attempt.target, row.kinds.as_slice()) {
        (AttemptTarget::Name(name, _), [_, _, ..]) => format!("{name} (DNS {})", row.kinds.join(", ")),
        _ => words::target(row),
    };
    let target = escape(&target).into_owned();
    let repeated = if row.count > 1 { format!(", {} times", count(row.count)) } else { String::new() };
    let process = attempt.process.map(|id| format!(" ({})", program(report, id))).unwrap_or_default();
    together(&format!("{target}: {}{repeated}{process}", escape(&words::cause(row))))
}

fn program(report: &Report, id: ProcessId) -> String {
    report.processes.get(id).map(|process| escape(process.program()).into_owned()).unwrap_or_default()
}

/// The processes, their endpoints below each, their children below those.
pub(super) fn tree(report: &Report, width: usize) -> Vec<Line> {
    let mut tree = Tree::new(report, width);
    tree.lines.push(tree.row("process", Style::Faint, ["sent", "received"].map(str::to_owned)));
    let top = tree.children.get(&None).cloned().unwrap_or_default();
    tree.level(&top, "");
    if report.processes.list.len() > tree.listed {
        let more = (report.processes.list.len() - tree.listed) as u64;
        let more = format!("… {} more {}", count(more), if more == 1 { "process" } else { "processes" });
        let row = tree.row(&more, Style::Plain, Default::default());
        tree.lines.push(row);
    }
    let without: Vec<_> = report.flows.iter().filter(|known| known.users.is_empty()).collect();
    if !without.is_empty() {
        let mut sum = FlowSum::default();
        without.iter().for_each(|known| {
            sum.flows += 1;
            sum.counters += known.flow.counters;
        });
        let row = tree.row("(no process)", Style::Faint, amounts(&sum));
        tree.lines.push(row);
    }
    tree.lines
}

struct Tree<'a> {
    report: &'a Report,
    parts: Vec<ProcessTraffic>,
    children: BTreeMap<Option<ProcessId>, Vec<ProcessId>>,
    width: usize,
    listed: usize,
    lines: Vec<Line>,
}

impl<'a> Tree<'a> {
    fn new(report: &'a Report, width: usize) -> Self {
        let mut children: BTreeMap<_, Vec<ProcessId>> = BTreeMap::new();
        for (id, process) in (0..).map(ProcessId).zip(&report.processes.list) {
            children.entry(process.parent).or_default().push(id);
        }
        Self { report, parts: report.by_process(), children, width, listed: 0, lines: vec![] }
    }

    fn level(&mut self, processes: &[ProcessId], lead: &str) {
        for (at, id) in processes.iter().enumerate() {
            if self.listed >= MAX_PROCESSES {
                return;
            }
            let is_last = at + 1 == processes.len();
            let (branch, below) = match (lead.is_empty() && self.report.processes.list.len() == 1, is_last) {
                (true, _) => ("", "  "),
                (_, true) => ("└ ", "  "),
                (_, false) => ("├ ", "│ "),
            };
            self.process(*id, &format!("{lead}{branch}"), &format!("{lead}{below}"));
        }
    }

    fn process(&mut self, id: ProcessId, first: &str, rest: &str) {
        let (Some(process), Some(part)) = (self.report.processes.get(id), self.parts.get(id.0 as usize).cloned())
        else {
            return;
        };
        self.listed += 1;
        let amounts = if part.total.flows > 0 { amounts(&part.total) } else { ["-", "-"].map(str::to_owned) };
        let row = self.row(&format!("{first}{}", title(process)), Style::Strong, amounts);
        self.lines.push(row);
        let children = self.children.get(&Some(id)).cloned().unwrap_or_default();
        let bar = if children.is_empty() { "  " } else { "│ " };
        let mut endpoints: Vec<(&(EndpointKey, Option<usize>), &FlowSum)> = part.endpoints.iter().collect();
        endpoints.sort_by_key(|(key, part)| (std::cmp::Reverse(part.counters.both().wire_bytes), **key));
        let hidden = endpoints.len().saturating_sub(MAX_ENDPOINTS);
        let texts: Vec<String> = endpoints.iter().map(|((key, place), _)| self.endpoint(key, *place)).collect();
        for (((key, _), part), text) in endpoints.iter().zip(&texts).take(MAX_ENDPOINTS) {
            let is_shared = texts.iter().filter(|other| *other == text).count() > 1;
            let address = if is_shared { format!(" ({})", words::address(&key.remote)) } else { String::new() };
            let row = self.row(&format!("{rest}{bar}{text}{address}"), Style::Plain, self::amounts(part));
            self.lines.push(row);
        }
        if hidden > 0 {
            let row = self.row(&format!("{rest}{bar}… {hidden} more"), Style::Plain, Default::default());
            self.lines.push(row);
        }
        self.level(&children, rest);
    }

    /// `app.example tcp/443 out`.
    fn endpoint(&self, key: &EndpointKey, place: Option<usize>) -> String {
        let known = place.and_then(|place| self.report.endpoints.get(place));
        let display = known.and_then(|known| known.display_name.as_ref());
        let name = display.map(|display| escape(display.name.as_str()).into_owned());
        let remote = name.unwrap_or_else(|| match key.remote {
            Remote::Address(address) => address.to_string(),
            Remote::Others => "other remotes".to_owned(),
        });
        format!("{remote} {} {}", port(key), key.direction.of_flow())
    }

    /// Text that does not fit is cut: command lines have any length.
    fn row(&self, text: &str, style: Style, amounts: [String; 2]) -> Line {
        let room = self.width.saturating_sub(2 * (AMOUNT + 2)).max(1);
        let text = cut(text, room);
        let pad = " ".repeat(room - width_of(&text));
        let [sent, received] = amounts;
        Line::new(style, text + &pad).with(Style::Plain, format!("  {sent:>AMOUNT$}  {received:>AMOUNT$}"))
    }
}

/// `curl -sS https://app.example/ (4711)`; without its arguments, its name.
fn title(process: &Process) -> String {
    let text = process.cmdline.as_ref().map_or_else(|| escape(process.program()).into_owned(), |all| command(all));
    let cut = if process.cmdline_cut && process.cmdline.is_some() { " …" } else { "" };
    format!("{} [{}] {text}{cut}", escape(process.program()), process.pid)
}

fn amounts(part: &FlowSum) -> [String; 2] {
    [part.counters.egress.wire_bytes, part.counters.ingress.wire_bytes].map(bytes)
}
