//! The short way for what most packets are: TCP or UDP, whole, over IPv4 without options or IPv6 without extension headers, with no tag in the
//! frame. Made of the same pieces as the long way, so both read the same in a packet (tests compare them); it only
//! declines what they would have more to do for.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{Frame, Meta, Packet, ipv4, ipv6, link, transport};
use crate::flow::kind;

/// Version 4, header of 20 bytes.
const PLAIN_IPV4: u8 = 0x45;

/// What [`quick`] distinguishes, so that the rest can be compiled for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 without a tag.
    V4,
    /// IPv6 without a tag.
    V6,
}

/// Reads the packet, which is empty before, if it is one of those. If not, false, and `packet` means nothing.
#[inline(always)]
pub fn quick<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> bool {
    family(frame).is_some_and(|family| quick_of(family, frame, meta, packet))
}

/// What lies behind the link's header, if it may be one of those.
#[inline(always)]
pub fn family<F: Frame>(frame: &F) -> Option<Family> {
    let ethernet = frame.header::<[u8; link::ETHERNET as usize]>(0)?;
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        link::IPV4 => Some(Family::V4),
        link::IPV6 => Some(Family::V6),
        _ => None,
    }
}

/// As [`quick`], for a frame of this family.
#[inline(always)]
pub fn quick_of<F: Frame>(family: Family, frame: &F, meta: &Meta, packet: &mut Packet) -> bool {
    match family {
        Family::V4 => quick_ipv4(frame, packet),
        Family::V6 => quick_ipv6(frame, meta, packet),
    }
}

#[inline(always)]
fn quick_ipv4<F: Frame>(frame: &F, packet: &mut Packet) -> bool {
    let Some(header) = frame.header::<Ipv4Hdr>(link::ETHERNET) else { return false };
    if header.vihl != PLAIN_IPV4 || ipv4::is_fragment(header) {
        return false;
    }
    let Ok(rest) = ipv4::lengths(header, link::ETHERNET, frame.len()) else { return false };
    packet.kind = kind::IPV4;
    ipv4::ends(header, packet);
    transport::quick(frame, rest, packet)
}

#[inline(always)]
fn quick_ipv6<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> bool {
    let Some(header) = frame.header::<Ipv6Hdr>(link::ETHERNET) else { return false };
    if header.vcf[0] >> 4 != 6 {
        return false;
    }
    let Ok(rest) = ipv6::lengths(header, meta, link::ETHERNET, frame.len()) else { return false };
    packet.kind = kind::IPV6;
    ipv6::ends(header, packet);
    transport::quick(frame, rest, packet)
}
