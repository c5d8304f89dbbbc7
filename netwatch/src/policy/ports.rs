//! A plain table of required ports, for a manual.

use super::header::{self, FAILED_ATTEMPTS, failed, purpose};
use super::need::{Need, Service, shown};
use super::{Requirements, RuleOptions};
use crate::flow::Direction;

const TITLES: [&str; 5] = ["direction", "protocol", "port", "to or from", "addresses"];
const NAMES: &str = "The addresses of names change: the table lists those at the time of the runs.";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    if requirements.dns {
        let resolvers: Vec<String> = options.resolvers.iter().map(ToString::to_string).collect();
        rows.push(["out".into(), "udp, tcp".into(), "53".into(), "your DNS resolvers".into(), resolvers.join(", ")]);
    }
    let out = requirements.of_direction(Direction::Egress).chain(&requirements.groups);
    let needs = out.chain(requirements.of_direction(Direction::Ingress));
    rows.extend(needs.flat_map(|need| rows_of(need, options)));
    let mut text = table(&rows);
    if rows.len() == 1 {
        text = "No ports are required.\n".to_owned();
    }
    if !requirements.failed.is_empty() {
        text += &format!("\n{FAILED_ATTEMPTS}\n");
        requirements.failed.iter().for_each(|need| text += &format!("  {}\n", failed(need)));
    }
    text.push('\n');
    let lines = header::lines(requirements, options, &[NAMES], &[]);
    text + &header::commented(&lines, "")
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        .collect::<String>()
}

/// One row for a name or for any remote; one row for each address without a name.
fn rows_of(need: &Need, options: &RuleOptions) -> Vec<[String; 5]> {
    let (protocol, port) = match need.service {
        Service::Ports(protocol, first, last) if first == last => (protocol.to_string(), first.to_string()),
        Service::Ports(protocol, first, last) => (protocol.to_string(), format!("{first}-{last}")),
        Service::Echo => ("icmp".into(), "echo".into()),
        Service::Protocol(protocol) => (format!("number {}", protocol.0), String::new()),
    };
    let direction = need.direction.of_flow();
    let row = |peer: String, addresses| [direction.to_owned(), protocol.clone(), port.clone(), peer, addresses];
    if need.direction == Direction::Ingress && !options.by_remote {
        return vec![row("any".into(), String::new())];
    }
    let addresses: Vec<String> = need.peers.iter().map(shown).collect();
    match &need.name {
        Some(_) => vec![row(purpose(need, 200), addresses.join(", "))],
        None => addresses.into_iter().map(|address| row(String::new(), address)).collect(),
    }
}

/// Pads each column to its widest cell, except the last one.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).chain([0]).collect();
    let line = |row: &[String; 5]| {
        let pad = |(cell, width): (&String, &usize)| cell.clone() + &" ".repeat(width.saturating_sub(cell.len()));
        row.iter().zip(&widths).map(pad).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
