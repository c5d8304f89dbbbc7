//! The subject of a decision: one kind of access of a program, with what is known about its remote.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::pattern::NamePattern;
use super::rule::AllowedAddress;
use crate::flow::{Direction, Protocol};
use crate::name::NameSource;
use crate::wire::Name;

/// Connections of the same kind, or lookups of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAccess {
    /// Egress: the program connected. Ingress: a remote connected, and the program answered.
    pub direction: Direction,
    /// What it reached.
    pub target: AccessTarget,
    /// The server name in the packets, which the program chose, by each source. Of a connection
    /// through a proxy ([`Self::is_proxied`]) all of them.
    pub claimed: BTreeSet<EvidentName>,
    /// Names to which DNS or the hosts file gave the address.
    pub asked: BTreeSet<EvidentName>,
    /// The name in `asked` that this program asked for, if that is known, because several names may
    /// share the address.
    pub own_name: Option<EvidentName>,
    /// The programs, for reports.
    pub programs: BTreeSet<String>,
    /// The programs that are proven to have done it, by their socket.
    pub proven: Vec<ProvenProgram>,
    /// Number of connections or lookups.
    pub count: u64,
    /// Every attempt failed.
    pub only_failed: bool,
    /// The flows were folded into their endpoint, so names and programs are those of the endpoint.
    pub is_folded: bool,
    /// Nothing proves that a remote connected: see [`crate::flow::Endpoint::is_remnant`].
    pub is_remnant: bool,
}

/// A name with its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidentName {
    /// The name.
    pub name: Name,
    /// Where it comes from.
    pub source: NameSource,
}

impl EvidentName {
    /// Whether both are the same name, whatever its case and the dot at its end.
    pub(super) fn is_same_name(&self, other: &Self) -> bool {
        NamePattern::exact(&self.name).matches(&other.name)
    }
}

/// A program that a rule can name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProvenProgram {
    /// Its name.
    pub name: String,
    /// The path of its executable.
    pub path: Option<String>,
}

/// What a program reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessTarget {
    /// A service of a remote; for ingress, a service of the program.
    Service {
        /// The remote.
        peer: AccessPeer,
        /// The protocol.
        protocol: Protocol,
        /// The port of the server; `None` for protocols without ports and for fragments.
        port: Option<u16>,
    },
    /// The name was looked up over DNS.
    Lookup(Name),
}

/// The remote of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessPeer {
    /// Another host, or a group.
    Address(IpAddr),
    /// The machine that netwatch runs on.
    Host,
}

impl AccessPeer {
    /// Whether an address of a rule covers it.
    pub(super) fn is_in(self, allowed: &AllowedAddress) -> bool {
        match (self, allowed) {
            (Self::Host, AllowedAddress::Host) => true,
            (Self::Address(address), AllowedAddress::Net(net)) => net.contains(&address),
            _ => false,
        }
    }

    /// The narrowest address of a rule that covers it.
    pub(super) fn allowed(self) -> AllowedAddress {
        match self {
            Self::Host => AllowedAddress::Host,
            Self::Address(address) => AllowedAddress::Net(address.into()),
        }
    }
}

impl NetworkAccess {
    /// The service: `tcp/443`, `icmp`, `dns` for a lookup.
    pub fn service(&self) -> String {
        match &self.target {
            AccessTarget::Lookup(_) => "dns".to_owned(),
            AccessTarget::Service { protocol, port: Some(port), .. } => format!("{protocol}/{port}"),
            AccessTarget::Service { protocol, port: None, .. } => match protocol.name() {
                Some(name) => name.to_owned(),
                None => format!("protocol {protocol}"),
            },
        }
    }

    /// The name or number of the protocol; `dns` for a lookup.
    pub fn protocol(&self) -> String {
        match &self.target {
            AccessTarget::Lookup(_) => "dns".to_owned(),
            AccessTarget::Service { protocol, .. } => protocol.to_string(),
        }
    }

    /// The port of the server.
    pub fn port(&self) -> Option<u16> {
        if let AccessTarget::Service { port, .. } = self.target { port } else { None }
    }

    /// The address; `None` for a lookup and for the machine itself.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.target {
            AccessTarget::Service { peer: AccessPeer::Address(address), .. } => Some(*address),
            _ => None,
        }
    }

    /// Whether the remote is a proxy: the server names in the packets are those of hosts behind it.
    pub fn is_proxied(&self) -> bool {
        let is_other = |own: &EvidentName| self.claimed.iter().any(|claimed| !claimed.is_same_name(own));
        self.own_name.as_ref().is_some_and(is_other)
    }

    /// The name of the remote in reports: that of a proxy, or the one that the program claimed, or
    /// one that it asked for.
    pub fn name(&self) -> Option<&EvidentName> {
        let own = self.own_name.as_ref();
        own.filter(|_| self.is_proxied()).or(self.claimed.first()).or(own).or_else(|| self.asked.first())
    }

    /// The remote: its name, otherwise its address.
    pub fn remote(&self) -> String {
        match (&self.target, self.name()) {
            (AccessTarget::Lookup(name), _) => name.to_string(),
            (AccessTarget::Service { peer: AccessPeer::Host, .. }, _) => "the host itself".to_owned(),
            (AccessTarget::Service { .. }, Some(known)) => known.name.to_string(),
            (AccessTarget::Service { peer: AccessPeer::Address(address), .. }, None) => address.to_string(),
        }
    }
}
