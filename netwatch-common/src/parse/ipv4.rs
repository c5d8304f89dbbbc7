//! IPv4 (RFC 791) with options, fragments, and an authentication header before the transport.

use network_types::ip::Ipv4Hdr;

use super::ip::{HeaderAt, IpBytes, authentication_len};
use super::{Frame, Packet, ParseError, part, protocol, transport};
use crate::address::Address;
use crate::flow::{kind, malformed};

const MIN_HEADER: u32 = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, offset: u32, packet: &mut Packet) -> Result<(), ParseError> {
    let header: &Ipv4Hdr = frame.header(offset).ok_or(ParseError(malformed::IP_TRUNCATED))?;
    if header.vihl >> 4 != 4 {
        return Err(ParseError(malformed::IP_VERSION));
    }
    let mut rest = match lengths(header, offset, frame.len()) {
        Ok(rest) => rest,
        Err(error) => truncated(frame, header, offset, packet).ok_or(error)?,
    };
    packet.kind = kind::IPV4;
    set_addresses(header, packet);
    if is_fragment(header) {
        packet.fragment_id = u32::from(u16::from_be_bytes(header.id));
        packet.fragment_protocol = header.proto;
        if u16::from_be_bytes(header.frags) & FRAGMENT_OFFSET != 0 {
            transport::later_fragment(rest, packet);
            return Ok(());
        }
        if transport::needs_first_fragment(header.proto) {
            packet.fragment = part::FIRST;
        }
    }
    if packet.protocol == protocol::AUTHENTICATION {
        rest = skip_authentication(frame, rest, packet)?;
    }
    transport::parse(frame, rest, packet)
}

#[inline(always)]
pub(super) fn set_addresses(header: &Ipv4Hdr, packet: &mut Packet) {
    packet.source = Address::v4(&header.src_addr);
    packet.destination = Address::v4(&header.dst_addr);
    packet.protocol = header.proto;
}

#[inline(always)]
pub(super) fn is_fragment(header: &Ipv4Hdr) -> bool {
    u16::from_be_bytes(header.frags) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
}

/// Checks all lengths once. Afterwards the packet's own length is known to lie within the frame.
#[inline(always)]
pub(super) fn lengths(header: &Ipv4Hdr, offset: u32, frame_len: u32) -> Result<IpBytes, ParseError> {
    let available = frame_len - offset;
    let header_len = u32::from(header.vihl & 0x0f) * 4;
    if header_len < MIN_HEADER || header_len > available {
        return Err(ParseError(malformed::IPV4_HEADER_LENGTH));
    }
    let mut total = u32::from(u16::from_be_bytes(header.tot_len));
    // The field has no room for the length of buffers over 64 KiB (BIG TCP), and some offloaded
    // segments leave it empty.
    if total == 0 {
        total = available;
    }
    if total < header_len || total > available {
        return Err(ParseError(malformed::IP_LENGTH));
    }
    Ok(IpBytes { offset: offset + header_len, end: offset + total })
}

/// The bytes present of a packet that claims more, if the frame may be truncated.
#[inline(always)]
fn truncated<F: Frame>(frame: &F, header: &Ipv4Hdr, offset: u32, packet: &mut Packet) -> Option<IpBytes> {
    if !frame.may_be_truncated() {
        return None;
    }
    let rest = IpBytes { offset: offset + u32::from(header.vihl & 0x0f) * 4, end: frame.len() };
    let total = u32::from(u16::from_be_bytes(header.tot_len));
    packet.incomplete = rest.offset >= offset + MIN_HEADER && rest.offset <= rest.end && total > rest.end - offset;
    packet.incomplete.then_some(rest)
}

#[inline(always)]
fn skip_authentication<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> Result<IpBytes, ParseError> {
    let HeaderAt::Here(&[next, len]) = rest.header::<F, [u8; 2]>(frame) else {
        return Err(ParseError(malformed::TRANSPORT_TRUNCATED));
    };
    let len = authentication_len(len);
    if len > rest.len() {
        return Err(ParseError(malformed::TRANSPORT_TRUNCATED));
    }
    packet.protocol = next;
    Ok(IpBytes { offset: rest.offset + len, end: rest.end })
}
