//! One requirement: a service of a peer, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::purpose::Purpose;
use crate::flow::{Direction, EndpointKey, FIRST_EPHEMERAL_PORT, FailedAttempts, Protocol};
use crate::process::AttemptCause;
use crate::wire::Name;

/// The service of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// First and last port of a protocol that has ports.
    Ports(Protocol, u16, u16),
    /// ICMP or ICMPv6 echo, depending on the peer's address family.
    Echo,
    /// A protocol without ports.
    Protocol(Protocol),
}

impl Service {
    /// The service of an endpoint; `None` for fragments, whose port is not known.
    pub(super) fn of(key: &EndpointKey) -> Option<Self> {
        match key.protocol {
            _ if key.fragment => None,
            Protocol::ICMP | Protocol::ICMPV6 => Some(Self::Echo),
            protocol if protocol.has_ports() => Some(Self::Ports(protocol, key.port, key.port)),
            protocol => Some(Self::Protocol(protocol)),
        }
    }

    /// Whether a rule for it opens another service too.
    pub(super) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ports(own, first, last), Self::Ports(protocol, from, to)) => {
                own == protocol && first <= from && to <= last
            }
            _ => self == other,
        }
    }

    /// Whether all its ports are in the ephemeral range, from which systems choose ports.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ports(_, first, _) if first >= FIRST_EPHEMERAL_PORT)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(protocol, first, last) if first == last => write!(f, "{protocol}/{first}"),
            Self::Ports(protocol, first, last) => write!(f, "{protocol}/{first}-{last}"),
            Self::Echo => f.write_str("icmp echo"),
            Self::Protocol(protocol) => write!(f, "protocol {}", protocol.0),
        }
    }
}

/// A name, or all names directly below a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// This name.
    Exact(Name),
    /// Names with one label more than this one: `*.example.org`.
    Below(Name),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// A service that must be reachable, and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Egress: the program connects. Ingress: remotes connect to a port of the program.
    pub direction: Direction,
    /// The service.
    pub service: Service,
    /// The peer's name, if it has one. Never for ingress.
    pub name: Option<Pattern>,
    /// The peer's addresses; for ingress, the remotes that connected.
    pub peers: BTreeSet<IpNet>,
    /// Names from DNS queries that lead to the peers: a firewall that follows DNS can use them.
    pub queried: BTreeSet<Pattern>,
    /// Peers that no such name leads to.
    pub unqueried: BTreeSet<IpNet>,
    /// Peers among them that DNS responses listed for the name and that these runs did not try.
    pub unused: BTreeSet<IpNet>,
    /// Peers among them of which every attempt failed.
    pub attempted: BTreeSet<IpNet>,
    /// Failed attempts.
    pub failed: FailedAttempts,
    /// Failed attempts of each peer, as far as there are some.
    pub peer_failures: BTreeMap<IpNet, PeerFailures>,
    /// What it is for: `HTTPS`.
    pub purpose: Purpose,
    /// The programs that used it.
    pub programs: BTreeSet<String>,
}

/// Failed attempts of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerFailures {
    /// Those that packets show.
    pub failed: FailedAttempts,
    /// Number of those that failed before a packet was sent, by cause: `no route`.
    pub at_once: BTreeMap<String, u64>,
}

impl PeerFailures {
    pub(super) fn add(&mut self, other: &Self) {
        self.failed += other.failed;
        for (cause, count) in &other.at_once {
            let sum = self.at_once.entry(cause.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

/// `1 refused, 2 timeout, 1 no route`.
impl fmt::Display for PeerFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes: Vec<String> = self.failed.causes().map(|(cause, count)| format!("{count} {cause}")).collect();
        causes.extend(self.at_once.iter().map(|(cause, count)| format!("{count} {cause}")));
        f.write_str(if causes.is_empty() { AttemptCause::TIMEOUT } else { "" })?;
        f.write_str(&causes.join(", "))
    }
}

/// What the runs show about a peer; the greatest of several runs counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerUse {
    /// DNS listed it only.
    Listed,
    /// Every attempt failed.
    Attempted,
    /// It was used, and it worked.
    Used,
}

impl Need {
    /// What the runs show about one of its peers.
    pub fn use_of(&self, peer: &IpNet) -> PeerUse {
        match peer {
            _ if self.unused.contains(peer) => PeerUse::Listed,
            _ if self.attempted.contains(peer) => PeerUse::Attempted,
            _ => PeerUse::Used,
        }
    }

    fn set_use(&mut self, peer: IpNet, seen: PeerUse) {
        self.unused.remove(&peer);
        self.attempted.remove(&peer);
        match seen {
            PeerUse::Listed => drop(self.unused.insert(peer)),
            PeerUse::Attempted => drop(self.attempted.insert(peer)),
            PeerUse::Used => {}
        }
    }

    /// Notes attempts of a peer that failed.
    pub(super) fn mark_attempted(&mut self, peer: &IpNet, failures: &PeerFailures) {
        if self.unused.contains(peer) {
            self.set_use(*peer, PeerUse::Attempted);
        }
        if self.attempted.contains(peer) {
            self.peer_failures.entry(*peer).or_default().add(failures);
        }
    }

    /// How the attempts of a peer failed; empty if it worked or was not attempted.
    pub(super) fn failures_of(&self, peer: &IpNet) -> String {
        let mut sum = PeerFailures::default();
        let within = self.peer_failures.iter().filter(|(one, _)| peer.contains(*one));
        within.for_each(|(_, failures)| sum.add(failures));
        if self.use_of(peer) == PeerUse::Attempted { sum.to_string() } else { String::new() }
    }

    /// Peers of one address family.
    pub fn family(&self, is_v4: bool) -> Vec<IpNet> {
        self.peers.iter().filter(|peer| peer.addr().is_ipv4() == is_v4).copied().collect()
    }

    /// Adds the peers and names of another need for the same service.
    pub(super) fn absorb(&mut self, other: Self) {
        for peer in &other.peers {
            let known = self.peers.contains(peer).then(|| self.use_of(peer));
            self.set_use(*peer, other.use_of(peer).max(known.unwrap_or(PeerUse::Listed)));
        }
        self.purpose.improve(other.purpose);
        self.programs.extend(other.programs);
        self.peers.extend(other.peers);
        self.queried.extend(other.queried);
        self.unqueried.extend(other.unqueried);
        self.failed += other.failed;
        for (peer, failures) in &other.peer_failures {
            self.peer_failures.entry(*peer).or_default().add(failures);
        }
    }
}

/// The prefix of one address.
pub(super) fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The address if the prefix covers only one, otherwise the prefix.
pub(super) fn shown(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// Whether this can be a host name: letters, digits, `-` and `_` in labels of at most 63 bytes (RFC
/// 1123, and underscores, which are in use).
pub(super) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_written_as_protocol_and_port() {
        assert_eq!(Service::Ports(Protocol::TCP, 443, 443).to_string(), "tcp/443");
        assert_eq!(Service::Ports(Protocol::UDP, 32_768, 65_535).to_string(), "udp/32768-65535");
        assert_eq!(Service::Protocol(Protocol(47)).to_string(), "protocol 47");
    }

    #[test]
    fn recognizes_host_names() {
        for good in ["a", "app.example", "_dmarc.example.org", "xn--mnchen-3ya.example"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a b", "a\\.b.example", "\\010", "*.example", "grüße.example"] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
