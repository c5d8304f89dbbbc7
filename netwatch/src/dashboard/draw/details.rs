//! Everything that is known about the selected connection.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Styles, put, rate_text};
use crate::dashboard::model::{LiveFlow, Model, RemoteKey};
use crate::dashboard::rows::{RowId, state_of_connection};
use crate::dashboard::state::Dashboard;
use crate::escape::escape;
use crate::format::rfc3339;
use crate::format::summary::units::{bytes, duration, plural};

/// Columns of the labels.
const LABEL_WIDTH: u16 = 14;

pub(super) fn draw(dashboard: &Dashboard, buffer: &mut Buffer, area: Rect, styles: Styles) {
    let model = dashboard.shown();
    let flow = match dashboard.table().selected {
        Some(RowId::Flow(id)) => model.flows.get(&id),
        _ => None,
    };
    let Some(flow) = flow else {
        put(buffer, Rect { height: 1, ..area }, "the connection is no longer kept", styles.faint());
        return;
    };
    for (y, (label, text)) in (area.y..area.bottom()).zip(lines(model, flow)) {
        put(buffer, Rect { y, height: 1, ..area }, label, styles.head());
        let rest = Rect { x: area.x + LABEL_WIDTH, y, width: area.width - LABEL_WIDTH, height: 1 };
        put(buffer, rest, &escape(&text), styles.plain());
    }
}

/// Label and text of each line.
fn lines(model: &Model, flow: &LiveFlow) -> Vec<(&'static str, String)> {
    let facts = &flow.facts;
    let (sent, received) = facts.amounts;
    let amount = |packets: u64, total: u64, rate: u64| {
        format!("{} in {}, {} now", bytes(total), plural(packets, "packet", "packets"), rate_text(rate))
    };
    let opened = if facts.out { "opened by the command" } else { "opened by the remote" };
    let place = if facts.loopback { ", on the loopback" } else { "" };
    let mut lines = vec![
        ("connection", format!("{} {} – {}{place}", RemoteKey::of(facts).service(), facts.local, facts.remote)),
        ("state", state(flow, opened)),
    ];
    if let Some((name, source)) = &facts.name {
        lines.push(("name", format!("{name} ({source})")));
    }
    if let Some(application) = &facts.application {
        lines.push(("protocol", application.clone()));
    }
    lines.push(("first packet", rfc3339(facts.first_ns)));
    lines.push(("last packet", rfc3339(facts.last_ns)));
    lines.push(("duration", duration(facts.last_ns.saturating_sub(facts.first_ns))));
    lines.push(("sent", amount(sent.0, sent.1, flow.growth.rates.0)));
    lines.push(("received", amount(received.0, received.1, flow.growth.rates.1)));
    if let Some(handshake_ns) = facts.handshake_ns {
        lines.push(("handshake", duration(handshake_ns)));
    }
    if let Some(rtt_ns) = facts.rtt_ns {
        lines.push(("round trip", format!("{} on average", duration(rtt_ns))));
    }
    if facts.retransmitted > 0 {
        lines.push(("sent again", format!("{}, both directions", plural(facts.retransmitted, "packet", "packets"))));
    }
    for (number, evidence) in &facts.processes {
        let arguments = model.processes.get(number).and_then(|process| process.arguments.as_ref());
        let arguments = arguments.map_or_else(String::new, |arguments| format!(": {}", arguments.join(" ")));
        lines.push(("process", format!("{} by {evidence}{arguments}", model.process_label(*number))));
    }
    lines.push(("packets", packets_hint(model, facts.remote)));
    lines
}

fn state(flow: &LiveFlow, opened: &str) -> String {
    let facts = &flow.facts;
    let ended = facts.ended.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let failed = if facts.failed > 0 { format!(", failed: {}", facts.causes) } else { String::new() };
    format!("{}{ended}{failed}, {opened}", state_of_connection(facts))
}

/// The command that prints the packets of this connection.
fn packets_hint(model: &Model, remote: std::net::SocketAddr) -> String {
    let port = if remote.port() == 0 { String::new() } else { format!(" and port {}", remote.port()) };
    format!("netwatch tail {} --filter 'host {}{port}'", model.run.id, remote.ip())
}
