//! The top of the page: the command, its exit, and the most important numbers.

use std::fmt::Write;

use super::markup::text;
use crate::flow::Remote;
use crate::format::summary::head::{ending, to_the_second};
use crate::format::summary::text::command;
use crate::format::summary::units::{bytes, count, duration, plural};
use crate::format::words;
use crate::report::{Report, ReportEndpoint};

/// The title of the page.
pub(super) fn title(report: &Report) -> String {
    format!("netwatch: {}", subject(report))
}

/// The command as it could be typed, or the name of the capture.
fn subject(report: &Report) -> String {
    match &report.replay {
        Some(replay) => replay.file.clone(),
        None => command(&report.run.command),
    }
}

/// The subject, its exit, and the theme button, which is hidden without JavaScript.
pub(super) fn header(report: &Report) -> String {
    let facts = match &report.replay {
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
            format!("{} · user {} · {}", ending(report), run.user, to_the_second(run.started_ns))
        }
    };
    format!(
        "<header><div><p class=\"eyebrow\">netwatch · what does this program talk to?</p><h1>{}</h1><p class=\"facts-line\">{}</p></div>\
         <button type=\"button\" id=\"theme\" hidden>Dark</button></header>\n",
        text(&subject(report)),
        text(&facts)
    )
}

/// The most important numbers.
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
            endpoints(report),
            format!("{} of {} flows have a name", count(named), count(report.naming.flows.flows))
                + &words::not_counting_folded(report),
        ),
        ("", "Connections", count(connections), flows(report)),
        (
            "",
            "Failed attempts",
            count(attempts),
            if attempts == 0 { "none".to_owned() } else { "see below".to_owned() },
        ),
        ("", "Balance", words::balance(report).split(':').next().unwrap_or_default().to_owned(), lost(report)),
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

/// The number of distinct endpoints, and whether there were more.
fn endpoints(report: &Report) -> String {
    let (others, known): (Vec<&ReportEndpoint>, Vec<&ReportEndpoint>) =
        report.endpoints.iter().partition(|known| known.endpoint.key.remote == Remote::Others);
    count(known.len() as u64) + if others.is_empty() { "" } else { " and others" }
}

fn flows(report: &Report) -> String {
    let all = report.endpoints.iter().map(|known| known.endpoint.flows).sum();
    format!("in {}{}", words::at_least(report), plural(all, "flow", "flows"))
}

fn lost(report: &Report) -> String {
    let lost: u64 = words::losses(report).iter().map(|loss| loss.number).sum();
    if lost > 0 {
        format!("{} lost", plural(lost, "observation", "observations"))
    } else if words::ends_early(report) {
        "losses unknown".to_owned()
    } else {
        "no observation lost".to_owned()
    }
}

/// Gaps and notes, which limit what the numbers mean.
pub(super) fn notes(report: &Report) -> String {
    let gaps = report.gaps();
    let mut notes: Vec<String> = gaps.iter().map(|gap| format!("Incomplete: {gap}.")).collect();
    notes.extend(report.notes.iter().cloned());
    if notes.is_empty() {
        return String::new();
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", text(note))).collect();
    format!("<section class=\"notes\" aria-label=\"Notes\"><ul>{items}</ul></section>\n")
}
