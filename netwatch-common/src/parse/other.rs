//! Link layers that only captures have: the classifier sees nothing but Ethernet. Each leads to an EtherType or to a number of its own.

use super::link::{self, ETHERNET, IPV4, IPV6, header};
use super::{Frame, Malformed, Meta, Packet};
use crate::flow::{kind, malformed};
use crate::remainder::OTHER_ETHERTYPES;

/// What a frame starts with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Ethernet, with its VLAN tags.
    #[default]
    Ethernet,
    /// Linux cooked, version 1: 16 bytes that end in an EtherType.
    Cooked,
    /// Linux cooked, version 2: 20 bytes that begin with an EtherType.
    Cooked2,
    /// Nothing: IPv4 or IPv6, as its first four bits say.
    Ip,
    /// Nothing: IPv4.
    Ipv4,
    /// Nothing: IPv6.
    Ipv6,
    /// BSD loopback: four bytes of address family, in the byte order of whoever wrote them.
    Null,
    /// PPP (RFC 1661), with or without HDLC's address and control (RFC 1662); Cisco's HDLC where those say so.
    Ppp,
    /// PPP over Ethernet, from the PPPoE header on (RFC 2516).
    Pppoe,
    /// Per-packet information of a radio or another device, then a frame of the type that it names.
    Ppi,
    /// One that is not read here: its frames are counted as non-IP.
    Other,
}

/// What a link-layer header says about what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// An EtherType, and where what it stands for starts.
    EtherType(u16, u32),
    /// Not IP: a number of the link layer's own.
    Number(u16),
}

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) -> Result<(), Malformed> {
    match frame.link() {
        Link::Ethernet => link::parse(frame, meta, packet),
        other => match read(frame, other)? {
            Announced::EtherType(ethertype, offset) => link::behind(frame, meta, ethertype, offset, packet),
            Announced::Number(number) => {
                packet.set_named(kind::NON_IP, 0);
                packet.source_port = number;
                Ok(())
            }
        },
    }
}

/// What the frame's link layer announces; `None` if the frame is too short for it, or not what its link type promises.
pub fn announced<F: Frame>(frame: &F) -> Option<Announced> {
    read(frame, frame.link()).ok()
}

fn read<F: Frame>(frame: &F, link: Link) -> Result<Announced, Malformed> {
    match link {
        Link::Ethernet => ethernet(frame, 0),
        Link::Cooked => {
            let &[.., high, low] = header::<F, 16>(frame, 0)?;
            Ok(Announced::EtherType(u16::from_be_bytes([high, low]), 16))
        }
        Link::Cooked2 => {
            let &[high, low, ..] = header::<F, 20>(frame, 0)?;
            Ok(Announced::EtherType(u16::from_be_bytes([high, low]), 20))
        }
        Link::Ip => ip(frame, 0),
        Link::Ipv4 => Ok(Announced::EtherType(IPV4, 0)),
        Link::Ipv6 => Ok(Announced::EtherType(IPV6, 0)),
        Link::Null => null(frame),
        Link::Ppp => ppp(frame),
        Link::Pppoe => pppoe(frame),
        Link::Ppi => ppi(frame),
        Link::Other => Ok(Announced::Number(OTHER_ETHERTYPES)),
    }
}

fn ethernet<F: Frame>(frame: &F, offset: u32) -> Result<Announced, Malformed> {
    let &[.., high, low] = header::<F, { ETHERNET as usize }>(frame, offset)?;
    Ok(Announced::EtherType(u16::from_be_bytes([high, low]), offset + ETHERNET))
}

fn ip<F: Frame>(frame: &F, offset: u32) -> Result<Announced, Malformed> {
    let &[first] = header(frame, offset)?;
    match first >> 4 {
        4 => Ok(Announced::EtherType(IPV4, offset)),
        6 => Ok(Announced::EtherType(IPV6, offset)),
        _ => Err(Malformed(malformed::IP_VERSION)),
    }
}

/// The family of IPv4 is the same everywhere; that of IPv6 is Linux's, NetBSD's and OpenBSD's, FreeBSD's, or Darwin's.
fn null<F: Frame>(frame: &F) -> Result<Announced, Malformed> {
    let family = u32::from_be_bytes(*header(frame, 0)?);
    let family = if family > u32::from(u16::MAX) { family.swap_bytes() } else { family };
    Ok(match family {
        2 => Announced::EtherType(IPV4, 4),
        10 | 24 | 28 | 30 => Announced::EtherType(IPV6, 4),
        other => Announced::Number(other as u16),
    })
}

/// RFC 1662: address and control come first unless they were negotiated away. Cisco's HDLC has other addresses there, and an
/// EtherType behind them.
fn ppp<F: Frame>(frame: &F) -> Result<Announced, Malformed> {
    const ALL_STATIONS: u8 = 0xff;
    const CISCO_UNICAST: u8 = 0x0f;
    const CISCO_MULTICAST: u8 = 0x8f;
    let &[first] = header(frame, 0)?;
    match first {
        ALL_STATIONS => ppp_protocol(frame, 2),
        CISCO_UNICAST | CISCO_MULTICAST => {
            let &[_, _, high, low] = header(frame, 0)?;
            Ok(Announced::EtherType(u16::from_be_bytes([high, low]), 4))
        }
        _ => ppp_protocol(frame, 0),
    }
}

/// RFC 1661, 6.5: a protocol number whose first byte is odd has been compressed to that byte.
fn ppp_protocol<F: Frame>(frame: &F, offset: u32) -> Result<Announced, Malformed> {
    let &[first] = header(frame, offset)?;
    let (protocol, end) = if first & 1 == 1 {
        (first.into(), offset + 1)
    } else {
        (u16::from_be_bytes(*header(frame, offset)?), offset + 2)
    };
    Ok(match link::of_ppp(protocol) {
        Some(ethertype) => Announced::EtherType(ethertype, end),
        None => Announced::Number(protocol),
    })
}

/// RFC 2516: only code 0 carries PPP, the others make and end sessions.
fn pppoe<F: Frame>(frame: &F) -> Result<Announced, Malformed> {
    const DISCOVERY: u16 = 0x8863;
    let &[_, code, ..] = header::<F, 6>(frame, 0)?;
    if code == 0 { ppp_protocol(frame, 6) } else { Ok(Announced::Number(DISCOVERY)) }
}

/// Little-endian: version, flags, length of all this, and the number of the link type that follows.
fn ppi<F: Frame>(frame: &F) -> Result<Announced, Malformed> {
    let &[_, _, a, b, c, d, e, f] = header(frame, 0)?;
    let offset = u32::from(u16::from_le_bytes([a, b]));
    match u32::from_le_bytes([c, d, e, f]) {
        1 => ethernet(frame, offset),
        12 | 14 | 101 => ip(frame, offset),
        _ => Ok(Announced::Number(OTHER_ETHERTYPES)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Captured, Linked};
    use super::*;

    fn read(link: Link, bytes: &[u8]) -> Option<Announced> {
        announced(&Linked { captured: Captured::whole(bytes), link })
    }

    fn padded(start: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..start.len()].copy_from_slice(start);
        bytes
    }

    #[test]
    fn each_link_type_leads_to_ip() {
        let mut cooked = padded(&[0, 0, 0, 1, 0, 6]);
        cooked[14..16].copy_from_slice(&[0x86, 0xdd]);
        let mut ppi = padded(&[0, 0, 8, 0, 1, 0, 0, 0]);
        ppi[20..22].copy_from_slice(&[8, 0]);
        let table: [(Link, &[u8], Announced); 19] = [
            (Link::Cooked, &cooked, Announced::EtherType(IPV6, 16)),
            (Link::Cooked2, &padded(&[8, 0]), Announced::EtherType(IPV4, 20)),
            (Link::Ip, &[0x45], Announced::EtherType(IPV4, 0)),
            (Link::Ip, &[0x60], Announced::EtherType(IPV6, 0)),
            (Link::Ipv4, &[], Announced::EtherType(IPV4, 0)),
            (Link::Ipv6, &[], Announced::EtherType(IPV6, 0)),
            (Link::Null, &[2, 0, 0, 0], Announced::EtherType(IPV4, 4)),
            (Link::Null, &[0, 0, 0, 2], Announced::EtherType(IPV4, 4)),
            (Link::Null, &[30, 0, 0, 0], Announced::EtherType(IPV6, 4)),
            (Link::Null, &[0, 0, 0, 7], Announced::Number(7)),
            (Link::Ppp, &[0xff, 3, 0, 0x21], Announced::EtherType(IPV4, 4)),
            (Link::Ppp, &[0, 0x57], Announced::EtherType(IPV6, 2)),
            (Link::Ppp, &[0x21], Announced::EtherType(IPV4, 1)),
            (Link::Ppp, &[0x0f, 0, 8, 0], Announced::EtherType(IPV4, 4)),
            (Link::Ppp, &[0xff, 3, 0xc0, 0x21], Announced::Number(0xc021)),
            (Link::Pppoe, &[0x11, 0, 0, 1, 0, 9, 0, 0x21], Announced::EtherType(IPV4, 8)),
            (Link::Pppoe, &[0x11, 9, 0, 0, 0, 9], Announced::Number(0x8863)),
            (Link::Ppi, &ppi, Announced::EtherType(IPV4, 22)),
            (Link::Other, &[], Announced::Number(OTHER_ETHERTYPES)),
        ];
        for (link, bytes, expected) in table {
            assert_eq!(read(link, bytes), Some(expected), "{link:?} {bytes:x?}");
        }
    }

    #[test]
    fn what_is_too_short_for_its_link_layer_announces_nothing() {
        let table: [(Link, &[u8]); 9] = [
            (Link::Ethernet, &[0; 13]),
            (Link::Cooked, &[0; 15]),
            (Link::Cooked2, &[0; 19]),
            (Link::Ip, &[]),
            (Link::Ip, &[0x10]),
            (Link::Null, &[2, 0, 0]),
            (Link::Ppp, &[0xff, 3, 0]),
            (Link::Pppoe, &[0x11, 0, 0, 1, 0]),
            (Link::Ppi, &[0, 0, 8, 0, 1, 0, 0, 0, 0]),
        ];
        for (link, bytes) in table {
            assert_eq!(read(link, bytes), None, "{link:?} {bytes:x?}");
        }
    }
}
