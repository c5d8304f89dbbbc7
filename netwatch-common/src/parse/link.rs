//! Ethernet, and headers between it and IP: VLAN tags, MPLS labels, PPPoE, FabricPath. A VLAN tag
//! stored outside the frame is not handled here, because the frame does not contain it.

use super::{Frame, Meta, Packet, ParseError, ipv4, ipv6};
use crate::flow::{housekeeping, kind, malformed};

/// Two addresses and an EtherType.
pub(super) const ETHERNET: u32 = 14;
/// Maximum number of headers between Ethernet and IP. 802.1ad allows two tags; some networks stack
/// more. A deeper packet is counted under the EtherType of the last header that was followed.
const MAX_BETWEEN: u32 = 4;

pub(super) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the EtherType that QinQ used before it was standardized.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// RFC 5332.
const MPLS: [u16; 2] = [0x8847, 0x8848];
/// The session stage (RFC 2516); the discovery stage carries no IP.
const PPPOE: u16 = 0x8864;
/// Cisco FabricPath: an Ethernet frame inside another one, after a tag of its own.
const FABRICPATH: u16 = 0x8903;
/// Smaller values are lengths of 802.3 frames.
const FIRST_ETHERTYPE: u16 = 0x0600;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> Result<(), ParseError> {
    let ethernet: &[u8; ETHERNET as usize] = header(frame, 0)?;
    parse_ethertype(frame, meta, u16::from_be_bytes([ethernet[12], ethernet[13]]), ETHERNET, packet)
}

/// Parses the payload of an EtherType at `offset`.
#[inline(always)]
pub(super) fn parse_ethertype<F: Frame>(
    frame: &F,
    meta: &Meta,
    mut ethertype: u16,
    mut offset: u32,
    packet: &mut Packet,
) -> Result<(), ParseError> {
    if ethertype != IPV4 && ethertype != IPV6 {
        (ethertype, offset) = skip_headers(frame, ethertype, offset)?;
    }
    match ethertype {
        IPV4 => ipv4::parse(frame, offset, packet),
        IPV6 => ipv6::parse(frame, meta, offset, packet),
        ARP => {
            packet.set_kind(kind::HOUSEKEEPING, housekeeping::ARP);
            Ok(())
        }
        other => {
            packet.set_kind(kind::NON_IP, 0);
            packet.source_port = if other < FIRST_ETHERTYPE { 0 } else { other };
            Ok(())
        }
    }
}

/// Skips the headers between Ethernet and IP. Returns the EtherType after them and the offset of
/// its payload.
#[inline(always)]
fn skip_headers<F: Frame>(frame: &F, mut ethertype: u16, mut offset: u32) -> Result<(u16, u32), ParseError> {
    for _ in 0..MAX_BETWEEN {
        let Some((next, len)) = next(frame, ethertype, offset)? else { break };
        ethertype = next;
        offset += len;
    }
    // From here on, the verifier follows one path for all combinations of lengths.
    Ok((ethertype, frame.forget(offset)))
}

/// The EtherType after one such header, and the header's length. `None` if `ethertype` is not such
/// a header, or if its payload is unknown.
#[inline(always)]
fn next<F: Frame>(frame: &F, ethertype: u16, offset: u32) -> Result<Option<(u16, u32)>, ParseError> {
    if TAGS.contains(&ethertype) {
        let &[_, _, high, low] = header(frame, offset)?;
        return Ok(Some((u16::from_be_bytes([high, low]), 4)));
    }
    if MPLS.contains(&ethertype) {
        let &[_, _, bottom, _, first] = header(frame, offset)?;
        return Ok(label_payload(bottom & 1 != 0, first, ethertype).map(|next| (next, 4)));
    }
    if ethertype == PPPOE {
        let &[_, code, _, _, _, _, high, low] = header(frame, offset)?;
        let next = if code == 0 { ethertype_of_ppp(u16::from_be_bytes([high, low])) } else { None };
        return Ok(next.map(|next| (next, 8)));
    }
    if ethertype == FABRICPATH {
        let &[.., high, low] = header::<F, 16>(frame, offset)?;
        return Ok(Some((u16::from_be_bytes([high, low]), 16)));
    }
    Ok(None)
}

/// The EtherType after an MPLS label. A label stack does not name its payload (RFC 3032, 2.2), so
/// IP is recognized by its version, as routers do. The control word of a pseudowire starts with 0
/// or 1 to be distinguishable (RFC 4385).
#[inline(always)]
fn label_payload(bottom: bool, first: u8, ethertype: u16) -> Option<u16> {
    match first >> 4 {
        _ if !bottom => Some(ethertype),
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// The EtherType for a PPP protocol number (RFC 1332, RFC 5072), if it is IP.
#[inline(always)]
pub(super) fn ethertype_of_ppp(protocol: u16) -> Option<u16> {
    match protocol {
        0x0021 => Some(IPV4),
        0x0057 => Some(IPV6),
        _ => None,
    }
}

/// A header, or an error if the frame is too short for its link layer.
#[inline(always)]
pub(super) fn header<F: Frame, const N: usize>(frame: &F, offset: u32) -> Result<&[u8; N], ParseError> {
    frame.header(offset).ok_or(ParseError(malformed::ETHERNET))
}
