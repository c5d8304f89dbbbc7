//! What is known of a flow: plain data.

use crate::flow::PerDirection;
use crate::wire::tls::{Hello, ServerHello};
use crate::wire::{Application, Name, quic};

/// Where a name came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameSource {
    /// The server name of TLS or DTLS.
    Sni,
    /// The server name of QUIC.
    Quic,
    /// The host of HTTP.
    Http,
    /// An answer of DNS.
    Dns,
    /// An answer of multicast DNS.
    Mdns,
    /// An answer of link-local multicast name resolution.
    Llmnr,
    /// The hosts file.
    Hosts,
    /// The name that belongs to an address, asked by the target or by `--resolve`.
    Ptr,
}

impl NameSource {
    /// The name in reports.
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
}

/// A name and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedName {
    /// The name.
    pub name: Name,
    /// Where it came from.
    pub source: NameSource,
    /// The question whose answer led here through aliases, where that was another name.
    pub question: Option<Name>,
    /// When it was seen first, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
}

impl SourcedName {
    /// What the target asked for: the question, where there is one. The name that aliases led to is mostly the business of whoever serves it.
    pub fn shown(&self) -> &Name {
        self.question.as_ref().unwrap_or(&self.name)
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.name.memory() + self.question.as_ref().map_or(0, Name::memory)
    }
}

/// A protocol and the bytes that prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenApplication {
    /// The protocol.
    pub application: Application,
    /// What bytes: `client_hello`, `request` and the like.
    pub evidence: &'static str,
}

/// The first request of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// `GET`.
    pub method: String,
    /// What was asked for, escaped, at most [`RequestLine::MAX_TARGET`] bytes of it.
    pub target: String,
}

impl RequestLine {
    /// Bytes of a target that are kept.
    pub const MAX_TARGET: usize = 256;
}

/// What was learned of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// What it speaks, in the order in which it was proved: `smtp` then `tls` where STARTTLS was said, `http` then `tls` through a proxy.
    pub applications: Vec<ProvenApplication>,
    /// Names of the server: the server name, hosts of requests.
    pub names: Vec<SourcedName>,
    /// Names beyond those that are kept.
    pub names_left_out: u64,
    /// The ClientHello of TLS, DTLS or QUIC.
    pub hello: Option<Box<Hello>>,
    /// What the server chose, of TLS.
    pub server_hello: Option<ServerHello>,
    /// The version of QUIC.
    pub quic: Option<quic::QuicVersion>,
    /// The first request of HTTP.
    pub request: Option<RequestLine>,
    /// What each side says that it is, of SSH.
    pub banner: PerDirection<Option<String>>,
    /// Names may not be the remote's: requests are meant for a proxy, or something came before that was not understood (SOCKS is).
    pub is_proxied: bool,
}

impl FlowFacts {
    /// Names that are kept.
    pub const MAX_NAMES: usize = 16;
    const MAX_APPLICATIONS: usize = 4;

    /// What it speaks in the end.
    pub fn application(&self) -> Option<Application> {
        self.applications.last().map(|proven| proven.application)
    }

    /// Bytes of memory beside its own size.
    pub(super) fn memory(&self) -> usize {
        let names: usize = self.names.iter().map(SourcedName::memory).sum();
        let hello = self.hello.as_ref().map_or(0, |hello| hello.memory());
        let request = self.request.as_ref().map_or(0, |request| request.method.len() + request.target.len());
        let banners = [&self.banner.egress, &self.banner.ingress].into_iter().flatten().map(String::len).sum::<usize>();
        names + hello + request + banners
    }

    pub(super) fn prove(&mut self, application: Application, evidence: &'static str) {
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

    /// A whole hello is not replaced by part of one, nor by a later one.
    pub(super) fn set_hello(&mut self, hello: Box<Hello>) {
        if self.hello.as_ref().is_none_or(|known| !known.whole) {
            self.hello = Some(hello);
        }
    }
}
