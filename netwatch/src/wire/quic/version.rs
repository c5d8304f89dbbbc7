//! Versions of QUIC that are in use, and how each derives the keys of Initial packets.

use std::fmt;

/// A version number as long headers contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuicVersion(pub u32);

/// How a version derives its Initial keys (RFC 9001 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Derivation {
    pub salt: &'static [u8; 20],
    /// Labels of key, IV and header protection.
    pub labels: [&'static [u8]; 3],
}

/// Types of long header packets, independent of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketType {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
const DRAFT: u32 = 0xff00_0000;
/// Facebook's implementation of drafts 22 and 27, and its experiments.
const MVFST_22: u32 = 0xface_b001;
const MVFST_27: u32 = 0xface_b002;
const MVFST_EXPERIMENT: u32 = 0xface_b00e;
pub(super) const Q050: u32 = u32::from_be_bytes(*b"Q050");
const T050: u32 = u32::from_be_bytes(*b"T050");
const T051: u32 = u32::from_be_bytes(*b"T051");

/// RFC 9001 section 5.2.
const SALT_V1: [u8; 20] = *b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a";
/// RFC 9369 section 3.3.1.
const SALT_V2: [u8; 20] = *b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9";
/// draft-ietf-quic-tls-29 to -32.
const SALT_29: [u8; 20] = *b"\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99";
/// draft-ietf-quic-tls-23 to -28.
const SALT_23: [u8; 20] = *b"\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02";
/// draft-ietf-quic-tls-22. Older drafts have other headers.
const SALT_22: [u8; 20] = *b"\x7f\xbc\xdb\x0e\x7c\x66\xbb\xe9\x19\x3a\x96\xcd\x21\x51\x9e\xbd\x7a\x02\x64\x4a";
/// Of Chromium, for its own versions.
const SALT_Q050: [u8; 20] = *b"\x50\x45\x74\xef\xd0\x66\xfe\x2f\x9d\x94\x5c\xfc\xdb\xd3\xa7\xf0\xd3\xb5\x6b\x45";
const SALT_T050: [u8; 20] = *b"\x7f\xf5\x79\xe5\xac\xd0\x72\x91\x55\x80\x30\x4c\x43\xa2\x36\x7c\x60\x48\x83\x10";
const SALT_T051: [u8; 20] = *b"\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d";

const LABELS: [&[u8]; 3] = [b"quic key", b"quic iv", b"quic hp"];
const LABELS_V2: [&[u8]; 3] = [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"];

fn draft_salt(draft: u32) -> Option<&'static [u8; 20]> {
    match draft {
        22 => Some(&SALT_22),
        23..=28 => Some(&SALT_23),
        29..=32 => Some(&SALT_29),
        33 | 34 => Some(&SALT_V1),
        _ => None,
    }
}

impl QuicVersion {
    /// The possible derivations; none for a version with unknown keys.
    pub(super) fn derivations(self) -> impl Iterator<Item = Derivation> {
        let salts: [Option<&'static [u8; 20]>; 2] = match self.0 {
            V1 => [Some(&SALT_V1), None],
            V2 => [Some(&SALT_V2), None],
            Q050 => [Some(&SALT_Q050), None],
            T050 => [Some(&SALT_T050), None],
            T051 => [Some(&SALT_T051), None],
            MVFST_22 => [Some(&SALT_22), None],
            MVFST_27 | MVFST_EXPERIMENT => [Some(&SALT_23), None],
            // Reserved versions that force negotiation (RFC 9000 section 15). Clients derive keys
            // as for the version that they would use otherwise.
            forced if forced & 0x0f0f_0f0f == 0x0a0a_0a0a => [Some(&SALT_V1), Some(&SALT_29)],
            draft if draft & 0xffff_ff00 == DRAFT => [draft_salt(draft & 0xff), None],
            _ => [None, None],
        };
        let labels = if self.0 == V2 { LABELS_V2 } else { LABELS };
        salts.into_iter().flatten().map(move |salt| Derivation { salt, labels })
    }

    /// Whether packets of this version can be decrypted.
    pub(super) fn is_known(self) -> bool {
        self.derivations().next().is_some()
    }

    /// Whether frames have the format of Google instead of the IETF.
    pub(super) fn has_google_frames(self) -> bool {
        matches!(self.0, Q050 | T050 | T051)
    }

    /// The packet type, from bits 4 and 5 of the first byte of a long header.
    pub(super) fn kind(self, first: u8) -> PacketType {
        // RFC 9369 section 3.2 rotates the numbers by one.
        let turn = u8::from(self.0 == V2);
        match (first >> 4 & 3).wrapping_sub(turn) & 3 {
            0 => PacketType::Initial,
            1 => PacketType::ZeroRtt,
            2 => PacketType::Handshake,
            _ => PacketType::Retry,
        }
    }
}

impl fmt::Display for QuicVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [name @ .., _] = self.0.to_be_bytes();
        match self.0 {
            V1 => f.pad("v1"),
            V2 => f.pad("v2"),
            draft if draft & 0xffff_ff00 == DRAFT => write!(f, "draft-{:02}", draft & 0xff),
            google if matches!(name, [b'Q' | b'T', b'0', b'0'..=b'9']) => {
                f.pad(&String::from_utf8_lossy(&google.to_be_bytes()))
            }
            other => write!(f, "0x{other:08x}"),
        }
    }
}
