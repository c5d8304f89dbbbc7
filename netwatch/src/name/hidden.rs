//! Reasons why the name of a flow, or the names of its lookups, are hidden.

use super::facts::FlowFacts;
use super::resolvers;
use crate::flow::{Direction, FlowKey, Protocol};
use crate::wire::{Application, port};

/// A reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hidden {
    /// DNS over HTTPS (RFC 8484), recognized by the name or address of a public resolver: lookups
    /// are encrypted.
    Doh,
    /// DNS over TLS (RFC 7858): TLS on port 853, or its ALPN.
    Dot,
    /// DNS over QUIC (RFC 9250): its ALPN, or QUIC on port 853.
    Doq,
    /// Encrypted ClientHello, for a configuration that the client received: the server name is a
    /// cover.
    Ech,
    /// Encrypted ClientHello or GREASE, which browsers send so that ECH is not conspicuous. They
    /// cannot be distinguished.
    EchPossible,
    /// The server name is encrypted by the draft that preceded ECH.
    Esni,
    /// A hello without a server name.
    NoServerName,
}

impl Hidden {
    /// Every reason.
    const ALL: [Self; 7] =
        [Self::Doh, Self::Dot, Self::Doq, Self::Ech, Self::EchPossible, Self::Esni, Self::NoServerName];

    /// The reason with this identifier.
    pub fn of_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == text)
    }

    /// The identifier used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Doh => "doh",
            Self::Dot => "dot",
            Self::Doq => "doq",
            Self::Ech => "ech",
            Self::EchPossible => "ech_possible",
            Self::Esni => "esni",
            Self::NoServerName => "no_server_name",
        }
    }
}

/// All reasons of a flow.
pub(super) fn hidden(flow: &FlowKey, facts: &FlowFacts, opened_by: Direction, ech: Option<Hidden>) -> Vec<Hidden> {
    let mut found: Vec<Hidden> = resolver(flow, facts, opened_by).into_iter().chain(ech).collect();
    if let Some(hello) = &facts.hello {
        if hello.esni {
            found.push(Hidden::Esni);
        }
        if hello.server_name.is_none() && hello.whole {
            found.push(Hidden::NoServerName);
        }
    }
    found
}

/// The kind of encrypted DNS, if the flow is one.
fn resolver(flow: &FlowKey, facts: &FlowFacts, opened_by: Direction) -> Option<Hidden> {
    let has = |application| facts.applications.iter().any(|proven| proven.application == application);
    let (tls, quic) = (has(Application::Tls), has(Application::Quic));
    if !tls && !quic {
        return None;
    }
    let server_port = if opened_by == Direction::Egress { flow.remote.port } else { flow.local.port };
    let offers = |name: &str| {
        facts.hello.as_ref().is_some_and(|hello| hello.alpn.iter().any(|alpn| alpn.as_str().starts_with(name)))
    };
    let is_resolver = facts.names.iter().any(|named| resolvers::is_name(&named.name))
        || (facts.names.is_empty() && resolvers::is_address(flow.remote.addr));
    if offers("doq") || (quic && server_port == port::ENCRYPTED_DNS) {
        Some(Hidden::Doq)
    } else if offers("dot") || (tls && server_port == port::ENCRYPTED_DNS && Protocol(flow.protocol) == Protocol::TCP) {
        Some(Hidden::Dot)
    } else {
        (is_resolver && server_port == port::HTTPS).then_some(Hidden::Doh)
    }
}
