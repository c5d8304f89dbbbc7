//! The top of the page: the command, its exit, and the most important numbers.

use std::fmt::Write;

use super::markup::text;
use super::{Page, hosts};
use crate::format::summary::head::{ending, program, to_the_second};
use crate::format::summary::hosts::connections;
use crate::format::summary::text::cut;
use crate::format::summary::units::{bytes, count, duration, plural};
use crate::format::words;
use crate::report::Report;

/// Characters of the command in the headings; the environment has more.
const MAX_COMMAND: usize = 240;
/// Characters of a note.
const MAX_NOTE: usize = 600;
/// Notes that are always displayed; further ones are collapsed.
const MAX_NOTES: usize = 4;

/// The title of the page.
pub(super) fn title(report: &Report) -> String {
    format!("netwatch: {}", subject(report))
}

/// The command as it could be typed, the programs that a wrapper ran, or the name of the capture.
fn subject(report: &Report) -> String {
    let subject = match &report.replay {
        Some(replay) => replay.file.clone(),
        None => program(report),
    };
    cut(&subject, MAX_COMMAND)
}

/// The subject, its exit, and the theme button, which is hidden without JavaScript.
pub(super) fn header(report: &Report) -> String {
    let facts = match &report.replay {
        Some(replay) => vec![
            format!("capture ({})", replay.format),
            plural(replay.frames.skbs, "frame", "frames"),
            duration(replay.duration_ns),
            to_the_second(replay.started_ns),
        ],
        None => {
            let run = &report.run;
            let [user, id] = [&run.user, &run.id].map(|text| cut(text, MAX_COMMAND));
            vec![ending(report), format!("run {id}"), format!("user {user}"), to_the_second(run.started_ns)]
        }
    };
    let facts: String = facts.iter().map(|fact| format!("<li>{}</li>", text(fact))).collect();
    format!(
        "<header><div><p class=\"eyebrow\">netwatch report</p><h1>{}</h1><ul class=\"facts-line\">{facts}</ul></div>\
         <button type=\"button\" id=\"theme\" hidden>Dark</button></header>\n",
        text(&subject(report))
    )
}

/// The most important numbers, and those of the run to compare with.
pub(super) fn figures(page: &Page<'_>) -> String {
    let before = page.baseline.map(|baseline| numbers(baseline.report));
    let mut html = String::from("<dl class=\"figures\">");
    for (at, Figure { class, name, value, note }) in numbers(page.report).into_iter().enumerate() {
        let before = before.as_ref().and_then(|before| before.get(at));
        let note = before.map_or(note, |before| format!("before: {}", before.value));
        let _ = write!(
            html,
            "<div class=\"{class}\"><dt>{name}</dt><dd><strong>{}</strong><span>{}</span></dd></div>",
            text(&value),
            text(&words::with_plain_spaces(note))
        );
    }
    html + "</dl>\n"
}

/// A number with its name.
struct Figure {
    class: &'static str,
    name: &'static str,
    value: String,
    note: String,
}

fn numbers(report: &Report) -> Vec<Figure> {
    let totals = report.totals;
    let packets = |packets: u64| plural(packets, "packet", "packets");
    let endpoints = report.endpoint_count();
    let queries = report.naming.lookups.iter().map(|lookup| lookup.queries).sum();
    let looked_up = report.naming.lookups.len() as u64;
    let figure = |class, name, value, note| Figure { class, name, value, note };
    vec![
        figure("sent", "Sent", bytes(totals.egress.wire_bytes), packets(totals.egress.packets)),
        figure("received", "Received", bytes(totals.ingress.wire_bytes), packets(totals.ingress.packets)),
        figure("", "Hosts", count(hosts::number(report)), plural(endpoints, "endpoint", "endpoints")),
        figure("", "Connections", count(connections(report)), flows(report)),
        figure("", "DNS lookups", count(looked_up), plural(queries, "query", "queries")),
        figure("", "Programs", count(report.programs().len() as u64), named(report)),
    ]
}

fn named(report: &Report) -> String {
    let listed = report.programs().join(", ");
    if report.replay.is_some() { "not in a capture".to_owned() } else { cut(&listed, 60) }
}

fn flows(report: &Report) -> String {
    let all = report.endpoints.iter().map(|known| known.endpoint.flows).sum();
    format!("in {}{}", words::at_least(report), plural(all, "flow", "flows"))
}

/// Gaps and notes, which limit what the numbers mean.
pub(super) fn notes(report: &Report) -> String {
    let gaps = report.gaps();
    let mut notes: Vec<String> = gaps.iter().map(|gap| format!("Incomplete: {gap}.")).collect();
    notes.extend(report.notes.iter().cloned());
    if notes.is_empty() {
        return String::new();
    }
    let list = |notes: &[String]| {
        let items = notes.iter().map(|note| format!("<li>{}</li>", text(&cut(note, MAX_NOTE)))).collect::<String>();
        format!("<ul>{items}</ul>")
    };
    let (shown, rest) = notes.split_at(notes.len().min(MAX_NOTES));
    let more = match rest.len() {
        0 => String::new(),
        many => format!("<details><summary>{many} more</summary>{}</details>", list(rest)),
    };
    format!("<section class=\"notes\" aria-label=\"Notes\">{}{more}</section>\n", list(shown))
}
