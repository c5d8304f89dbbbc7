//! The transport header: ports, TCP flags and sequence numbers, ICMP types.

use super::ip::{HeaderAt, IpBytes};
use super::{Frame, Packet, ParseError, part};
use crate::flow::{housekeeping, kind, malformed};

/// IANA protocol numbers with special treatment.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP; its ports are those of UDP.
    pub const DCCP: u8 = 33;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

const TCP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
const SCTP_HEADER: u32 = 12;
const ICMP_HEADER: u32 = 8;

/// Parses the transport header of `packet.protocol`. Unknown protocols have payload only.
#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> Result<(), ParseError> {
    let header_len = match packet.protocol {
        protocol::TCP => parse_tcp(frame, rest, packet)?,
        protocol::UDP | protocol::UDP_LITE => parse_ports(frame, rest, packet, UDP_HEADER)?,
        protocol::SCTP | protocol::DCCP => parse_ports(frame, rest, packet, SCTP_HEADER)?,
        protocol::ICMP if packet.kind == kind::IPV4 => parse_icmp(frame, rest, packet),
        protocol::ICMPV6 if packet.kind == kind::IPV6 => parse_icmpv6(frame, rest, packet),
        protocol::IGMP if packet.kind == kind::IPV4 => {
            packet.set_kind(kind::HOUSEKEEPING, housekeeping::IGMP);
            0
        }
        _ => 0,
    };
    set_payload(rest, header_len, packet);
    Ok(())
}

/// Parses complete TCP and UDP headers. Returns false for everything else; `packet` is then
/// invalid.
#[inline(always)]
pub(super) fn quick<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> bool {
    let header_len = match packet.protocol {
        protocol::TCP => parse_tcp(frame, rest, packet),
        protocol::UDP => parse_ports(frame, rest, packet, UDP_HEADER),
        _ => return false,
    };
    let Ok(header_len) = header_len else { return false };
    // Flags of 0 come from a truncated header, or from a port scan.
    if packet.protocol == protocol::TCP && packet.flags == 0 {
        return false;
    }
    // A truncated header is unusual framing.
    if packet.protocol == protocol::UDP && rest.len() < UDP_HEADER {
        return false;
    }
    set_payload(rest, header_len, packet);
    true
}

/// Handles a fragment without a transport header. If the protocol has ports, they are unknown until
/// the fragment is joined.
#[inline(always)]
pub(super) fn later_fragment(rest: IpBytes, packet: &mut Packet) {
    set_payload(rest, 0, packet);
    packet.fragment = part::LATER;
    if packet.kind == kind::IPV4 {
        if packet.protocol == protocol::IGMP {
            packet.set_kind(kind::HOUSEKEEPING, housekeeping::IGMP);
        } else if needs_first_fragment(packet.protocol) {
            packet.kind = kind::IPV4_FRAGMENT;
        } else {
            packet.fragment = part::WHOLE;
        }
    } else if packet.protocol == protocol::ICMPV6 {
        packet.fragment = part::WHOLE;
    } else {
        packet.kind = kind::IPV6_FRAGMENT;
    }
}

/// Whether only the first IPv4 fragment of this protocol identifies the flow.
#[inline(always)]
pub(super) fn needs_first_fragment(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP | protocol::AUTHENTICATION
    )
}

#[inline(always)]
fn set_payload(rest: IpBytes, header_len: u32, packet: &mut Packet) {
    let header_len = header_len.min(rest.len());
    packet.payload_offset = rest.offset + header_len;
    packet.payload_len = rest.end - packet.payload_offset;
}

/// Parses ports. The first four bytes identify the flow; ICMP errors (RFC 792) and short captures
/// quote no more than eight.
#[inline(always)]
fn parse_ports<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet, header_len: u32) -> Result<u32, ParseError> {
    let HeaderAt::Here(&[a, b, c, d]) = rest.header::<F, [u8; 4]>(frame) else {
        return Err(ParseError(malformed::TRANSPORT_TRUNCATED));
    };
    packet.source_port = u16::from_be_bytes([a, b]);
    packet.destination_port = u16::from_be_bytes([c, d]);
    Ok(header_len)
}

#[inline(always)]
fn parse_tcp<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> Result<u32, ParseError> {
    match rest.header::<F, [u8; TCP_HEADER as usize]>(frame) {
        HeaderAt::Here(header) => {
            packet.source_port = u16::from_be_bytes([header[0], header[1]]);
            packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
            packet.sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            packet.acknowledgment = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            packet.flags = header[13];
            packet.window = u16::from_be_bytes([header[14], header[15]]);
            packet.options_offset = rest.offset + TCP_HEADER;
            Ok(u32::from(header[12] >> 4) * 4)
        }
        HeaderAt::Short => parse_ports(frame, rest, packet, TCP_HEADER),
        HeaderAt::Unreadable => {
            packet.incomplete = true;
            parse_ports(frame, rest, packet, TCP_HEADER)
        }
    }
}

#[inline(always)]
fn parse_icmp<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> u32 {
    // Destination unreachable, source quench, time exceeded, parameter problem.
    packet.icmp_error = matches!(icmp_type(frame, rest, packet), Some(3 | 4 | 11 | 12));
    ICMP_HEADER
}

#[inline(always)]
fn parse_icmpv6<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> u32 {
    match icmp_type(frame, rest, packet) {
        Some(133..=137) => packet.set_kind(kind::HOUSEKEEPING, housekeeping::NEIGHBOR_DISCOVERY),
        Some(130..=132 | 143) => packet.set_kind(kind::HOUSEKEEPING, housekeeping::MLD),
        // RFC 4443, 2.1: error messages have the high bit clear.
        Some(message) => packet.icmp_error = message < 128,
        None => {}
    }
    ICMP_HEADER
}

#[inline(always)]
fn icmp_type<F: Frame>(frame: &F, rest: IpBytes, packet: &mut Packet) -> Option<u8> {
    // Type and code: the verifier does not accept a bounds check of a single byte.
    match rest.header::<F, [u8; 2]>(frame) {
        HeaderAt::Here(&[message, _code]) => Some(message),
        HeaderAt::Short => None,
        HeaderAt::Unreadable => {
            packet.incomplete = true;
            None
        }
    }
}
