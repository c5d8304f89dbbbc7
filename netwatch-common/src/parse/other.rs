//! Link layers of capture files; programs in the kernel handle Ethernet and IP. Each leads to an
//! EtherType or to a protocol number of its own.

use super::link::{self, ETHERNET, IPV4, IPV6, header};
use super::{Frame, Meta, Packet, ParseError};
use crate::flow::{kind, malformed};
use crate::remainder::OTHER_ETHERTYPES;

/// The link layer a frame starts with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet, with its VLAN tags.
    #[default]
    Ethernet,
    /// Linux cooked capture, version 1: 16 bytes that end with an EtherType.
    Cooked,
    /// Linux cooked capture, version 2: 20 bytes that start with an EtherType.
    Cooked2,
    /// None: IPv4 or IPv6, according to the first four bits.
    Ip,
    /// None: IPv4.
    Ipv4,
    /// None: IPv6.
    Ipv6,
    /// BSD loopback: four bytes of address family, in the byte order of the capturing machine.
    Null,
    /// PPP (RFC 1661), with or without HDLC's address and control bytes (RFC 1662), or Cisco HDLC.
    Ppp,
    /// PPP over Ethernet, starting with the PPPoE header (RFC 2516).
    Pppoe,
    /// Per-packet information of a radio or another device, then a frame of a type that it names.
    Ppi,
    /// Not supported: its frames are counted as non-IP.
    Other,
}

/// The payload of a link layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPayload {
    /// An EtherType, and the offset of its payload in bytes.
    EtherType(u16, u32),
    /// Not IP: a protocol number of the link layer.
    Number(u16),
}

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> Result<(), ParseError> {
    match frame.link() {
        LinkType::Ethernet => link::parse(frame, meta, packet),
        LinkType::Ip => link::parse_ethertype(frame, meta, ip_ethertype(frame, 0)?, 0, packet),
        other => match read(frame, other)? {
            LinkPayload::EtherType(ethertype, offset) => link::parse_ethertype(frame, meta, ethertype, offset, packet),
            LinkPayload::Number(number) => {
                packet.set_kind(kind::NON_IP, 0);
                packet.source_port = number;
                Ok(())
            }
        },
    }
}

/// The payload of the frame's link layer; `None` if the frame is too short or does not match its
/// link type.
pub fn link_payload<F: Frame>(frame: &F) -> Option<LinkPayload> {
    read(frame, frame.link()).ok()
}

fn read<F: Frame>(frame: &F, link: LinkType) -> Result<LinkPayload, ParseError> {
    match link {
        LinkType::Ethernet => ethernet(frame, 0),
        LinkType::Cooked => {
            let &[.., high, low] = header::<F, 16>(frame, 0)?;
            Ok(LinkPayload::EtherType(u16::from_be_bytes([high, low]), 16))
        }
        LinkType::Cooked2 => {
            let &[high, low, ..] = header::<F, 20>(frame, 0)?;
            Ok(LinkPayload::EtherType(u16::from_be_bytes([high, low]), 20))
        }
        LinkType::Ip => ip(frame, 0),
        LinkType::Ipv4 => Ok(LinkPayload::EtherType(IPV4, 0)),
        LinkType::Ipv6 => Ok(LinkPayload::EtherType(IPV6, 0)),
        LinkType::Null => bsd_loopback(frame),
        LinkType::Ppp => ppp(frame),
        LinkType::Pppoe => pppoe(frame),
        LinkType::Ppi => ppi(frame),
        LinkType::Other => Ok(LinkPayload::Number(OTHER_ETHERTYPES)),
    }
}

fn ethernet<F: Frame>(frame: &F, offset: u32) -> Result<LinkPayload, ParseError> {
    let &[.., high, low] = header::<F, { ETHERNET as usize }>(frame, offset)?;
    Ok(LinkPayload::EtherType(u16::from_be_bytes([high, low]), offset + ETHERNET))
}

fn ip<F: Frame>(frame: &F, offset: u32) -> Result<LinkPayload, ParseError> {
    Ok(LinkPayload::EtherType(ip_ethertype(frame, offset)?, offset))
}

/// The EtherType that a frame without a link layer would have.
#[inline(always)]
fn ip_ethertype<F: Frame>(frame: &F, offset: u32) -> Result<u16, ParseError> {
    let &[first] = header(frame, offset)?;
    match first >> 4 {
        4 => Ok(IPV4),
        6 => Ok(IPV6),
        _ => Err(ParseError(malformed::IP_VERSION)),
    }
}

/// The number of IPv4's address family is the same everywhere. IPv6 has four: Linux, NetBSD and
/// OpenBSD, FreeBSD, Darwin.
fn bsd_loopback<F: Frame>(frame: &F) -> Result<LinkPayload, ParseError> {
    let family = u32::from_be_bytes(*header(frame, 0)?);
    let family = if family > u32::from(u16::MAX) { family.swap_bytes() } else { family };
    Ok(match family {
        2 => LinkPayload::EtherType(IPV4, 4),
        10 | 24 | 28 | 30 => LinkPayload::EtherType(IPV6, 4),
        other => LinkPayload::Number(other as u16),
    })
}

/// Address and control bytes come first, unless the peers have agreed to omit them (RFC 1662).
/// Cisco HDLC has other addresses there, and an EtherType after them.
fn ppp<F: Frame>(frame: &F) -> Result<LinkPayload, ParseError> {
    const ALL_STATIONS: u8 = 0xff;
    const CISCO_UNICAST: u8 = 0x0f;
    const CISCO_MULTICAST: u8 = 0x8f;
    let &[first] = header(frame, 0)?;
    match first {
        ALL_STATIONS => ppp_protocol(frame, 2),
        CISCO_UNICAST | CISCO_MULTICAST => {
            let &[_, _, high, low] = header(frame, 0)?;
            Ok(LinkPayload::EtherType(u16::from_be_bytes([high, low]), 4))
        }
        _ => ppp_protocol(frame, 0),
    }
}

/// A protocol number with an odd first byte is compressed to that byte (RFC 1661, 6.5).
fn ppp_protocol<F: Frame>(frame: &F, offset: u32) -> Result<LinkPayload, ParseError> {
    let &[first] = header(frame, offset)?;
    let (protocol, end) = if first & 1 == 1 {
        (first.into(), offset + 1)
    } else {
        (u16::from_be_bytes(*header(frame, offset)?), offset + 2)
    };
    Ok(match link::ethertype_of_ppp(protocol) {
        Some(ethertype) => LinkPayload::EtherType(ethertype, end),
        None => LinkPayload::Number(protocol),
    })
}

/// Only code 0 carries PPP; other codes establish and terminate sessions (RFC 2516).
fn pppoe<F: Frame>(frame: &F) -> Result<LinkPayload, ParseError> {
    const DISCOVERY: u16 = 0x8863;
    let &[_, code, ..] = header::<F, 6>(frame, 0)?;
    if code == 0 { ppp_protocol(frame, 6) } else { Ok(LinkPayload::Number(DISCOVERY)) }
}

/// Little-endian: version, flags, length of the header, and number of the link type that follows.
fn ppi<F: Frame>(frame: &F) -> Result<LinkPayload, ParseError> {
    let &[_, _, a, b, c, d, e, f] = header(frame, 0)?;
    let offset = u32::from(u16::from_le_bytes([a, b]));
    match u32::from_le_bytes([c, d, e, f]) {
        1 => ethernet(frame, offset),
        12 | 14 | 101 => ip(frame, offset),
        _ => Ok(LinkPayload::Number(OTHER_ETHERTYPES)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Captured, Linked};
    use super::*;

    fn read(link: LinkType, bytes: &[u8]) -> Option<LinkPayload> {
        link_payload(&Linked { captured: Captured::whole(bytes), link })
    }

    fn padded(start: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..start.len()].copy_from_slice(start);
        bytes
    }

    #[test]
    fn each_link_type_leads_to_its_payload() {
        let mut cooked = padded(&[0, 0, 0, 1, 0, 6]);
        cooked[14..16].copy_from_slice(&[0x86, 0xdd]);
        let mut ppi = padded(&[0, 0, 8, 0, 1, 0, 0, 0]);
        ppi[20..22].copy_from_slice(&[8, 0]);
        let table: [(LinkType, &[u8], LinkPayload); 19] = [
            (LinkType::Cooked, &cooked, LinkPayload::EtherType(IPV6, 16)),
            (LinkType::Cooked2, &padded(&[8, 0]), LinkPayload::EtherType(IPV4, 20)),
            (LinkType::Ip, &[0x45], LinkPayload::EtherType(IPV4, 0)),
            (LinkType::Ip, &[0x60], LinkPayload::EtherType(IPV6, 0)),
            (LinkType::Ipv4, &[], LinkPayload::EtherType(IPV4, 0)),
            (LinkType::Ipv6, &[], LinkPayload::EtherType(IPV6, 0)),
            (LinkType::Null, &[2, 0, 0, 0], LinkPayload::EtherType(IPV4, 4)),
            (LinkType::Null, &[0, 0, 0, 2], LinkPayload::EtherType(IPV4, 4)),
            (LinkType::Null, &[30, 0, 0, 0], LinkPayload::EtherType(IPV6, 4)),
            (LinkType::Null, &[0, 0, 0, 7], LinkPayload::Number(7)),
            (LinkType::Ppp, &[0xff, 3, 0, 0x21], LinkPayload::EtherType(IPV4, 4)),
            (LinkType::Ppp, &[0, 0x57], LinkPayload::EtherType(IPV6, 2)),
            (LinkType::Ppp, &[0x21], LinkPayload::EtherType(IPV4, 1)),
            (LinkType::Ppp, &[0x0f, 0, 8, 0], LinkPayload::EtherType(IPV4, 4)),
            (LinkType::Ppp, &[0xff, 3, 0xc0, 0x21], LinkPayload::Number(0xc021)),
            (LinkType::Pppoe, &[0x11, 0, 0, 1, 0, 9, 0, 0x21], LinkPayload::EtherType(IPV4, 8)),
            (LinkType::Pppoe, &[0x11, 9, 0, 0, 0, 9], LinkPayload::Number(0x8863)),
            (LinkType::Ppi, &ppi, LinkPayload::EtherType(IPV4, 22)),
            (LinkType::Other, &[], LinkPayload::Number(OTHER_ETHERTYPES)),
        ];
        for (link, bytes, expected) in table {
            assert_eq!(read(link, bytes), Some(expected), "{link:?} {bytes:x?}");
        }
    }

    #[test]
    fn frames_too_short_for_their_link_layer_have_no_payload() {
        let table: [(LinkType, &[u8]); 9] = [
            (LinkType::Ethernet, &[0; 13]),
            (LinkType::Cooked, &[0; 15]),
            (LinkType::Cooked2, &[0; 19]),
            (LinkType::Ip, &[]),
            (LinkType::Ip, &[0x10]),
            (LinkType::Null, &[2, 0, 0]),
            (LinkType::Ppp, &[0xff, 3, 0]),
            (LinkType::Pppoe, &[0x11, 0, 0, 1, 0]),
            (LinkType::Ppi, &[0, 0, 8, 0, 1, 0, 0, 0, 0]),
        ];
        for (link, bytes) in table {
            assert_eq!(read(link, bytes), None, "{link:?} {bytes:x?}");
        }
    }
}
