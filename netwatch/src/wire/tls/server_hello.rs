//! ServerHellos (RFC 8446 section 4.1.3): what the server chose, as far as it is not encrypted.

use super::TlsVersion;
use super::client_hello::extension;
use crate::wire::{Alpn, ByteReader};

/// What the server chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHello {
    /// The version.
    pub version: TlsVersion,
    /// The number of the cipher suite.
    pub cipher: u16,
    /// The application protocol; encrypted in TLS 1.3.
    pub alpn: Option<Alpn>,
}

impl ServerHello {
    /// Parses the message without its handshake header, up to its last byte.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(body);
        let legacy_version = TlsVersion(reader.u16()?);
        reader.take(32)?;
        reader.vector8()?;
        let cipher = reader.u16()?;
        let mut hello = Self { version: legacy_version, cipher, alpn: None };
        reader.u8();
        reader.u16();
        while let (Some(kind), Some(body)) = (reader.u16(), reader.vector16()) {
            hello.read(kind, body);
        }
        Some(hello)
    }

    fn read(&mut self, kind: u16, body: &[u8]) {
        let mut reader = ByteReader::new(body);
        match kind {
            extension::SUPPORTED_VERSIONS => self.version = reader.u16().map_or(self.version, TlsVersion),
            extension::ALPN => self.alpn = body.get(2..).and_then(|list| Alpn::list(list).into_iter().next()),
            _ => {}
        }
    }
}
