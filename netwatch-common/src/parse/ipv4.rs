//! IPv4 (RFC 791) with options, fragments, and an authentication header before the transport.

use network_types::ip::Ipv4Hdr;

use super::ip::{Found, Rest, authentication_len};
use super::{Frame, Malformed, Packet, part, protocol, transport};
use crate::address::Address;
use crate::flow::{kind, malformed};

const MIN_HEADER: u32 = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, offset: u32, packet: &mut Packet) -> Result<(), Malformed> {
    let header: &Ipv4Hdr = frame.header(offset).ok_or(Malformed(malformed::IP_TRUNCATED))?;
    if header.vihl >> 4 != 4 {
        return Err(Malformed(malformed::IP_VERSION));
    }
    let mut rest = match lengths(header, offset, frame.len()) {
        Ok(rest) => rest,
        Err(lie) => without_its_end(frame, header, offset, packet).ok_or(lie)?,
    };
    packet.kind = kind::IPV4;
    ends(header, packet);
    if is_fragment(header) {
        packet.fragment_id = u32::from(u16::from_be_bytes(header.id));
        packet.fragment_protocol = header.proto;
        if u16::from_be_bytes(header.frags) & FRAGMENT_OFFSET != 0 {
            transport::later_fragment(rest, packet);
            return Ok(());
        }
        if transport::hides_ports(header.proto) {
            packet.fragment = part::FIRST;
        }
    }
    if packet.protocol == protocol::AUTHENTICATION {
        rest = authentication(frame, rest, packet)?;
    }
    transport::parse(frame, rest, packet)
}

#[inline(always)]
pub(super) fn ends(header: &Ipv4Hdr, packet: &mut Packet) {
    packet.source = Address::v4(&header.src_addr);
    packet.destination = Address::v4(&header.dst_addr);
    packet.protocol = header.proto;
}

#[inline(always)]
pub(super) fn is_fragment(header: &Ipv4Hdr) -> bool {
    u16::from_be_bytes(header.frags) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
}

/// Checks all lengths once; afterwards the rest is what the packet claims and the frame has.
#[inline(always)]
pub(super) fn lengths(header: &Ipv4Hdr, offset: u32, frame_len: u32) -> Result<Rest, Malformed> {
    let available = frame_len - offset;
    let header_len = u32::from(header.vihl & 0x0f) * 4;
    if header_len < MIN_HEADER || header_len > available {
        return Err(Malformed(malformed::IPV4_HEADER_LENGTH));
    }
    let mut total = u32::from(u16::from_be_bytes(header.tot_len));
    // Buffers over 64 KiB (BIG TCP) cannot say their length here, and some network cards are handed segments without it.
    if total == 0 {
        total = available;
    }
    if total < header_len || total > available {
        return Err(Malformed(malformed::IP_LENGTH));
    }
    Ok(Rest { offset: offset + header_len, end: offset + total })
}

/// What there is of a packet that claims more, where the rest may be missing.
#[inline(always)]
fn without_its_end<F: Frame>(frame: &F, header: &Ipv4Hdr, offset: u32, packet: &mut Packet) -> Option<Rest> {
    if !frame.may_lack_its_end() {
        return None;
    }
    let rest = Rest { offset: offset + u32::from(header.vihl & 0x0f) * 4, end: frame.len() };
    let total = u32::from(u16::from_be_bytes(header.tot_len));
    packet.incomplete = rest.offset >= offset + MIN_HEADER && rest.offset <= rest.end && total > rest.end - offset;
    packet.incomplete.then_some(rest)
}

#[inline(always)]
fn authentication<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Result<Rest, Malformed> {
    let Found::Here(&[next, len]) = rest.header::<F, [u8; 2]>(frame) else {
        return Err(Malformed(malformed::TRANSPORT_TRUNCATED));
    };
    let len = authentication_len(len);
    if len > rest.len() {
        return Err(Malformed(malformed::TRANSPORT_TRUNCATED));
    }
    packet.protocol = next;
    Ok(Rest { offset: rest.offset + len, end: rest.end })
}
