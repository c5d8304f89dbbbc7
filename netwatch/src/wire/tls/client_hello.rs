//! ClientHellos (RFC 8446 section 4.1.2), complete or cut off anywhere. A view: no bytes are
//! copied.

use super::{Ech, TlsVersion, is_grease};
use crate::wire::{Alpn, ByteReader};

/// Extension numbers (RFC 6066, RFC 7301, RFC 8446, RFC 9849).
pub(super) mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
    pub const ECH: u16 = 0xfe0d;
    /// Encrypted server name, in drafts that preceded ECH.
    pub const ESNI: u16 = 0xffce;
}

/// The protocol that carried a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
    /// CRYPTO frames of QUIC.
    Quic,
}

/// A ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    carrier: Carrier,
    legacy_version: TlsVersion,
    ciphers: &'a [u8],
    extensions: &'a [u8],
    whole: bool,
}

/// An extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extension<'a> {
    pub kind: u16,
    /// Its body, as far as it is there.
    pub body: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// Parses the message without its handshake header; `is_all` if it is complete. `None` if it is
    /// not a ClientHello, or is cut off before the end of its cipher suites.
    pub fn parse(body: &'a [u8], is_all: bool, carrier: Carrier) -> Option<Self> {
        const RANDOM: usize = 32;
        let mut reader = ByteReader::new(body);
        let legacy_version = TlsVersion(reader.u16()?);
        reader.take(RANDOM)?;
        let session = reader.vector8()?;
        if carrier == Carrier::Dtls {
            reader.vector8()?;
        }
        let ciphers = reader.vector16()?;
        if session.len() > 32 || !ciphers.len().is_multiple_of(2) || !is_legacy_version(legacy_version, carrier) {
            return None;
        }
        let mut hello = Self { carrier, legacy_version, ciphers, extensions: &[], whole: false };
        hello.read_extensions(&mut reader);
        hello.whole &= is_all;
        Some(hello)
    }

    fn read_extensions(&mut self, reader: &mut ByteReader<'a>) {
        let compression = reader.vector8();
        // SSL 3.0 and TLS 1.0 may end here.
        if compression.is_some() && reader.is_empty() {
            self.whole = true;
        } else if compression.is_some()
            && let Some(length) = reader.u16()
        {
            (self.extensions, self.whole) = reader.take_some(length.into());
        }
    }

    /// The protocol that carried it.
    pub fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// Whether it is complete.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Cipher suites without GREASE, in order.
    pub(super) fn ciphers(&self) -> impl Iterator<Item = u16> + use<'a> {
        numbers(self.ciphers)
    }

    /// Extensions in order, including GREASE.
    pub(super) fn extensions(&self) -> impl Iterator<Item = Extension<'a>> + use<'a> {
        let mut reader = ByteReader::new(self.extensions);
        std::iter::from_fn(move || {
            let (kind, length) = (reader.u16()?, reader.u16()?);
            Some(Extension { kind, body: reader.take_some(length.into()).0 })
        })
    }

    pub(super) fn extension(&self, kind: u16) -> Option<&'a [u8]> {
        self.extensions().find(|extension| extension.kind == kind).map(|extension| extension.body)
    }

    /// The server name (RFC 6066 section 3). With ECH, the name that is sent instead of the true
    /// one.
    pub fn server_name(&self) -> Option<&'a [u8]> {
        const HOST_NAME: u8 = 0;
        let mut list = ByteReader::new(self.extension(extension::SERVER_NAME)?);
        list.u16()?;
        while let Some(kind) = list.u8() {
            let name = list.vector16()?;
            if kind == HOST_NAME {
                return Some(name);
            }
        }
        None
    }

    /// Offered application protocols, in order of preference.
    pub fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let list = self.extension(extension::ALPN).and_then(|body| body.get(2..)).unwrap_or_default();
        Alpn::raw_list(list)
    }

    /// The newest version that the client offers.
    pub fn version(&self) -> TlsVersion {
        let offered = self.extension(extension::SUPPORTED_VERSIONS).and_then(|body| body.get(1..)).unwrap_or_default();
        let newest = |a: TlsVersion, b: TlsVersion| if b.is_newer_than(a) { b } else { a };
        numbers(offered).map(TlsVersion).reduce(newest).unwrap_or(self.legacy_version)
    }

    pub(super) fn signature_algorithms(&self) -> impl Iterator<Item = u16> + use<'a> {
        numbers(self.extension(extension::SIGNATURE_ALGORITHMS).and_then(|body| body.get(2..)).unwrap_or_default())
    }

    /// The ECH extension, real or GREASE.
    pub fn ech(&self) -> Option<Ech> {
        self.extension(extension::ECH).and_then(Ech::parse)
    }

    /// Whether the server name is encrypted by the draft that preceded ECH.
    pub fn has_esni(&self) -> bool {
        self.extension(extension::ESNI).is_some()
    }

    /// Whether a post-quantum key share or group is offered (ML-KEM, or the earlier Kyber).
    pub fn is_post_quantum(&self) -> bool {
        let mut shares =
            ByteReader::new(self.extension(extension::KEY_SHARE).and_then(|body| body.get(2..)).unwrap_or_default());
        let groups = std::iter::from_fn(move || {
            let group = shares.u16()?;
            let length = shares.u16()?;
            shares.take_some(length.into());
            Some(group)
        });
        let offered =
            numbers(self.extension(extension::SUPPORTED_GROUPS).and_then(|body| body.get(2..)).unwrap_or_default());
        groups.chain(offered).any(|group| matches!(group, 0x0200..=0x0202 | 0x11eb..=0x11ed | 0x6399 | 0x639a))
    }
}

/// Numbers of two bytes each, without GREASE.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> + use<'_> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).filter(|number| !is_grease(*number))
}

fn is_legacy_version(version: TlsVersion, carrier: Carrier) -> bool {
    match carrier {
        // OpenSSL 0.9.8 used this number for DTLS.
        Carrier::Dtls => matches!(version.0, 0xfefc..=0xfeff | 0x0100),
        Carrier::Tls | Carrier::Quic => matches!(version.0, 0x0002 | 0x0300..=0x0304 | 0x7f00..=0x7fff),
    }
}
