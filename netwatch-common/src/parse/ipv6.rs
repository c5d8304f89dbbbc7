//! IPv6 (RFC 8200) with its extension headers in any order, and fragments.

use network_types::ip::Ipv6Hdr;

use super::ip::{Found, Rest, authentication_len};
use super::{Fragment, Frame, Malformed, Meta, Packet, protocol, transport};
use crate::address::Address;
use crate::flow::{kind, malformed};

const HEADER: u32 = 40;
/// RFC 8200 expects at most seven; a chain that is longer is taken for an attack on parsers.
const MAX_EXTENSIONS: u32 = 8;
const MORE_FRAGMENTS: u16 = 1;
const FRAGMENT_OFFSET: u16 = 0xfff8;
const FRAGMENT_HEADER: u32 = 8;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, offset: u32, packet: &mut Packet) -> Result<(), Malformed> {
    let header: &Ipv6Hdr = frame.header(offset).ok_or(Malformed(malformed::IP_TRUNCATED))?;
    if header.vcf[0] >> 4 != 6 {
        return Err(Malformed(malformed::IP_VERSION));
    }
    let mut rest = lengths(header, meta, offset, frame.len())?;
    packet.kind = kind::IPV6;
    packet.source = Address::v6(&header.src_addr);
    packet.destination = Address::v6(&header.dst_addr);
    packet.protocol = header.next_hdr;
    if is_extension(header.next_hdr) {
        rest = extensions(frame, rest, packet)?;
        if packet.fragment == Fragment::Later {
            return Ok(());
        }
    }
    transport::parse(frame, rest, packet)
}

#[inline(always)]
fn lengths(header: &Ipv6Hdr, meta: &Meta, offset: u32, frame_len: u32) -> Result<Rest, Malformed> {
    let available = frame_len - offset;
    if available < HEADER {
        return Err(Malformed(malformed::IP_TRUNCATED));
    }
    let mut payload = u32::from(u16::from_be_bytes(header.payload_len));
    // Buffers over 64 KiB (BIG TCP) and jumbograms (RFC 2675) say their length in a hop-by-hop option, or nowhere.
    if payload == 0 && (meta.gso_size != 0 || header.next_hdr == protocol::HOP_BY_HOP) {
        payload = available - HEADER;
    }
    if payload > available - HEADER {
        return Err(Malformed(malformed::IP_LENGTH));
    }
    Ok(Rest { offset: offset + HEADER, end: offset + HEADER + payload })
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

/// Follows the extension headers. Stops at a later fragment: what follows its header is the middle of something.
#[inline(always)]
fn extensions<F: Frame>(frame: &F, mut rest: Rest, packet: &mut Packet) -> Result<Rest, Malformed> {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(packet.protocol) {
            return Ok(rest);
        }
        if packet.protocol == protocol::FRAGMENT {
            rest = fragment(frame, rest, packet)?;
            if packet.fragment == Fragment::Later {
                return Ok(rest);
            }
            continue;
        }
        rest = extension(frame, rest, packet)?;
    }
    if is_extension(packet.protocol) { Err(Malformed(malformed::EXTENSION_HEADER)) } else { Ok(rest) }
}

#[inline(always)]
fn extension<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Result<Rest, Malformed> {
    let Found::Here(&[next, len]) = rest.header::<F, [u8; 2]>(frame) else {
        return Err(Malformed(malformed::EXTENSION_HEADER));
    };
    let len = if packet.protocol == protocol::AUTHENTICATION {
        authentication_len(len)
    } else {
        (u32::from(len) + 1) * 8
    };
    if len > rest.len() {
        return Err(Malformed(malformed::EXTENSION_HEADER));
    }
    packet.protocol = next;
    Ok(Rest { offset: rest.offset + len, end: rest.end })
}

#[inline(always)]
fn fragment<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Result<Rest, Malformed> {
    let Found::Here(header) = rest.header::<F, [u8; FRAGMENT_HEADER as usize]>(frame) else {
        return Err(Malformed(malformed::EXTENSION_HEADER));
    };
    let rest = Rest { offset: rest.offset + FRAGMENT_HEADER, end: rest.end };
    let flags = u16::from_be_bytes([header[2], header[3]]);
    packet.protocol = header[0];
    // RFC 6946: offset 0 and no more fragments is a whole packet.
    if flags & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == 0 {
        return Ok(rest);
    }
    packet.fragment_id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    packet.fragment_protocol = header[0];
    if flags & FRAGMENT_OFFSET == 0 {
        packet.fragment = Fragment::First;
    } else {
        transport::later_fragment(rest, packet);
    }
    Ok(rest)
}
