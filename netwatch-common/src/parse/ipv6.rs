//! IPv6 (RFC 8200) with its extension headers in any order, and fragments.

use network_types::ip::Ipv6Hdr;

use super::ip::{HeaderAt, IpBytes, authentication_len};
use super::{Frame, Meta, Packet, ParseError, part, protocol, transport};
use crate::address::Address;
use crate::flow::{kind, malformed};

const HEADER: u32 = 40;
/// RFC 8200 expects at most seven; a longer chain is treated as an attack on parsers.
const MAX_EXTENSIONS: u32 = 8;
const MORE_FRAGMENTS: u16 = 1;
const FRAGMENT_OFFSET: u16 = 0xfff8;
/// Length of the fragment header and minimum length of the others.
const MIN_EXTENSION: u32 = 8;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, offset: u32, packet: &mut Packet) -> Result<(), ParseError> {
    let header: &Ipv6Hdr = frame.header(offset).ok_or(ParseError(malformed::IP_TRUNCATED))?;
    if header.vcf[0] >> 4 != 6 {
        return Err(ParseError(malformed::IP_VERSION));
    }
    let mut rest = match lengths(header, meta, offset, frame.len()) {
        Ok(rest) => rest,
        Err(error) => truncated(frame, offset, packet).ok_or(error)?,
    };
    packet.kind = kind::IPV6;
    set_addresses(header, packet);
    if is_extension(header.next_hdr) {
        match skip_extensions(frame, rest, packet)? {
            Some(transport) => rest = transport,
            None => return Ok(()),
        }
    }
    transport::parse(frame, rest, packet)
}

#[inline(always)]
pub(super) fn set_addresses(header: &Ipv6Hdr, packet: &mut Packet) {
    packet.source = Address::v6(&header.src_addr);
    packet.destination = Address::v6(&header.dst_addr);
    packet.protocol = header.next_hdr;
}

#[inline(always)]
pub(super) fn lengths(header: &Ipv6Hdr, meta: &Meta, offset: u32, frame_len: u32) -> Result<IpBytes, ParseError> {
    let available = frame_len - offset;
    if available < HEADER {
        return Err(ParseError(malformed::IP_TRUNCATED));
    }
    let mut payload = u32::from(u16::from_be_bytes(header.payload_len));
    // Buffers over 64 KiB (BIG TCP) and jumbograms (RFC 2675) have their length in a hop-by-hop
    // option, or nowhere.
    if payload == 0 && (meta.gso_size != 0 || header.next_hdr == protocol::HOP_BY_HOP) {
        payload = available - HEADER;
    }
    if payload > available - HEADER {
        return Err(ParseError(malformed::IP_LENGTH));
    }
    Ok(IpBytes { offset: offset + HEADER, end: offset + HEADER + payload })
}

/// The bytes present of a packet that claims more, if the frame may be truncated. No other length
/// error is possible.
#[inline(always)]
fn truncated<F: Frame>(frame: &F, offset: u32, packet: &mut Packet) -> Option<IpBytes> {
    packet.incomplete = frame.may_be_truncated() && offset + HEADER <= frame.len();
    packet.incomplete.then_some(IpBytes { offset: offset + HEADER, end: frame.len() })
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

/// Follows the extension headers to the transport header. A later fragment has none: it starts in
/// the middle of a datagram.
#[inline(always)]
fn skip_extensions<F: Frame>(frame: &F, mut rest: IpBytes, packet: &mut Packet) -> Result<Option<IpBytes>, ParseError> {
    for _ in 0..MAX_EXTENSIONS {
        rest.offset = frame.forget(rest.offset);
        // Every extension header has at least eight bytes.
        let HeaderAt::Here(header) = rest.header::<F, [u8; MIN_EXTENSION as usize]>(frame) else {
            return Err(ParseError(malformed::EXTENSION_HEADER));
        };
        let protocol = packet.protocol;
        let len = extension_len(protocol, header[1]);
        if len > rest.len() {
            return Err(ParseError(malformed::EXTENSION_HEADER));
        }
        rest.offset += len;
        packet.protocol = header[0];
        if protocol == protocol::FRAGMENT && is_later_fragment(header, packet) {
            transport::later_fragment(rest, packet);
            return Ok(None);
        }
        if !is_extension(packet.protocol) {
            return Ok(Some(rest));
        }
    }
    Err(ParseError(malformed::EXTENSION_HEADER))
}

#[inline(always)]
fn extension_len(protocol: u8, len: u8) -> u32 {
    match protocol {
        protocol::FRAGMENT => MIN_EXTENSION,
        protocol::AUTHENTICATION => authentication_len(len),
        _ => (u32::from(len) + 1) * 8,
    }
}

/// Parses the fragment header. Offset 0 without more fragments is a whole packet (RFC 6946).
#[inline(always)]
fn is_later_fragment(header: &[u8; MIN_EXTENSION as usize], packet: &mut Packet) -> bool {
    let flags = u16::from_be_bytes([header[2], header[3]]);
    if flags & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
        packet.fragment_id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        packet.fragment_protocol = header[0];
        packet.fragment = part::FIRST;
    }
    flags & FRAGMENT_OFFSET != 0
}
