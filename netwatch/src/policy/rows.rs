//! The requirements as rows, which the tables and the documents for programs share.

use std::collections::BTreeSet;

use super::need::{Need, PeerUse, Service, shown};
use super::purpose::Purpose;
use super::require::failures;
use super::{Requirements, RuleOptions};
use crate::flow::Direction;

/// One requirement as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub purpose: Purpose,
    /// The host, or a description such as `your DNS resolvers`; empty if only addresses are known.
    pub name: String,
    /// `tcp`, `udp, tcp`, `icmp`, `gre`, or the number of a protocol without a usual name.
    pub protocol: String,
    /// `443`, `32768-65535`; empty for protocols without ports.
    pub port: String,
    pub direction: Direction,
    /// False if every attempt failed.
    pub is_required: bool,
    /// How attempts failed; empty for what is required.
    pub failures: String,
    /// The same as numbers by cause.
    pub causes: Vec<(&'static str, u64)>,
    pub programs: BTreeSet<String>,
    pub addresses: Vec<RowAddress>,
}

/// An address or a prefix of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowAddress {
    pub address: String,
    /// What the runs show about it; `None` for a resolver that `--resolver` named and that the runs
    /// did not use.
    pub seen: Option<PeerUse>,
    /// How its attempts failed; empty if it worked or was not attempted.
    pub failures: String,
}

impl RowAddress {
    /// Whether it was used, and worked.
    pub fn is_used(&self) -> bool {
        self.seen == Some(PeerUse::Used)
    }

    /// Whether every attempt failed.
    pub fn is_attempted(&self) -> bool {
        self.seen == Some(PeerUse::Attempted)
    }
}

impl Row {
    pub fn direction(&self) -> &'static str {
        match self.direction {
            Direction::Egress => "outbound",
            Direction::Ingress => "inbound",
        }
    }

    /// The text after an address.
    pub fn mark(&self, address: &RowAddress) -> String {
        match address.seen {
            Some(PeerUse::Listed) => " (not used)".to_owned(),
            Some(PeerUse::Attempted) if self.is_required => format!(" (attempted: {})", address.failures),
            _ => String::new(),
        }
    }

    /// `required`, or `attempted`.
    pub fn need(&self) -> &'static str {
        if self.is_required { "required" } else { "attempted" }
    }

    pub fn programs(&self) -> String {
        self.programs.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Every requirement: what is required before what was only attempted, outbound before inbound.
pub(super) fn rows(requirements: &Requirements, options: &RuleOptions) -> Vec<Row> {
    let mut rows: Vec<Row> = requirements.dns.then(|| resolvers(requirements, options)).into_iter().collect();
    let out = requirements.of_direction(Direction::Egress).chain(&requirements.groups);
    let needs = out.chain(requirements.of_direction(Direction::Ingress));
    rows.extend(needs.map(|need| row(need, options, true)));
    rows.extend(requirements.failed.iter().map(|need| row(need, options, false)));
    rows
}

fn resolvers(requirements: &Requirements, options: &RuleOptions) -> Row {
    let address = |resolver: &std::net::IpAddr| RowAddress {
        address: resolver.to_string(),
        seen: requirements.resolvers.contains(resolver).then_some(PeerUse::Used),
        failures: String::new(),
    };
    Row {
        purpose: Purpose { label: "DNS".into(), is_guess: false },
        name: "your DNS resolvers".into(),
        protocol: "udp, tcp".into(),
        port: "53".into(),
        direction: Direction::Egress,
        is_required: true,
        failures: String::new(),
        causes: Vec::new(),
        programs: BTreeSet::new(),
        addresses: options.resolvers.iter().map(address).collect(),
    }
}

fn row(need: &Need, options: &RuleOptions, is_required: bool) -> Row {
    let (protocol, port) = match need.service {
        Service::Ports(protocol, first, last) if first == last => (protocol.to_string(), first.to_string()),
        Service::Ports(protocol, first, last) => (protocol.to_string(), format!("{first}-{last}")),
        Service::Echo => ("icmp".into(), String::new()),
        Service::Protocol(protocol) => {
            (protocol.keyword().map_or_else(|| protocol.0.to_string(), str::to_owned), String::new())
        }
    };
    let is_open = need.direction == Direction::Ingress && !options.by_remote;
    let address =
        |peer| RowAddress { address: shown(peer), seen: Some(need.use_of(peer)), failures: need.failures_of(peer) };
    Row {
        purpose: need.purpose.clone(),
        name: name(need, is_open),
        protocol,
        port,
        direction: need.direction,
        is_required,
        failures: if is_required { String::new() } else { failures(&need.failed) },
        causes: need.failed.causes().filter(|_| !is_required).collect(),
        programs: need.programs.clone(),
        addresses: if is_open { Vec::new() } else { need.peers.iter().map(address).collect() },
    }
}

fn name(need: &Need, is_open: bool) -> String {
    match &need.name {
        _ if is_open => "any source".to_owned(),
        Some(name) => name.to_string(),
        None if need.peers.iter().all(|peer| peer.addr().is_multicast()) => "multicast group".to_owned(),
        None => String::new(),
    }
}
