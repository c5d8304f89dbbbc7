//! A plain table of what must be open, for a manual.

use super::header::{self, FAILED, failed, purpose};
use super::need::{Need, Service, shown};
use super::{Options, Requirements};
use crate::flow::Direction;

const TITLES: [&str; 5] = ["direction", "protocol", "port", "to or from", "addresses"];
const NAMES: &str = "Names change their addresses: those listed are what they were.";

pub(super) fn text(requirements: &Requirements, options: &Options) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    if requirements.dns {
        let resolvers: Vec<String> = options.resolvers.iter().map(ToString::to_string).collect();
        rows.push(["out".into(), "udp, tcp".into(), "53".into(), "your DNS resolvers".into(), resolvers.join(", ")]);
    }
    let out = requirements.of_direction(Direction::Egress).chain(&requirements.groups);
    let needs = out.chain(requirements.of_direction(Direction::Ingress));
    rows.extend(needs.map(|need| row(need, options)));
    let mut text = table(&rows);
    if rows.len() == 1 {
        text = "Nothing has to be opened.\n".to_owned();
    }
    if !requirements.failed.is_empty() {
        text += &format!("\n{FAILED}\n");
        requirements.failed.iter().for_each(|need| text += &format!("  {}\n", failed(need)));
    }
    text.push('\n');
    let lines = header::lines(requirements, options, &[NAMES], &[]);
    text + &header::commented(&lines, "")
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        .collect::<String>()
}

fn row(need: &Need, options: &Options) -> [String; 5] {
    let (protocol, port) = match need.service {
        Service::Ports(protocol, first, last) if first == last => (protocol.to_string(), first.to_string()),
        Service::Ports(protocol, first, last) => (protocol.to_string(), format!("{first}-{last}")),
        Service::Echo => ("icmp".into(), "echo".into()),
        Service::Protocol(protocol) => (format!("number {}", protocol.0), String::new()),
    };
    let addresses = need.peers.iter().map(shown).collect::<Vec<_>>().join(", ");
    let is_open = need.direction == Direction::Ingress && !options.by_remote;
    let (peer, addresses) = if is_open { ("anybody".into(), String::new()) } else { (purpose(need, 200), addresses) };
    [need.direction.of_flow().into(), protocol, port, peer, addresses]
}

/// Columns as wide as their widest cell; the last one as it is.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
