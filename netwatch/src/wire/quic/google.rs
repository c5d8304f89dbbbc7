//! QUIC by Google: versions up to Q046, whose handshake is not encrypted, and the CHLO message,
//! which Q050 uses too.

use super::version::{Q050, QuicVersion};
use crate::wire::ByteReader;

/// Length of the hash in the place where later versions have encryption, bytes.
const HASH: usize = 12;

/// A packet with a version.
struct GooglePacket<'a> {
    version: QuicVersion,
    frames: &'a [u8],
}

/// The version, if this is a packet in one of Google's formats with a version.
pub(super) fn version(datagram: &[u8]) -> Option<QuicVersion> {
    packet(datagram).map(|packet| packet.version)
}

/// The version and the CHLO message of an unencrypted packet of a client.
pub(super) fn hello(datagram: &[u8]) -> Option<(QuicVersion, Option<Chlo<'_>>)> {
    let packet = packet(datagram)?;
    Some((packet.version, chlo_in(&packet).and_then(Chlo::parse)))
}

fn packet(datagram: &[u8]) -> Option<GooglePacket<'_>> {
    let first = *datagram.first()?;
    if first & 0x80 == 0 { public_header(datagram, first) } else { long_header(datagram, first) }
}

fn number(version: u32) -> Option<u32> {
    let [b'Q', b'0', tens @ b'2'..=b'4', ones @ b'0'..=b'9'] = version.to_be_bytes() else { return None };
    Some(u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

/// Up to Q043: flags, connection ID, version, packet number.
fn public_header(datagram: &[u8], flags: u8) -> Option<GooglePacket<'_>> {
    const VERSION: u8 = 0x01;
    const RESET: u8 = 0x02;
    const CONNECTION_ID: u8 = 0x08;
    if flags & (VERSION | RESET | CONNECTION_ID) != VERSION | CONNECTION_ID {
        return None;
    }
    let mut rest = ByteReader::new(datagram);
    rest.take(1 + 8)?;
    let version = QuicVersion(rest.u32()?);
    let number = number(version.0).filter(|number| *number <= 43)?;
    rest.take([1, 2, 4, 6][usize::from(flags >> 4 & 3)])?;
    let private_flags = usize::from(number <= 33);
    rest.take(HASH + private_flags)?;
    Some(GooglePacket { version, frames: rest.rest() })
}

/// Q044 to Q046: headers as IETF drafts had them then, with the lengths of both connection IDs in
/// one byte.
fn long_header(datagram: &[u8], first: u8) -> Option<GooglePacket<'_>> {
    let mut rest = ByteReader::new(datagram);
    rest.u8()?;
    let version = QuicVersion(rest.u32()?);
    number(version.0).filter(|number| (44..=49).contains(number))?;
    let lengths = rest.u8()?;
    let length = |nibble: u8| if nibble == 0 { 0 } else { usize::from(nibble) + 3 };
    rest.take(length(lengths >> 4) + length(lengths & 0x0f))?;
    rest.take(usize::from(first & 3) + 1)?;
    rest.take(HASH)?;
    Some(GooglePacket { version, frames: rest.rest() })
}

/// The handshake is stream number 1, and its frame follows nothing but padding. Any offset is
/// accepted: a server that needs more information receives a second CHLO.
fn chlo_in<'a>(packet: &GooglePacket<'a>) -> Option<&'a [u8]> {
    const STREAM: u8 = 0x80;
    const HAS_LENGTH: u8 = 0x20;
    let padding = packet.frames.iter().take_while(|byte| **byte == 0).count();
    let mut rest = ByteReader::new(&packet.frames[padding..]);
    let kind = rest.u8().filter(|kind| kind & STREAM != 0)?;
    let is_handshake = kind & 3 == 0 && rest.u8()? == 1;
    let offset = [0, 2, 3, 4, 5, 6, 7, 8][usize::from(kind >> 2 & 7)];
    if !is_handshake || rest.take(offset).is_none() {
        return None;
    }
    if kind & HAS_LENGTH == 0 {
        return Some(rest.rest());
    }
    // Numbers were little-endian up to Q038.
    let length = if number(packet.version.0)? < 39 { rest.u16_le()? } else { rest.u16()? };
    Some(rest.take_some(length.into()).0)
}

/// Size of a tag and the end offset of its value, bytes.
const TAG: usize = 8;

/// A CHLO message: tags and values (QUIC Crypto, revision 20161206).
#[derive(Debug, Clone, Copy)]
pub(super) struct Chlo<'a> {
    tags: &'a [u8],
    values: &'a [u8],
}

impl<'a> Chlo<'a> {
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut rest = ByteReader::new(message);
        if rest.take(4)? != b"CHLO" {
            return None;
        }
        let count = usize::from(rest.u16_le()?);
        rest.u16_le()?;
        let tags = rest.take(count * TAG)?;
        Some(Self { tags, values: rest.rest() })
    }

    /// The server name.
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let mut start = 0;
        for entry in self.tags.as_chunks::<TAG>().0 {
            let (tag, end) = entry.split_at(4);
            let end = ByteReader::new(end).u32_le()? as usize;
            if tag == b"SNI\0" {
                return self.values.get(start..end);
            }
            start = end;
        }
        None
    }
}

/// Whether the encrypted handshake of this version is a CHLO message.
pub(super) fn encrypts_chlo(version: QuicVersion) -> bool {
    version.0 == Q050
}
