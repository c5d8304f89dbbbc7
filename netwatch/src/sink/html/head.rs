//! The top of the page: what ran, how it ended, and the figures that are asked for first.

use std::fmt::Write;

use super::markup::text;
use crate::report::Report;
use crate::sink::summary::head::{ending, to_the_second};
use crate::sink::summary::text::command;
use crate::sink::summary::units::{bytes, count, duration, plural};
use crate::sink::words;

/// What the window is called.
pub(super) fn title(report: &Report) -> String {
    format!("netwatch: {}", what(report))
}

/// The command as it could be typed, or the capture's name.
fn what(report: &Report) -> String {
    match &report.replay {
        Some(replay) => replay.file.clone(),
        None => command(&report.run.command),
    }
}

/// Name, how it ended, and the button for the theme, which needs JavaScript and is hidden without.
pub(super) fn header(report: &Report) -> String {
    let said = match &report.replay {
        Some(replay) => {
            let frames = plural(replay.frames.skbs, "frame", "frames");
            format!(
                "capture ({}), {frames} over {}, from {}",
                replay.format,
                duration(replay.duration_ns),
                to_the_second(replay.started_ns)
            )
        }
        None => {
            let run = &report.run;
            format!("{} · user {} · {}", ending(run, report.complete), run.user, to_the_second(run.started_ns))
        }
    };
    format!(
        "<header><div><p class=\"eyebrow\">netwatch · what does this program talk to?</p><h1>{}</h1><p class=\"said\">{}</p></div>\
         <button type=\"button\" id=\"theme\" hidden>Dark</button></header>\n",
        text(&what(report)),
        text(&said)
    )
}

/// The figures.
pub(super) fn figures(report: &Report) -> String {
    let totals = report.totals;
    let connections: u64 = report.endpoints.iter().map(|known| known.endpoint.connections).sum();
    let attempts: u64 = report.attempts.iter().map(|attempt| attempt.count).sum();
    let packets = |packets: u64| plural(packets, "packet", "packets");
    let named = report.naming.flows.flows.saturating_sub(report.naming.unnamed.flows);
    let figures = [
        ("sent", "Sent", bytes(totals.egress.wire_bytes), packets(totals.egress.packets)),
        ("received", "Received", bytes(totals.ingress.wire_bytes), packets(totals.ingress.packets)),
        (
            "",
            "Endpoints",
            count(report.endpoints.len() as u64),
            format!("{} of {} flows have a name", count(named), count(report.naming.flows.flows)),
        ),
        ("", "Connections", count(connections), flows(report)),
        (
            "",
            "Tried in vain",
            count(attempts),
            if attempts == 0 { "nothing failed".to_owned() } else { "attempts that failed".to_owned() },
        ),
        ("", "Balance", words::balance(&report.balance).split(':').next().unwrap_or_default().to_owned(), lost(report)),
    ];
    let mut html = String::from("<dl class=\"figures\">");
    for (class, name, value, note) in figures {
        let _ = write!(
            html,
            "<div class=\"{class}\"><dt>{name}</dt><dd><strong>{}</strong><span>{}</span></dd></div>",
            text(&value),
            text(&note)
        );
    }
    html + "</dl>\n"
}

fn flows(report: &Report) -> String {
    let all = report.flows.len() as u64 + report.folded.flows;
    format!("in {}", plural(all, "flow", "flows"))
}

fn lost(report: &Report) -> String {
    let lost: u64 = words::losses(report).iter().map(|loss| loss.number).sum();
    if lost == 0 { "nothing lost".to_owned() } else { format!("{} lost", plural(lost, "observation", "observations")) }
}

/// What has to be known before the numbers are believed.
pub(super) fn notes(report: &Report) -> String {
    let mut notes: Vec<String> = Vec::new();
    if !report.complete {
        notes.push("These figures are interim: the run was not over.".to_owned());
    }
    if let Some(early) = report.replay.as_ref().and_then(|replay| replay.ended_early.as_ref()) {
        notes.push(format!("Only a part of the file, up to byte {}: {}", early.offset, early.cause));
    }
    notes.extend(report.notes.iter().cloned());
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", text(note))).collect();
    format!("<section class=\"notes\" aria-label=\"Notes\"><ul>{items}</ul></section>\n")
}
