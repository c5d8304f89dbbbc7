//! Versions of SSL, TLS and DTLS.

use std::fmt;

/// A version number as hello messages contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsVersion(pub u16);

impl TlsVersion {
    /// TLS 1.3.
    pub const TLS13: Self = Self(0x0304);

    /// Whether this is the newer one of two versions of the same protocol. The numbers of DTLS
    /// decrease.
    pub(super) fn is_newer_than(self, other: Self) -> bool {
        if self.is_dtls() { self.0 < other.0 } else { self.0 > other.0 }
    }

    fn is_dtls(self) -> bool {
        self.0 >> 8 == 0xfe
    }

    /// The two characters that JA4 uses for it.
    pub(super) fn ja4(self) -> &'static str {
        match self.0 {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            0xfefc => "d3",
            0xfefd => "d2",
            0xfeff => "d1",
            _ => "00",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0x0304 => "TLS 1.3",
            0x0303 => "TLS 1.2",
            0x0302 => "TLS 1.1",
            0x0301 => "TLS 1.0",
            0x0300 => "SSL 3.0",
            0x0002 => "SSL 2.0",
            0xfefc => "DTLS 1.3",
            0xfefd => "DTLS 1.2",
            0xfeff | 0x0100 => "DTLS 1.0",
            other => return write!(f, "0x{other:04x}"),
        };
        f.pad(name)
    }
}
