//! Where the headers of a TCP or UDP packet are in a frame, for those that are changed before they
//! are written.

use super::checksum::Sum;

const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// Extension headers of IPv6 that may stand before the transport: hop-by-hop and destination
/// options. A routing header changes the addresses of the checksum.
const EXTENSIONS: [u8; 2] = [0, 60];

/// Offsets in the frame, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// IPv6, else IPv4.
    pub is_v6: bool,
    /// TCP, else UDP.
    pub is_tcp: bool,
    /// The IP header.
    pub network: usize,
    /// The TCP or UDP header.
    pub transport: usize,
    /// The first byte after it.
    pub payload: usize,
    /// The end of the packet according to its IP length. Ethernet may pad beyond.
    pub end: usize,
}

impl Layout {
    /// Finds the headers. `None` if they are not those of an unfragmented TCP or UDP packet in
    /// Ethernet, or if they were not captured.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut network = 14;
        let mut ethertype = u16_at(frame, 12)?;
        while matches!(ethertype, 0x8100 | 0x88a8) {
            ethertype = u16_at(frame, network + 2)?;
            network += 4;
        }
        let (protocol, transport, end) = match ethertype {
            0x0800 => ipv4(frame, network)?,
            0x86dd => ipv6(frame, network)?,
            _ => return None,
        };
        let header = match protocol {
            TCP => usize::from(frame.get(transport + 12)? >> 4) * 4,
            UDP => UDP_HEADER,
            _ => return None,
        };
        let payload = transport + header;
        let is_valid = payload <= end && payload <= frame.len() && (protocol == UDP || header >= 20);
        let (is_v6, is_tcp) = (ethertype == 0x86dd, protocol == TCP);
        is_valid.then_some(Self { is_v6, is_tcp, network, transport, payload, end })
    }

    /// Offset of the transport's checksum.
    pub(super) fn checksum_at(&self) -> usize {
        self.transport + if self.is_tcp { 16 } else { 6 }
    }

    /// The sum of the pseudo-header of a packet with `length` bytes of transport header and
    /// payload. A sender that leaves the checksum to hardware stores this sum instead.
    pub(super) fn pseudo_header(&self, frame: &[u8], length: usize) -> Sum {
        let (addresses, bytes) = if self.is_v6 { (8, 32) } else { (12, 8) };
        let addresses = &frame[self.network + addresses..][..bytes];
        let protocol = if self.is_tcp { TCP } else { UDP };
        Sum::default().add(addresses).add_number(protocol.into()).add_number(length as u32)
    }
}

/// Protocol, offset of its header, and the end of the packet.
fn ipv4(frame: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let version = *frame.get(at)?;
    let header = usize::from(version & 0x0f) * 4;
    let is_fragment = u16_at(frame, at + 6)? & 0x3fff != 0;
    if version >> 4 != 4 || header < 20 || is_fragment {
        return None;
    }
    Some((*frame.get(at + 9)?, at + header, at + usize::from(u16_at(frame, at + 2)?)))
}

/// As [`ipv4`]. A jumbo packet has a length of 0, so its end is before its headers.
fn ipv6(frame: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    const HEADER: usize = 40;
    if frame.get(at)? >> 4 != 6 {
        return None;
    }
    let end = at + HEADER + usize::from(u16_at(frame, at + 4)?);
    let mut next = *frame.get(at + 6)?;
    let mut offset = at + HEADER;
    while EXTENSIONS.contains(&next) {
        let length = 8 + usize::from(*frame.get(offset + 1)?) * 8;
        next = *frame.get(offset)?;
        offset += length;
    }
    Some((next, offset, end))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}
