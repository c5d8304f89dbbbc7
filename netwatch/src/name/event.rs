//! What reading a flow gives.

use crate::wire::dns::DnsMessage;
use crate::wire::tls::{Hello, ServerHello};
use crate::wire::{Application, Name, quic};

use super::facts::RequestLine;

/// One thing that was read.
#[derive(Debug)]
pub(super) enum NameEvent {
    /// A protocol, by these bytes.
    Proven(Application, &'static str),
    /// What comes next began behind something that was not understood: the remote may only pass it on.
    Behind,
    /// A ClientHello, or more of it.
    ClientHello(Box<Hello>),
    /// The server's answer to it.
    ServerHello(ServerHello),
    /// QUIC of this version.
    Quic(quic::QuicVersion),
    /// The server name of Google's QUIC.
    ChloName(Name),
    /// A request of HTTP.
    Request(HttpRequest),
    /// Whom a request of HTTP/2 is for.
    Authority(Name),
    /// What a side of SSH says that it is.
    Banner(String),
    /// A message of DNS.
    Dns(Box<DnsMessage>),
    /// HTTP/2 that cannot be followed.
    Http2Broken,
}

/// A request of HTTP.
#[derive(Debug)]
pub(super) struct HttpRequest {
    pub line: RequestLine,
    pub host: Option<Name>,
    /// The target is a whole URL, or CONNECT's: the other end is a proxy.
    pub is_proxied: bool,
}
