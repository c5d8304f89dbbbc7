//! One thing that must be opened: a service of a peer, as plain data.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::flow::{Direction, EndpointKey, FIRST_EPHEMERAL_PORT, Failed, Protocol};
use crate::wire::Name;

/// What is asked of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Ports of a protocol that has them, first and last.
    Ports(Protocol, u16, u16),
    /// ICMP or ICMPv6 echo, by the peer's family.
    Echo,
    /// A protocol without ports.
    Protocol(Protocol),
}

impl Service {
    /// What an endpoint is asked for; `None` for fragments, of which no port is known.
    pub(super) fn of(key: &EndpointKey) -> Option<Self> {
        match key.protocol {
            _ if key.fragment => None,
            Protocol::ICMP | Protocol::ICMPV6 => Some(Self::Echo),
            protocol if protocol.has_ports() => Some(Self::Ports(protocol, key.port, key.port)),
            protocol => Some(Self::Protocol(protocol)),
        }
    }

    /// Whether all its ports are of the range from which systems choose at will.
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

/// A name, or all names directly below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// This name.
    Exact(Name),
    /// One label more than this name: `*.example.org`.
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

/// A service that must be reachable, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Egress: the program opens it. Ingress: others do, at the program's own port.
    pub direction: Direction,
    /// What.
    pub service: Service,
    /// The peer's name, where it has one. Never for ingress.
    pub name: Option<Pattern>,
    /// Where the peer is; for ingress, who came.
    pub peers: BTreeSet<IpNet>,
    /// Names that DNS was asked for and that lead to the peers: what a firewall that listens to DNS can go by.
    pub asked: BTreeSet<Pattern>,
    /// Peers that no such name leads to.
    pub unasked: BTreeSet<IpNet>,
    /// How attempts failed.
    pub failed: Failed,
}

impl Need {
    /// Peers of one family.
    pub fn family(&self, is_v4: bool) -> Vec<IpNet> {
        self.peers.iter().filter(|peer| peer.addr().is_ipv4() == is_v4).copied().collect()
    }

    /// Adds what is known of the same need from elsewhere.
    pub(super) fn absorb(&mut self, other: Self) {
        self.peers.extend(other.peers);
        self.asked.extend(other.asked);
        self.unasked.extend(other.unasked);
        self.failed += other.failed;
    }
}

/// The prefix of one address.
pub(super) fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// An address where the prefix is one, else the prefix.
pub(super) fn shown(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// Whether a name can be a host's: letters, digits, `-` and `_` in labels of at most 63 (RFC 1123, and what is in use).
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
    fn services_read_as_people_write_them() {
        assert_eq!(Service::Ports(Protocol::TCP, 443, 443).to_string(), "tcp/443");
        assert_eq!(Service::Ports(Protocol::UDP, 32_768, 65_535).to_string(), "udp/32768-65535");
        assert_eq!(Service::Protocol(Protocol(47)).to_string(), "protocol 47");
    }

    #[test]
    fn host_names() {
        for good in ["a", "app.example", "_dmarc.example.org", "xn--mnchen-3ya.example"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a b", "a\\.b.example", "\\010", "*.example", "grüße.example"] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
