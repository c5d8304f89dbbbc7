//! Ethernet, and what may stand between it and IP: VLAN tags, MPLS labels, PPPoE, FabricPath. The tag beside the frame needs nothing
//! here: the frame starts without it.

use super::{Frame, Malformed, Meta, Packet, ipv4, ipv6};
use crate::flow::{housekeeping, kind, malformed};

/// Two addresses and an EtherType.
pub(super) const ETHERNET: u32 = 14;
/// 802.1ad allows two tags; some networks stack more. What lies deeper is counted under the EtherType of the header it is behind.
const MAX_BETWEEN: u32 = 4;

pub(super) const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the number that QinQ used before the standard.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// RFC 5332.
const MPLS: [u16; 2] = [0x8847, 0x8848];
/// The session stage (RFC 2516); the discovery stage carries no IP.
const PPPOE: u16 = 0x8864;
/// Cisco's: an Ethernet frame in another, behind a tag of its own.
const FABRICPATH: u16 = 0x8903;
/// Smaller values are lengths of 802.3 frames.
const FIRST_ETHERTYPE: u16 = 0x0600;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> Result<(), Malformed> {
    let ethernet: &[u8; ETHERNET as usize] = header(frame, 0)?;
    behind(frame, meta, u16::from_be_bytes([ethernet[12], ethernet[13]]), ETHERNET, packet)
}

/// Reads what an EtherType announces at `offset`.
#[inline(always)]
pub(super) fn behind<F: Frame>(
    frame: &F,
    meta: &Meta,
    mut ethertype: u16,
    mut offset: u32,
    packet: &mut Packet,
) -> Result<(), Malformed> {
    if ethertype != IPV4 && ethertype != IPV6 {
        (ethertype, offset) = between(frame, ethertype, offset)?;
    }
    match ethertype {
        IPV4 => ipv4::parse(frame, offset, packet),
        IPV6 => ipv6::parse(frame, meta, offset, packet),
        ARP => {
            packet.set_named(kind::HOUSEKEEPING, housekeeping::ARP);
            Ok(())
        }
        other => {
            packet.set_named(kind::NON_IP, 0);
            packet.source_port = if other < FIRST_ETHERTYPE { 0 } else { other };
            Ok(())
        }
    }
}

/// Follows the headers between Ethernet and IP: the EtherType behind them, and where what it announces starts.
#[inline(always)]
fn between<F: Frame>(frame: &F, mut ethertype: u16, mut offset: u32) -> Result<(u16, u32), Malformed> {
    for _ in 0..MAX_BETWEEN {
        let Some((next, len)) = next(frame, ethertype, offset)? else { break };
        ethertype = next;
        offset += len;
    }
    // All combinations of lengths are the same to the verifier from here on.
    Ok((ethertype, frame.forget(offset)))
}

/// The EtherType behind one such header, and its length. `None` if it is none, or if it is not known what lies behind it.
#[inline(always)]
fn next<F: Frame>(frame: &F, ethertype: u16, offset: u32) -> Result<Option<(u16, u32)>, Malformed> {
    if TAGS.contains(&ethertype) {
        let &[_, _, high, low] = header(frame, offset)?;
        return Ok(Some((u16::from_be_bytes([high, low]), 4)));
    }
    if MPLS.contains(&ethertype) {
        let &[_, _, bottom, _, first] = header(frame, offset)?;
        return Ok(behind_label(bottom & 1 != 0, first, ethertype).map(|next| (next, 4)));
    }
    if ethertype == PPPOE {
        let &[_, code, _, _, _, _, high, low] = header(frame, offset)?;
        let announced = if code == 0 { of_ppp(u16::from_be_bytes([high, low])) } else { None };
        return Ok(announced.map(|next| (next, 8)));
    }
    if ethertype == FABRICPATH {
        let &[.., high, low] = header::<F, 16>(frame, offset)?;
        return Ok(Some((u16::from_be_bytes([high, low]), 16)));
    }
    Ok(None)
}

/// RFC 3032, 2.2: nothing says what a label stack carries. As routers do, IP is known by its version; a pseudowire's control word
/// starts with zero or one so as not to be taken for it (RFC 4385).
#[inline(always)]
fn behind_label(bottom: bool, first: u8, ethertype: u16) -> Option<u16> {
    match first >> 4 {
        _ if !bottom => Some(ethertype),
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// The EtherType for one of PPP's own numbers (RFC 1332, RFC 5072), if it is IP.
#[inline(always)]
pub(super) fn of_ppp(protocol: u16) -> Option<u16> {
    match protocol {
        0x0021 => Some(IPV4),
        0x0057 => Some(IPV6),
        _ => None,
    }
}

/// All bytes of a header, or the frame is too short for its link layer.
#[inline(always)]
pub(super) fn header<F: Frame, const N: usize>(frame: &F, offset: u32) -> Result<&[u8; N], Malformed> {
    frame.header(offset).ok_or(Malformed(malformed::ETHERNET))
}
