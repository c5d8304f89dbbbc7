//! Packets with long headers (RFC 9000 section 17.2), of which a datagram may contain several.

use super::version::{PacketType, QuicVersion};
use crate::wire::ByteReader;

/// Maximum length of a connection id (RFC 9000 section 17.2); later versions may allow longer ones.
const MAX_CONNECTION_ID: usize = 20;

/// An Initial packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Initial<'a> {
    pub version: QuicVersion,
    pub destination: &'a [u8],
    /// The packet, from the first byte of the header to the end that its length field gives.
    pub bytes: &'a [u8],
    /// The offset of the protected packet number in `bytes`.
    pub number_at: usize,
}

/// The Initial packets of a datagram. Other packets and padding are skipped; a packet that is cut
/// off ends it.
pub(super) fn initials(datagram: &[u8]) -> impl Iterator<Item = Initial<'_>> {
    let mut rest = ByteReader::new(datagram);
    std::iter::from_fn(move || {
        loop {
            skip_padding(&mut rest);
            if let Next::Initial(initial) = next(&mut rest)? {
                return Some(initial);
            }
        }
    })
}

/// The version of the first packet, if that has a long header of a version with known keys, and
/// either the fixed bit (RFC 9000 section 17.2; RFC 9287 lets clients clear it) or a length that
/// fits into the datagram.
pub(super) fn first_version(datagram: &[u8]) -> Option<QuicVersion> {
    let mut rest = ByteReader::new(datagram);
    let header = header(&mut rest).filter(|header| header.version.is_known())?;
    let is_fixed = header.first & 0x40 != 0;
    let fits = length(&mut rest, header.version.kind(header.first)).is_some_and(|length| length <= rest.rest().len());
    (is_fixed || fits).then_some(header.version)
}

enum Next<'a> {
    Initial(Initial<'a>),
    Other,
}

struct LongHeader<'a> {
    first: u8,
    version: QuicVersion,
    destination: &'a [u8],
}

fn header<'a>(rest: &mut ByteReader<'a>) -> Option<LongHeader<'a>> {
    const LONG: u8 = 0x80;
    let first = rest.u8().filter(|first| first & LONG != 0)?;
    let version = QuicVersion(rest.u32().filter(|version| *version != 0)?);
    let destination = rest.vector8().filter(|id| id.len() <= MAX_CONNECTION_ID)?;
    rest.vector8().filter(|id| id.len() <= MAX_CONNECTION_ID)?;
    Some(LongHeader { first, version, destination })
}

/// Takes the fields between connection ids and packet number; returns the length of the rest.
fn length(rest: &mut ByteReader<'_>, kind: PacketType) -> Option<usize> {
    if kind == PacketType::Initial {
        let token = usize::try_from(rest.varint()?).ok()?;
        rest.take(token)?;
    }
    usize::try_from(rest.varint()?).ok()
}

fn next<'a>(rest: &mut ByteReader<'a>) -> Option<Next<'a>> {
    let start = rest.rest();
    let header = header(rest)?;
    let kind = header.version.kind(header.first);
    if kind == PacketType::Retry {
        return None;
    }
    let length = length(rest, kind)?;
    let number_at = start.len() - rest.rest().len();
    rest.take(length)?;
    let bytes = &start[..number_at + length];
    Some(match kind {
        PacketType::Initial => {
            Next::Initial(Initial { version: header.version, destination: header.destination, bytes, number_at })
        }
        _ => Next::Other,
    })
}

/// Skips zeros between packets, which datagrams contain that offloading merged or that a client
/// padded.
fn skip_padding(rest: &mut ByteReader<'_>) {
    let zeros = rest.rest().iter().take_while(|byte| **byte == 0).count();
    rest.take(zeros);
}
