//! Endpoints for narrow terminals: a block of short lines per endpoint instead of a row.

use super::endpoints::{EndpointRow, failure};
use super::grid;
use super::line::{Line, Style};
use super::text::{NO_BREAK, width as width_of, wrap};
use super::units::{bytes, duration, packets, plural};
use crate::flow::Counters;

pub(super) fn lines(items: &[EndpointRow], width: usize) -> Vec<Line> {
    let amounts = |item: &EndpointRow| [item.counters.egress.packets, item.counters.ingress.packets];
    let digits = items.iter().flat_map(amounts).map(|number| packets(number).len()).max().unwrap_or(0);
    items.iter().flat_map(|item| block(item, digits, width)).collect()
}

fn block(item: &EndpointRow, digits: usize, width: usize) -> Vec<Line> {
    let mut lines = title(item, width);
    lines.push(amount("sent", item.counters.egress, digits));
    lines.push(amount("received", item.counters.ingress, digits));
    lines.extend(grid::below(&failure(item), width));
    lines
}

/// Remote and service; the service gets a line of its own if an IPv6 address leaves no space.
fn title(item: &EndpointRow, width: usize) -> Vec<Line> {
    let connections = item.connections.map(|number| plural(number, "conn", "conns")).unwrap_or_default();
    let rtt = item.handshake_rtt_ns.map(|rtt| format!(", rtt {}", duration(rtt))).unwrap_or_default();
    let about = [item.service.as_str(), item.direction, &connections].join(" ").replace(NO_BREAK, " ") + &rtt;
    let about = about.trim();
    let style = if item.style == Style::Plain { Style::Strong } else { item.style };
    let remote = item.remote();
    if width_of(&remote) + 2 + width_of(about) <= width {
        return vec![Line::new(style, remote).with(Style::Plain, format!("  {about}"))];
    }
    let mut lines: Vec<Line> = wrap(&remote, width).into_iter().map(|part| Line::new(style, part)).collect();
    lines.push(Line::new(Style::Plain, format!("  {about}")));
    lines
}

fn amount(name: &str, counters: Counters, digits: usize) -> Line {
    let (packets, size) = (packets(counters.packets), bytes(counters.wire_bytes));
    Line::new(Style::Faint, format!("  {name:<8}  ")).with(Style::Plain, format!("{packets:>digits$} pkts  {size:>7}"))
}
