//! The Ethernet and IP headers of a frame, as far as lines show them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netwatch_common::parse::protocol;

/// Length of both addresses and the type, bytes.
const ETHERNET_HEADER: usize = 14;
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Extension headers of IPv6 of which a line shows the protocol after them.
const EXTENSIONS: [u8; 4] = [0, 43, FRAGMENT, 60];
const FRAGMENT: u8 = 44;

/// The Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkHead {
    ethertype: u16,
    /// Offset of the network header.
    pub network: usize,
}

impl LinkHead {
    /// Finds the network header behind VLAN tags.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let mut head = Self { ethertype: u16_at(frame, 12)?, network: ETHERNET_HEADER };
        while VLAN_TAGS.contains(&head.ethertype) {
            head.ethertype = u16_at(frame, head.network + 2)?;
            head.network += 4;
        }
        Some(head)
    }

    /// What stands instead of a network header that is cut.
    pub(super) fn cut_words(self) -> &'static str {
        match self.ethertype {
            IPV4 => "IP [|ip]",
            IPV6 => "IP6 [|ip6]",
            _ => "[|ether]",
        }
    }

    /// `ADDRESS > ADDRESS, ethertype IPv4 (0x0800), length N: `.
    pub(super) fn push_words(self, line: &mut String, frame: &[u8], length: u32) {
        let mac = |at: usize| frame[at..at + 6].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        _ = write!(line, "{} > {}, ", mac(6), mac(0));
        for tag in (ETHERNET_HEADER..self.network).step_by(4) {
            _ = write!(line, "vlan {}, ", u16_at(frame, tag).unwrap_or_default() & 0x0fff);
        }
        let name = match self.ethertype {
            IPV4 => "IPv4 ",
            IPV6 => "IPv6 ",
            ARP => "ARP ",
            _ => "",
        };
        _ = write!(line, "ethertype {name}({:#06x}), length {length}: ", self.ethertype);
    }
}

/// The part of a datagram that a fragment carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FragmentPart {
    /// Identifies the datagram.
    pub id: u32,
    /// Offset in the datagram, bytes.
    pub offset: u32,
}

impl FragmentPart {
    /// `offset` is in units of 8 bytes. Offset 0 without more fragments is a whole datagram.
    fn of(id: u32, offset: u16, has_more: bool) -> Option<Self> {
        (offset != 0 || has_more).then_some(Self { id, offset: u32::from(offset) * 8 })
    }
}

/// An IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IpHead<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The protocol after extension headers.
    pub protocol: u8,
    /// The bytes after the headers, as far as they were captured.
    pub body: &'a [u8],
    /// The number of bytes after the headers.
    pub body_length: u32,
    /// `None` for a whole datagram.
    pub part: Option<FragmentPart>,
    traffic_class: u8,
    hop_limit: u8,
    /// Identification (IPv4) or flow label (IPv6).
    id: u32,
    /// Flags and fragment offset of IPv4.
    fragment: u16,
    /// Length of the packet (IPv4), or of what follows the header (IPv6).
    length: u16,
}

impl<'a> IpHead<'a> {
    /// Parses the header at the start of `bytes`, as far as it was captured.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    fn v4(bytes: &'a [u8]) -> Option<Self> {
        let head: &[u8; 20] = bytes.first_chunk()?;
        let address = |at: usize| IpAddr::V4(Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]));
        let length = u16_at(head, 2)?;
        let (header, fragment) = (usize::from(head[0] & 0x0f) * 4, u16_at(head, 6)?);
        let id = u32::from(u16_at(head, 4)?);
        let end = end_of(bytes, 0, length);
        let whole = &bytes[..bytes.len().min(end)];
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: head[9],
            body: whole.get(header..).unwrap_or_default(),
            body_length: end.saturating_sub(header) as u32,
            part: FragmentPart::of(id, fragment & 0x1fff, fragment & 0x2000 != 0),
            traffic_class: head[1],
            hop_limit: head[8],
            id,
            fragment,
            length,
        })
    }

    fn v6(bytes: &'a [u8]) -> Option<Self> {
        let head: &[u8; 40] = bytes.first_chunk()?;
        let address = |at: usize| head[at..].first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes)));
        let first = u32::from_be_bytes(*head.first_chunk()?);
        let length = u16_at(head, 4)?;
        let (end, mut at) = (end_of(bytes, head.len(), length), head.len());
        let whole = &bytes[..bytes.len().min(end)];
        let (mut protocol, mut part) = (head[6], None);
        while EXTENSIONS.contains(&protocol) {
            let Some(&extension) = whole.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
            let [next, units, ..] = extension;
            let is_fragment = std::mem::replace(&mut protocol, next) == FRAGMENT;
            at += if is_fragment { 8 } else { 8 + usize::from(units) * 8 };
            if is_fragment {
                let (field, id) = (u16_at(&extension, 2)?, u32_at(&extension, 4));
                part = FragmentPart::of(id, field >> 3, field & 1 != 0);
            }
            if part.is_some_and(|part| part.offset > 0) {
                break;
            }
        }
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            protocol,
            body: whole.get(at..).unwrap_or_default(),
            body_length: end.saturating_sub(at) as u32,
            part,
            traffic_class: (first >> 20) as u8,
            hop_limit: head[7],
            id: first & 0xf_ffff,
            fragment: 0,
            length,
        })
    }

    /// The fields in parentheses, as tcpdump -v prints them.
    pub(super) fn push_fields(&self, line: &mut String) {
        let Self { traffic_class, hop_limit, id, fragment, length, protocol, .. } = self;
        let protocol = protocol_name(*protocol);
        if self.source.is_ipv4() {
            let flags = match fragment >> 13 {
                0b010 => "DF",
                0b001 => "+",
                0 => "none",
                _ => "reserved",
            };
            let offset = u32::from(fragment & 0x1fff) * 8;
            _ = write!(
                line,
                " (tos {traffic_class:#x}, ttl {hop_limit}, id {id}, offset {offset}, flags [{flags}], \
                 proto {protocol}, length {length})"
            );
        } else {
            _ = write!(
                line,
                " (class {traffic_class:#04x}, flowlabel {id:#07x}, hlim {hop_limit}, next-header {protocol}, \
                 payload length {length})"
            );
        }
    }
}

/// The end of a packet according to its header, of `header` bytes that the length does not include.
/// A length of 0 is that of a super-frame that the field cannot state.
fn end_of(bytes: &[u8], header: usize, length: u16) -> usize {
    if length == 0 { bytes.len() } else { header + usize::from(length) }
}

/// `tcp`; `None` for protocols that a line names by number.
pub(super) fn short_name(number: u8) -> Option<&'static str> {
    Some(match number {
        protocol::ICMP => "icmp",
        protocol::IGMP => "igmp",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        _ => return None,
    })
}

/// `TCP (6)`.
fn protocol_name(number: u8) -> String {
    let name = match number {
        1 => "ICMP ",
        2 => "IGMP ",
        6 => "TCP ",
        17 => "UDP ",
        47 => "GRE ",
        50 => "ESP ",
        58 => "ICMPv6 ",
        132 => "SCTP ",
        _ => "",
    };
    format!("{name}({number})")
}

/// 0 if the number was not captured.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u32::from_be_bytes)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}
