//! Handmade frames. Each function prepends one header to the rest.

/// 198.51.100.2, the target.
pub(super) const LOCAL: [u8; 4] = [198, 51, 100, 2];
/// 203.0.113.9, a server.
pub(super) const REMOTE: [u8; 4] = [203, 0, 113, 9];
/// 2001:db8::2, the target.
pub(super) const LOCAL6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// 2001:db8:9::9, a server.
pub(super) const REMOTE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

pub(super) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    join(&[&[2, 0, 0, 0, 0, 1], &[2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes(), rest])
}

/// A VLAN tag; `ethertype` is what follows it.
pub(super) fn tag(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    join(&[&[0, 7], &ethertype.to_be_bytes(), rest])
}

/// The unusual fields of an IPv4 header.
pub(super) struct Ipv4<'a> {
    pub options: &'a [u8],
    pub id: u16,
    /// Flags and offset.
    pub fragment: u16,
    /// Instead of the correct value.
    pub ihl: Option<u8>,
    /// Instead of the correct value.
    pub total: Option<u16>,
}

pub(super) const PLAIN: Ipv4<'static> = Ipv4 { options: &[], id: 7, fragment: 0, ihl: None, total: None };

pub(super) fn ipv4_with(how: &Ipv4<'_>, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let header_len = 20 + how.options.len();
    let ihl = how.ihl.unwrap_or((header_len / 4) as u8);
    let total = how.total.unwrap_or((header_len + rest.len()) as u16);
    let id = how.id.to_be_bytes();
    let fragment = how.fragment.to_be_bytes();
    let fixed = [&[0x40 | ihl, 0][..], &total.to_be_bytes(), &id, &fragment, &[64, protocol, 0, 0], &LOCAL, &REMOTE];
    join(&[&fixed.concat(), how.options, rest])
}

/// A whole frame.
pub(super) fn ipv4(protocol: u8, rest: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4_with(&PLAIN, protocol, rest))
}

/// A frame of [`ipv4`] in the other direction: addresses and ports are swapped.
pub(super) fn reversed(frame: &[u8]) -> Vec<u8> {
    let mut back = frame.to_vec();
    back[26..30].copy_from_slice(&frame[30..34]);
    back[30..34].copy_from_slice(&frame[26..30]);
    back[34..36].copy_from_slice(&frame[36..38]);
    back[36..38].copy_from_slice(&frame[34..36]);
    back
}

pub(super) fn ipv6_packet(next: u8, rest: &[u8]) -> Vec<u8> {
    ipv6_of_length(next, rest.len() as u16, rest)
}

pub(super) fn ipv6_of_length(next: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    join(&[&[0x60, 0, 0, 0], &length.to_be_bytes(), &[next, 64], &LOCAL6, &REMOTE6, rest])
}

/// A whole frame.
pub(super) fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, &ipv6_packet(next, rest))
}

/// Hop-by-hop, destination or routing header of `8 * (1 + units)` bytes.
pub(super) fn extension(next: u8, units: u8, rest: &[u8]) -> Vec<u8> {
    join(&[&[next, units], &vec![0; 6 + 8 * usize::from(units)], rest])
}

/// Authentication header of 24 bytes.
pub(super) fn authentication(next: u8, rest: &[u8]) -> Vec<u8> {
    join(&[&[next, 4], &[0; 22], rest])
}

/// IPv6 fragment header; `offset` in bytes.
pub(super) fn fragment6(next: u8, offset: u16, more: bool, id: u32, rest: &[u8]) -> Vec<u8> {
    join(&[&[next, 0], &(offset | u16::from(more)).to_be_bytes(), &id.to_be_bytes(), rest])
}

/// Ports 40000 → 443.
pub(super) fn tcp(flags: u8, payload: usize) -> Vec<u8> {
    tcp_numbered(flags, 1000, 0, payload)
}

pub(super) fn tcp_numbered(flags: u8, sequence: u32, acknowledgment: u32, payload: usize) -> Vec<u8> {
    let numbers = [sequence.to_be_bytes(), acknowledgment.to_be_bytes()].concat();
    join(&[
        &40000_u16.to_be_bytes(),
        &443_u16.to_be_bytes(),
        &numbers,
        &[0x50, flags, 1, 0, 0, 0, 0, 0],
        &vec![0; payload],
    ])
}

/// Ports 40000 → `port`.
pub(super) fn udp(port: u16, payload: usize) -> Vec<u8> {
    let length = (8 + payload) as u16;
    join(&[&40000_u16.to_be_bytes(), &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], &vec![0; payload]])
}

/// An ICMP or ICMPv6 message of 8 bytes and `payload`.
pub(super) fn icmp(message: u8, payload: usize) -> Vec<u8> {
    join(&[&[message, 0, 0, 0, 0, 1, 0, 1], &vec![0; payload]])
}

/// As [`tcp_numbered`] without payload, with the timestamp option.
pub(super) fn tcp_stamped(flags: u8, sequence: u32, timestamp: u32) -> Vec<u8> {
    let mut segment = tcp_numbered(flags, sequence, 0, 12);
    segment[12] = 0x80;
    segment[20..24].copy_from_slice(&[1, 1, 8, 10]);
    segment[24..28].copy_from_slice(&timestamp.to_be_bytes());
    segment
}
