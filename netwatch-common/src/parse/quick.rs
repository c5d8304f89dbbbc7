//! The parser of the short path, for the most common packets: unfragmented TCP or UDP over IPv4
//! without options or over IPv6 without extension headers, without a VLAN tag in the frame. It
//! consists of the same functions as the full parser, so that both give the same result (tests
//! compare them), and it declines everything that needs more.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{Frame, Meta, Packet, ipv4, ipv6, link, transport};
use crate::flow::kind;

/// Version 4, header length 20 bytes.
const PLAIN_IPV4: u8 = 0x45;

/// IP versions that [`quick`] distinguishes, so that the rest of the short path is compiled for
/// each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4 without a tag.
    V4,
    /// IPv6 without a tag.
    V6,
}

/// Parses such a frame into `packet`, which must be empty. Returns false for other frames; `packet`
/// is then invalid.
#[inline(always)]
pub fn quick<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> bool {
    ip_family(frame).is_some_and(|family| quick_of(family, frame, meta, packet))
}

/// The IP version after the Ethernet header, if it is IP.
#[inline(always)]
pub fn ip_family<F: Frame>(frame: &F) -> Option<IpFamily> {
    let ethernet = frame.header::<[u8; link::ETHERNET as usize]>(0)?;
    match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
        link::IPV4 => Some(IpFamily::V4),
        link::IPV6 => Some(IpFamily::V6),
        _ => None,
    }
}

/// As [`quick`], for a frame of a known IP version.
#[inline(always)]
pub fn quick_of<F: Frame>(family: IpFamily, frame: &F, meta: &Meta, packet: &mut Packet) -> bool {
    match family {
        IpFamily::V4 => quick_ipv4(frame, packet),
        IpFamily::V6 => quick_ipv6(frame, meta, packet),
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
    ipv4::set_addresses(header, packet);
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
    ipv6::set_addresses(header, packet);
    transport::quick(frame, rest, packet)
}
