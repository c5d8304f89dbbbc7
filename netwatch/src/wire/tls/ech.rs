//! Encrypted ClientHello (RFC 9849): seen from outside.

use crate::wire::{ByteReader, Name};

/// ECH in a ClientHello. From outside a real one and one that is pretended, so that nobody gets used to its absence, look the same; only a
/// configuration that the client was given before tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ech {
    /// The true ClientHello is inside, encrypted; or nothing is.
    Outer {
        /// The server's key that it is encrypted for.
        config_id: u8,
    },
    /// The marker of a decrypted ClientHello. In clear only by mistake.
    Inner,
}

impl Ech {
    /// Reads the extension.
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

/// A key that a server publishes in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchConfig {
    /// Its number.
    pub id: u8,
    /// The server name that outer ClientHellos show.
    pub public_name: Name,
}

impl EchConfig {
    const MAX_LIST: usize = 8;

    /// Reads an ECHConfigList (section 4). Versions that are not the RFC's are left out.
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
