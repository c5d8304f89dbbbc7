//! Long headers (RFC 9000 section 17.2), several in one datagram.

use super::version::{PacketType, QuicVersion};
use crate::wire::ByteReader;

/// RFC 9000 section 17.2: longer connection IDs are for versions to come.
const MAX_CONNECTION_ID: usize = 20;

/// An Initial packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Initial<'a> {
    pub version: QuicVersion,
    pub destination: &'a [u8],
    /// From the first byte of the header on, as far as its length goes.
    pub bytes: &'a [u8],
    /// Where in `bytes` the protected packet number is.
    pub number_at: usize,
}

/// The Initial packets of a datagram. What is between and behind them is stepped over; a packet that is cut off ends it.
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

/// The version of the first packet, if that has a long header of a version with known keys, and either the bit that such headers have set
/// (RFC 9000 section 17.2, though RFC 9287 lets clients clear it) or a length that fits into the datagram.
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

/// Takes what lies between connection IDs and packet number: the length of the rest.
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

/// Datagrams that offloading joined, or that a client filled up behind its packets, have zeros in between.
fn skip_padding(rest: &mut ByteReader<'_>) {
    let zeros = rest.rest().iter().take_while(|byte| **byte == 0).count();
    rest.take(zeros);
}
