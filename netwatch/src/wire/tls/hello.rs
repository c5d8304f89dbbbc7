//! The facts kept of a ClientHello, as owned data.

use super::client_hello::Carrier;
use super::{ClientHello, Ech, Ja4, TlsVersion};
use crate::wire::{Alpn, Name};

/// The facts kept of a ClientHello: the server name, and what distinguishes the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The server name.
    pub server_name: Option<Name>,
    /// Offered application protocols.
    pub alpn: Vec<Alpn>,
    /// The newest version that was offered.
    pub version: TlsVersion,
    /// The ECH extension, real or GREASE.
    pub ech: Option<Ech>,
    /// Whether the server name is encrypted by the draft that preceded ECH.
    pub esni: bool,
    /// Whether a post-quantum key share or group was offered.
    pub post_quantum: bool,
    /// The fingerprint of the client's TLS library; `None` for an incomplete hello.
    pub ja4: Option<Ja4>,
    /// The protocol that carried it.
    pub carrier: Carrier,
    /// Whether the hello was complete.
    pub whole: bool,
}

impl Hello {
    /// Memory used, bytes.
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
