//! What is kept of a ClientHello.

use super::client_hello::Carrier;
use super::{ClientHello, Ech, Ja4, TlsVersion};
use crate::wire::{Alpn, Name};

/// What is kept of a ClientHello: what it tells about who is meant, and about who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server name.
    pub server_name: Option<Name>,
    /// Protocols that were offered.
    pub alpn: Vec<Alpn>,
    /// The newest version that was offered.
    pub version: TlsVersion,
    /// Encrypted ClientHello, real or pretended.
    pub ech: Option<Ech>,
    /// The name is encrypted by the draft before ECH.
    pub esni: bool,
    /// A post-quantum key was offered.
    pub post_quantum: bool,
    /// The fingerprint of the client's TLS library; only of a whole hello.
    pub ja4: Option<Ja4>,
    /// What it came in.
    pub carrier: Carrier,
    /// Everything of it could be read.
    pub whole: bool,
}

impl Hello {
    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let alpn: usize = self.alpn.iter().map(|alpn| size_of::<Alpn>() + alpn.as_str().len()).sum();
        let ja4 = self.ja4.as_ref().map_or(0, |ja4| ja4.as_str().len());
        size_of::<Self>() + self.server_name.as_ref().map_or(0, Name::memory) + alpn + ja4
    }
}

impl From<&ClientHello<'_>> for Hello {
    fn from(hello: &ClientHello<'_>) -> Self {
        Self {
            server_name: hello.server_name().and_then(Name::new),
            alpn: hello.alpn().take(Alpn::MAX_LIST).map(Alpn::new).collect(),
            version: hello.version(),
            ech: hello.ech(),
            esni: hello.has_esni(),
            post_quantum: hello.is_post_quantum(),
            ja4: Ja4::of(hello),
            carrier: hello.carrier(),
            whole: hello.is_whole(),
        }
    }
}
