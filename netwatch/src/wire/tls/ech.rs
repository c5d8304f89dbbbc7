//! Encrypted ClientHello (RFC 9849), as visible without the keys.

use crate::wire::{ByteReader, Name};

/// ECH in a ClientHello. A real one and GREASE, which clients send so that ECH is not conspicuous,
/// look the same from outside; they can be distinguished only by a configuration that the client
/// received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ech {
    /// An outer ClientHello: the true one is encrypted inside, or the content is GREASE.
    Outer {
        /// The id of the configuration with the key of the server.
        config_id: u8,
    },
    /// The marker of an inner ClientHello. It is sent unencrypted only by mistake.
    Inner,
}

impl Ech {
    /// Parses the extension.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(body);
        match reader.u8()? {
            0 => {
                let _cipher_suite = reader.u32()?;
                Some(Self::Outer { config_id: reader.u8()? })
            }
            1 => Some(Self::Inner),
            _ => None,
        }
    }
}

/// A configuration with a public key, which a server publishes in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchConfig {
    /// Its id.
    pub id: u8,
    /// The server name in outer ClientHellos.
    pub public_name: Name,
}

impl EchConfig {
    const MAX_LIST: usize = 8;

    /// Parses an ECHConfigList (section 4). Versions other than that of the RFC are skipped.
    pub fn list(bytes: &[u8]) -> Vec<Self> {
        let Some(mut list) = ByteReader::new(bytes).vector16().map(ByteReader::new) else { return Vec::new() };
        let next = std::iter::from_fn(|| {
            let version = list.u16()?;
            list.vector16().map(|contents| (version, contents))
        });
        next.filter(|(version, _)| *version == 0xfe0d)
            .filter_map(|(_, contents)| Self::parse(contents))
            .take(Self::MAX_LIST)
            .collect()
    }

    fn parse(contents: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(contents);
        let id = reader.u8()?;
        let _kem = reader.u16()?;
        let _public_key = reader.vector16()?;
        let _cipher_suites = reader.vector16()?;
        let _maximum_name_length = reader.u8()?;
        Name::new(reader.vector8()?).map(|public_name| Self { id, public_name })
    }
}
