//! The facts of a flow, as plain data.

use crate::flow::PerDirection;
use crate::wire::tls::{Hello, ServerHello};
use crate::wire::{Application, Name, quic};

/// Where a name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameSource {
    /// The server name of TLS or DTLS.
    Sni,
    /// The server name of QUIC.
    Quic,
    /// The host of HTTP.
    Http,
    /// A response of DNS.
    Dns,
    /// A response of multicast DNS.
    Mdns,
    /// A response of link-local multicast name resolution.
    Llmnr,
    /// The hosts file.
    Hosts,
    /// A PTR record, looked up by the target or by `--resolve`.
    Ptr,
}

impl NameSource {
    /// The identifier used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Quic => "quic",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Mdns => "mdns",
            Self::Llmnr => "llmnr",
            Self::Hosts => "hosts",
            Self::Ptr => "ptr",
        }
    }

    /// Whether the name was found in a connection: it proves nothing about those to other ports of
    /// the address.
    pub fn is_of_connection(self) -> bool {
        matches!(self, Self::Sni | Self::Quic | Self::Http)
    }
}

/// A name and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedName {
    /// The name.
    pub name: Name,
    /// Where it comes from.
    pub source: NameSource,
    /// The name that was looked up, if aliases led from it to this one.
    pub question: Option<Name>,
    /// Time at which it was first seen, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
}

impl SourcedName {
    /// The name that the target looked up, if there is one. The name that aliases lead to is
    /// usually internal to the operator.
    pub fn shown(&self) -> &Name {
        self.question.as_ref().unwrap_or(&self.name)
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.name.memory() + self.question.as_ref().map_or(0, Name::memory)
    }
}

/// A protocol and the evidence for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenApplication {
    /// The protocol.
    pub application: Application,
    /// The kind of bytes: `client_hello`, `request` and the like.
    pub evidence: &'static str,
}

/// The first request of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// `GET`.
    pub method: String,
    /// The request target, escaped, at most [`RequestLine::MAX_TARGET`] bytes of it.
    pub target: String,
}

impl RequestLine {
    /// Maximum number of bytes kept of a target.
    pub const MAX_TARGET: usize = 256;
}

/// The facts of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// Its protocols in the order in which they were identified: `smtp` then `tls` after STARTTLS,
    /// `http` then `tls` through a proxy.
    pub applications: Vec<ProvenApplication>,
    /// Names of the server: server names, and hosts of requests.
    pub names: Vec<SourcedName>,
    /// Number of names beyond the limit.
    pub names_left_out: u64,
    /// The ClientHello of TLS, DTLS or QUIC.
    pub hello: Option<Box<Hello>>,
    /// The ServerHello of TLS.
    pub server_hello: Option<ServerHello>,
    /// The version of QUIC.
    pub quic: Option<quic::QuicVersion>,
    /// The first request of HTTP.
    pub request: Option<RequestLine>,
    /// The identification string of each side of SSH.
    pub banner: PerDirection<Option<String>>,
    /// Whether the names may belong to another host than the remote: requests are to a proxy, or
    /// follow bytes that were not recognized (such as SOCKS).
    pub is_proxied: bool,
}

impl FlowFacts {
    /// Maximum number of names kept.
    pub const MAX_NAMES: usize = 16;
    const MAX_APPLICATIONS: usize = 4;

    /// The last protocol that was identified.
    pub fn application(&self) -> Option<Application> {
        self.applications.last().map(|proven| proven.application)
    }

    /// Memory used besides its own size, bytes.
    pub(super) fn memory(&self) -> usize {
        let names: usize = self.names.iter().map(SourcedName::memory).sum();
        let hello = self.hello.as_ref().map_or(0, |hello| hello.memory());
        let request = self.request.as_ref().map_or(0, |request| request.method.len() + request.target.len());
        let banners = [&self.banner.egress, &self.banner.ingress].into_iter().flatten().map(String::len).sum::<usize>();
        names + hello + request + banners
    }

    pub(super) fn identify(&mut self, application: Application, evidence: &'static str) {
        let is_known = self.applications.iter().any(|proven| proven.application == application);
        if !is_known && self.applications.len() < Self::MAX_APPLICATIONS {
            self.applications.push(ProvenApplication { application, evidence });
        }
    }

    /// False if there was no room.
    pub(super) fn add_name(&mut self, name: Name, source: NameSource, now_ns: u64) -> bool {
        if self.names.iter().any(|known| (&known.name, known.source) == (&name, source)) {
            return true;
        }
        if self.names.len() >= Self::MAX_NAMES {
            self.names_left_out += 1;
            return false;
        }
        self.names.push(SourcedName { name, source, question: None, first_seen_ns: now_ns });
        true
    }

    /// A complete hello is not replaced by a partial one, nor by a later one.
    pub(super) fn set_hello(&mut self, hello: Box<Hello>) {
        if self.hello.as_ref().is_none_or(|known| !known.whole) {
            self.hello = Some(hello);
        }
    }
}
