//! Events that are read from a flow.

use crate::wire::dns::DnsMessage;
use crate::wire::tls::{Hello, ServerHello};
use crate::wire::{Application, Name, quic};

use super::facts::RequestLine;

/// An event.
#[derive(Debug)]
pub(super) enum NameEvent {
    /// A protocol, and the evidence for it.
    Proven(Application, &'static str),
    /// The next events follow bytes that were not recognized: the remote may only forward them.
    FollowsUnknown,
    /// A ClientHello, or a longer part of it.
    ClientHello(Box<Hello>),
    /// The ServerHello.
    ServerHello(ServerHello),
    /// QUIC of this version.
    Quic(quic::QuicVersion),
    /// The server name in the handshake of Google.
    ChloName(Name),
    /// A request of HTTP.
    Request(HttpRequest),
    /// The authority of a request of HTTP/2.
    Authority(Name),
    /// The identification string of one side of SSH.
    Banner(String),
    /// A DNS message.
    Dns(Box<DnsMessage>),
    /// A header block of HTTP/2 that cannot be decoded.
    Http2Broken,
}

/// A request of HTTP.
#[derive(Debug)]
pub(super) struct HttpRequest {
    pub line: RequestLine,
    pub host: Option<Name>,
    /// The request is to a proxy: its target is a complete URL, or its method is CONNECT.
    pub is_proxied: bool,
}
