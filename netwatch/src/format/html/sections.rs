//! The sections of the page: headings, charts, and the tables behind them.

use std::fmt::Write;
use std::net::IpAddr;

use super::markup::text;
use super::{balance, intervals};
use crate::flow::{BalanceState, Counters};
use crate::format::summary::text::{command, cut};
use crate::format::summary::units::{bytes, count, duration, plural};
use crate::format::{rfc3339, words};
use crate::process::Attribution;
use crate::report::{Report, list_published};

/// Characters of a fact.
const MAX_FACT: usize = 4_000;

/// A section; `id` is its link target.
pub(super) fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>\n{content}</section>\n")
}

/// A part that is collapsed.
pub(super) fn collapsed(title: &str, content: &str) -> String {
    format!("<details><summary>{title}</summary>\n{content}</details>\n")
}

/// The range of time that charts and connections show, hidden without JavaScript.
pub(super) fn range() -> &'static str {
    "<div class=\"toolbar range with-script\" role=\"group\" aria-label=\"Time range\" hidden>\
     <output id=\"range\" class=\"code\"></output>\
     <button type=\"button\" data-range=\"earlier\" aria-label=\"Earlier\">←</button><button type=\"button\" data-range=\"later\" aria-label=\"Later\">→</button>\
     <button type=\"button\" data-range=\"in\" aria-label=\"Zoom in\">+</button><button type=\"button\" data-range=\"out\" aria-label=\"Zoom out\">−</button>\
     <button type=\"button\" data-range=\"whole\">Whole run</button>\
     <span class=\"hint\">or drag over a chart</span></div>\n"
}

/// The connections, each with its bar in time.
pub(super) fn connections(report: &Report, flows: &str) -> String {
    let legend = "<p class=\"legend with-script\" hidden><span class=\"key wait\">TCP handshake</span><span class=\"key out\">opened by the program</span>\
        <span class=\"key in\">opened by a remote</span><span class=\"key failed\">failed</span></p>\n";
    folded(report) + legend + flows
}

/// The charts over time, hidden without JavaScript.
pub(super) fn over_time(report: &Report, steps: &str) -> String {
    let has_series = !report.series.intervals.is_empty();
    let [has_cpu, has_memory] = intervals::has_usage(report);
    let plots: String = [
        ("plot-bytes", "Throughput", has_series),
        ("plot-packets", "Packets", has_series),
        ("plot-flows", "Flows", has_series),
        ("plot-cpu", "CPU of the command, in cores", has_cpu),
        ("plot-memory", "Memory of the command", has_memory),
    ]
    .into_iter()
    .filter(|(.., has_values)| *has_values)
    .map(|(id, title, _)| format!("<figure class=\"plot\" id=\"{id}\"><figcaption>{title}</figcaption></figure>\n"))
    .collect();
    let has_marks = report.series.intervals.iter().any(|one| one.failed + one.lost > 0);
    let legend = match has_marks {
        true => {
            "<p class=\"legend\"><span class=\"key failed\">failed attempts</span><span class=\"key lost\">lost observations</span></p>\n"
        }
        false => "",
    };
    let table = if has_series { collapsed("As a table", steps) } else { steps.to_owned() };
    format!(
        "<p class=\"needs-script\">The charts over time need JavaScript.</p>\n{}<div class=\"with-script\" hidden>{}{legend}{plots}</div>\n{table}",
        range(),
        intervals::choice(report)
    )
}

/// Percentiles over time, and the distributions.
pub(super) fn latency(distributions: &str) -> String {
    format!(
        "<div class=\"with-script\" hidden><div class=\"toolbar\"><label for=\"measure\">Percentiles over time of the</label>\
         <select id=\"measure\"><option value=\"Handshake\">TCP handshake</option><option value=\"Round trip\">round trip</option><option value=\"DNS response\">DNS response</option></select></div>\n\
         <figure class=\"plot\" id=\"plot-latency\"><figcaption>Percentiles over time</figcaption></figure>\
         <p class=\"nothing\" id=\"no-latency\" hidden>No measurements in this range of time.</p></div>\n\
         <div class=\"pair\">{distributions}</div>\n"
    )
}

/// Names beside the table of lookups.
pub(super) fn names(report: &Report) -> String {
    let naming = &report.naming;
    let mut html = String::new();
    if naming.flows.flows > 0 {
        let named = naming.flows.flows.saturating_sub(naming.unnamed.flows);
        let _ = writeln!(
            html,
            "<p class=\"means after\">{} of {} have a name{}.</p>",
            count(named),
            text(&words::with_plain_spaces(plural(naming.flows.flows, "flow", "flows"))),
            words::not_counting_folded(report)
        );
    }
    let unused: Vec<String> = naming.unused.iter().map(ToString::to_string).collect();
    let without_lookup: Vec<String> = naming.contacted_without_lookup.iter().map(IpAddr::to_string).collect();
    html += &list("Resolved and not used", &unused);
    html += &list("Contacted without a DNS lookup", &without_lookup);
    let hidden: Vec<String> = naming
        .hidden
        .iter()
        .map(|(reason, share)| {
            format!("{}: {}, {}", reason.name(), plural(share.flows, "flow", "flows"), bytes(share.wire_bytes))
        })
        .collect();
    html += &list("Reasons that may hide names", &hidden);
    html
}

/// A list; long lists are collapsed.
fn list(title: &str, items: &[String]) -> String {
    const MAX_SHOWN: usize = 50;
    if items.is_empty() {
        return String::new();
    }
    let mut html =
        format!("<h3>{title} <span class=\"count\">{}</span></h3><ul class=\"names\">", count(items.len() as u64));
    for item in items.iter().take(MAX_SHOWN) {
        let _ = write!(html, "<li>{}</li>", text(&cut(item, MAX_FACT)));
    }
    html += "</ul>\n";
    if items.len() > MAX_SHOWN {
        let rest: String =
            items.iter().skip(MAX_SHOWN).map(|item| format!("<li>{}</li>", text(&cut(item, MAX_FACT)))).collect();
        let _ = writeln!(
            html,
            "<details><summary>{} more</summary><ul class=\"names\">{rest}</ul></details>",
            count((items.len() - MAX_SHOWN) as u64)
        );
    }
    html
}

/// How the run was measured: collapsed, unless the counts differ.
pub(super) fn diagnostics(report: &Report) -> String {
    let open = if report.balance.state == BalanceState::Open { " open" } else { "" };
    let parts = [balance::verdict(report), balance::table(report), balance::losses(report), environment(report)];
    format!(
        "<details class=\"folded\"{open}><summary>Balance, losses and environment</summary>\n{}</details>\n",
        parts.concat()
    )
}

/// The environment of the measurement.
fn environment(report: &Report) -> String {
    let mut facts: Vec<(&str, String)> = Vec::new();
    match &report.replay {
        Some(replay) => {
            facts.push(("Capture", replay.file.clone()));
            facts.push(("Format", format!("{}, {}", replay.format, replay.link_types.join(", "))));
            facts.push(("Counted by", if replay.by_kernel { "the kernel" } else { "the host" }.to_owned()));
            facts.push(("From", rfc3339(replay.started_ns)));
            facts.push(("Duration", duration(replay.duration_ns)));
            let local =
                if replay.local.is_empty() { "the end that opened a flow".to_owned() } else { replay.local.join(", ") };
            facts.push(("Target", local));
        }
        None => run(report, &mut facts),
    }
    if let Attribution::Off(why) = &report.processes.attribution {
        facts.push(("Processes", format!("not traced: {why}")));
    }
    facts.push(("Page generated by netwatch", env!("CARGO_PKG_VERSION").to_owned()));
    let items: String = facts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            format!("<div><dt>{name}</dt><dd class=\"code\">{}</dd></div>", text(&cut(value, MAX_FACT)))
        })
        .collect();
    format!("<h3>Environment</h3>\n<dl class=\"facts\">{items}</dl>\n")
}

fn run(report: &Report, facts: &mut Vec<(&str, String)>) {
    let (run, interface) = (&report.run, &report.interface);
    let joined = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    facts.push(("Command", command(&run.command)));
    facts.push(("User", run.user.clone()));
    facts.push(("Process", run.pid.map(|pid| pid.to_string()).unwrap_or_default()));
    facts.push(("Started", rfc3339(run.started_ns)));
    facts.push(("Duration", duration(run.duration_ns)));
    facts.push(("Run", run.id.clone()));
    facts.push(("Kernel", run.kernel.clone()));
    facts.push(("Measured by netwatch", run.netwatch.clone()));
    match interface.is_of_cgroups() {
        true => facts.push(("Sockets of", interface.name.clone())),
        false => facts.push(("Interface", format!("{}, MTU {}", interface.name, interface.mtu))),
    }
    facts.push(("Addresses", joined(&interface.local)));
    facts.push(("Gateway", joined(&interface.gateway)));
    let resolvers: Vec<String> = report.dns.resolvers.iter().map(ToString::to_string).collect();
    facts.push(("Resolvers", resolvers.join(", ")));
    let services: Vec<String> = interface.host_loopback.iter().map(ToString::to_string).collect();
    facts.push(("Host loopback", services.join(", ")));
    facts.push(("Published ports", list_published(&interface.published).unwrap_or_default()));
}

/// The remark about folded flows above the table of flows.
pub(super) fn folded(report: &Report) -> String {
    let flows = report.folded.flows;
    if flows == 0 {
        return String::new();
    }
    let at_least = if report.folded.at_least { "At least " } else { "" };
    let remark = format!(
        "{at_least}{} not listed: the flow table was full. They are counted in their endpoints only, without a row, a bar, a latency and a process.",
        plural(flows, "more flow is", "more flows are")
    );
    format!(
        "<p class=\"verdict warn\"><span aria-hidden=\"true\">!</span> {}</p>\n",
        text(&words::with_plain_spaces(remark))
    )
}

/// The loopback of the namespace, below the flows of the link.
pub(super) fn localhost(report: &Report, flows: &str) -> String {
    if report.replay.is_some() || report.loopback.flows.is_empty() {
        return String::new();
    }
    let Counters { packets, wire_bytes, .. } = report.loopback.totals.both();
    let remark = format!(
        "{}, {}, {} on the loopback of the namespace. This traffic is in no other number of this page.",
        plural(report.loopback.flows.len() as u64, "flow", "flows"),
        plural(packets, "packet", "packets"),
        bytes(wire_bytes)
    );
    let content = format!("<p class=\"means\">{}</p>{flows}", text(&words::with_plain_spaces(remark)));
    collapsed("Loopback", &content)
}
