//! The transport header: ports, TCP's flags and sequence numbers, ICMP's types.

use super::ip::{Found, Rest};
use super::{Frame, Malformed, Packet, part};
use crate::flow::{housekeeping, kind, malformed};

/// IANA protocol numbers that are treated by name.
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
    /// DCCP: ports as UDP has them.
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

/// Reads the transport header that `packet.protocol` names, or leaves an unknown protocol at that.
#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Result<(), Malformed> {
    let header_len = match packet.protocol {
        protocol::TCP => tcp_header(frame, rest, packet)?,
        protocol::UDP | protocol::UDP_LITE => ports(frame, rest, packet, UDP_HEADER)?,
        protocol::SCTP | protocol::DCCP => ports(frame, rest, packet, SCTP_HEADER)?,
        protocol::ICMP if packet.kind == kind::IPV4 => icmp(frame, rest, packet),
        protocol::ICMPV6 if packet.kind == kind::IPV6 => icmpv6(frame, rest, packet),
        protocol::IGMP if packet.kind == kind::IPV4 => {
            packet.set_named(kind::HOUSEKEEPING, housekeeping::IGMP);
            0
        }
        _ => 0,
    };
    set_payload(rest, header_len, packet);
    Ok(())
}

/// TCP and UDP whose header is all there; false for everything else, and then `packet` means nothing.
#[inline(always)]
pub(super) fn quick<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> bool {
    let header_len = match packet.protocol {
        protocol::TCP => tcp_header(frame, rest, packet),
        protocol::UDP => ports(frame, rest, packet, UDP_HEADER),
        _ => return false,
    };
    let Ok(header_len) = header_len else { return false };
    // Flags of 0 are those of a header that was cut off, or of a scan.
    if packet.protocol == protocol::TCP && packet.flags == 0 {
        return false;
    }
    set_payload(rest, header_len, packet);
    true
}

/// A fragment without a transport header. If the protocol has ports they are unknown, until joined.
#[inline(always)]
pub(super) fn later_fragment(rest: Rest, packet: &mut Packet) {
    set_payload(rest, 0, packet);
    packet.fragment = part::LATER;
    if packet.kind == kind::IPV4 {
        if packet.protocol == protocol::IGMP {
            packet.set_named(kind::HOUSEKEEPING, housekeeping::IGMP);
        } else if hides_ports(packet.protocol) {
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

/// True when only the first IPv4 fragment of this protocol says what flow it is.
#[inline(always)]
pub(super) fn hides_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::SCTP | protocol::DCCP | protocol::AUTHENTICATION
    )
}

#[inline(always)]
fn set_payload(rest: Rest, header_len: u32, packet: &mut Packet) {
    let header_len = header_len.min(rest.len());
    packet.payload_offset = rest.offset + header_len;
    packet.payload_len = rest.end - packet.payload_offset;
}

/// The first four bytes are enough to know the flow: RFC 792 errors and short captures quote no more than eight.
#[inline(always)]
fn ports<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet, header_len: u32) -> Result<u32, Malformed> {
    let Found::Here(&[a, b, c, d]) = rest.header::<F, [u8; 4]>(frame) else {
        return Err(Malformed(malformed::TRANSPORT_TRUNCATED));
    };
    packet.source_port = u16::from_be_bytes([a, b]);
    packet.destination_port = u16::from_be_bytes([c, d]);
    Ok(header_len)
}

#[inline(always)]
fn tcp_header<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Result<u32, Malformed> {
    match rest.header::<F, [u8; TCP_HEADER as usize]>(frame) {
        Found::Here(header) => {
            packet.source_port = u16::from_be_bytes([header[0], header[1]]);
            packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
            packet.sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            packet.acknowledgement = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
            packet.flags = header[13];
            packet.window = u16::from_be_bytes([header[14], header[15]]);
            Ok(u32::from(header[12] >> 4) * 4)
        }
        Found::Short => ports(frame, rest, packet, TCP_HEADER),
        Found::Unreadable => {
            packet.incomplete = true;
            ports(frame, rest, packet, TCP_HEADER)
        }
    }
}

#[inline(always)]
fn icmp<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> u32 {
    // Destination unreachable, source quench, time exceeded, parameter problem.
    packet.icmp_error = matches!(icmp_type(frame, rest, packet), Some(3 | 4 | 11 | 12));
    ICMP_HEADER
}

#[inline(always)]
fn icmpv6<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> u32 {
    match icmp_type(frame, rest, packet) {
        Some(133..=137) => packet.set_named(kind::HOUSEKEEPING, housekeeping::NEIGHBOUR_DISCOVERY),
        Some(130..=132 | 143) => packet.set_named(kind::HOUSEKEEPING, housekeeping::MLD),
        // RFC 4443, 2.1: error messages have the high bit clear.
        Some(message) => packet.icmp_error = message < 128,
        None => {}
    }
    ICMP_HEADER
}

#[inline(always)]
fn icmp_type<F: Frame>(frame: &F, rest: Rest, packet: &mut Packet) -> Option<u8> {
    // Type and code: the verifier learns nothing from a bound check of a single byte.
    match rest.header::<F, [u8; 2]>(frame) {
        Found::Here(&[message, _code]) => Some(message),
        Found::Short => None,
        Found::Unreadable => {
            packet.incomplete = true;
            None
        }
    }
}
