//! The rules of an allow-list, as plain data.
//!
//! Rules are alternatives without an order, and none denies. Each is a product of sets: name
//! suffixes, address prefixes, port ranges, protocols, programs. So a decision is the intersection
//! of the sets of rules that one table of each kind returns, and an allow-list can be compiled into
//! maps of the kernel: longest-prefix maps (of addresses, and of names from their last label) and
//! hash maps. `tests/check/tables.rs` verifies this.

use std::fmt;

use ipnet::IpNet;

use super::date::PolicyDate;
use super::pattern::NamePattern;
use crate::flow::{Direction, Protocol};

/// What a program may reach, and how the check treats what is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    /// The rules, in the order of the file.
    pub rules: Vec<AllowRule>,
    /// Names that the program only looked up need no rule.
    pub any_lookup: bool,
    /// Lost observations do not fail the check.
    pub allow_uncertain: bool,
}

/// One `[[allow]]`: everything that matches all of its keys is allowed. An empty list matches
/// everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Line of `[[allow]]` in the file, from 1; 0 for a rule that is not in a file.
    pub line: usize,
    /// Egress: the program connects. Ingress: remotes connect to the program.
    pub direction: Direction,
    /// Names of the remote.
    pub names: Vec<NamePattern>,
    /// What proves a name.
    pub evidence: NameEvidence,
    /// Addresses of the remote.
    pub addresses: Vec<AllowedAddress>,
    /// Ports of the server.
    pub ports: Vec<PortRange>,
    /// The protocol; `None` matches any.
    pub protocol: Option<AllowedProtocol>,
    /// Programs by name, or by the path of their executable if it contains a slash.
    pub processes: Vec<String>,
    /// Why it is allowed.
    pub why: Option<String>,
    /// The last day on which the rule applies.
    pub until: Option<PolicyDate>,
}

impl AllowRule {
    /// A rule that allows every connection in one direction; the caller restricts it.
    pub(super) fn any(direction: Direction) -> Self {
        Self {
            line: 0,
            direction,
            names: Vec::new(),
            evidence: NameEvidence::default(),
            addresses: Vec::new(),
            ports: Vec::new(),
            protocol: None,
            processes: Vec::new(),
            why: None,
            until: None,
        }
    }

    /// Whether the rule has expired on this day.
    pub fn has_expired(&self, today: PolicyDate) -> bool {
        self.until.is_some_and(|until| until < today)
    }
}

/// What proves that traffic belongs to a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NameEvidence {
    /// A DNS response (or the hosts file) gave the name this address, and no server name in the
    /// packets contradicts it.
    #[default]
    Both,
    /// The DNS response alone: server names are ignored, for proxies.
    Dns,
    /// The server name alone, which the program can choose freely.
    ServerName,
}

/// The remote of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AllowedAddress {
    /// An address or a prefix.
    Net(IpNet),
    /// The machine that netwatch runs on, which a run reaches through its gateway.
    Host,
}

/// First and last port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

/// The protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AllowedProtocol {
    /// An IP protocol.
    Ip(Protocol),
    /// ICMP of both address families.
    Icmp,
    /// Looking the name up, and nothing else.
    Lookup,
}

impl PortRange {
    /// A range of one port.
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether the port is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl AllowedProtocol {
    /// Whether traffic of this IP protocol matches.
    pub fn allows(self, protocol: Protocol) -> bool {
        match self {
            Self::Ip(own) => own == protocol,
            Self::Icmp => matches!(protocol, Protocol::ICMP | Protocol::ICMPV6),
            Self::Lookup => false,
        }
    }
}

impl fmt::Display for AllowedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for AllowedProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(protocol) => write!(f, "{protocol}"),
            Self::Icmp => f.write_str("icmp"),
            Self::Lookup => f.write_str("dns"),
        }
    }
}

/// The rule in one line: `tcp/443 *.example.org`.
impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = match (self.protocol, list(&self.ports)) {
            (None, ports) if ports.is_empty() => String::new(),
            (None, ports) => format!("port {ports}"),
            (Some(AllowedProtocol::Ip(protocol)), _) if protocol.name().is_none() => format!("protocol {protocol}"),
            (Some(protocol), ports) if ports.is_empty() => protocol.to_string(),
            (Some(protocol), ports) => format!("{protocol}/{ports}"),
        };
        let direction = if self.direction == Direction::Ingress { "in" } else { "" };
        let by = if self.processes.is_empty() { String::new() } else { format!("by {}", self.processes.join(", ")) };
        let parts = [service, direction.to_owned(), list(&self.names), list(&self.addresses), by];
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
