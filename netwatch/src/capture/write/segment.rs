//! From packets as the link carried them to packets as a wire would carry them: super-frames are
//! divided into their packets, checksums that were left to hardware are completed, and VLAN tags
//! are put into the frame.

use super::layout::{Layout, u16_at};

/// A packet as it was observed.
#[derive(Debug, Clone, Copy)]
pub struct ObservedFrame<'a> {
    /// The captured bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// Length in bytes.
    pub orig_len: u32,
    /// Payload bytes of each packet that offloading combined into this one; 0 without offloading.
    pub gso_size: u32,
    /// Number of these packets; 0 or 1 without offloading.
    pub gso_segs: u32,
    /// Protocol and value of a VLAN tag outside the frame.
    pub vlan: Option<(u16, u16)>,
}

/// A packet as a wire would carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WirePacket<'a> {
    /// The captured bytes: headers, and the rest.
    pub parts: [&'a [u8]; 2],
    /// Length in bytes.
    pub orig_len: u32,
    /// The fields that a reader needs.
    pub comment: Option<&'static str>,
}

/// The packet is part of a super-frame and was not captured whole.
const CHECKSUM_AS_SEEN: &str = "divided from a super-frame; checksum as captured";
/// The super-frame has headers that netwatch does not change.
const NOT_DIVIDED: &str = "a super-frame that was not divided into its packets";

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Divides super-frames. Keeps its buffers between packets.
#[derive(Debug, Default)]
pub struct Segmenter {
    keeps_super_frames: bool,
    tagged: Vec<u8>,
    headers: Vec<u8>,
}

impl Segmenter {
    /// With `keeps_super_frames`, they stay as they were observed.
    pub fn new(keeps_super_frames: bool) -> Self {
        Self { keeps_super_frames, ..Self::default() }
    }

    /// Calls `visit` with each packet of an observed one.
    pub fn divide(&mut self, frame: &ObservedFrame<'_>, visit: &mut impl FnMut(&WirePacket<'_>)) {
        let Some(tag) = frame.vlan else {
            return divide(self.keeps_super_frames, &mut self.headers, frame, visit);
        };
        insert_tag(frame.bytes, tag, &mut self.tagged);
        let tagged = ObservedFrame { bytes: &self.tagged, orig_len: frame.orig_len + 4, vlan: None, ..*frame };
        divide(self.keeps_super_frames, &mut self.headers, &tagged, visit);
    }
}

/// Writes a frame with a VLAN tag, protocol and value, behind its addresses.
pub fn insert_tag(frame: &[u8], (protocol, value): (u16, u16), tagged: &mut Vec<u8>) {
    const ADDRESSES: usize = 12;
    let (addresses, rest) = frame.split_at(frame.len().min(ADDRESSES));
    tagged.clear();
    tagged.extend_from_slice(addresses);
    tagged.extend_from_slice(&protocol.to_be_bytes());
    tagged.extend_from_slice(&value.to_be_bytes());
    tagged.extend_from_slice(rest);
}

fn divide(keeps: bool, scratch: &mut Vec<u8>, frame: &ObservedFrame<'_>, visit: &mut impl FnMut(&WirePacket<'_>)) {
    let whole = WirePacket { parts: [frame.bytes, &[]], orig_len: frame.orig_len, comment: None };
    let is_super = frame.gso_size > 0 && frame.gso_segs != 1;
    let layout = Layout::of(frame.bytes);
    match layout {
        None if is_super => visit(&WirePacket { comment: Some(NOT_DIVIDED), ..whole }),
        None => visit(&whole),
        Some(_) if is_super && keeps => visit(&whole),
        Some(layout) if is_super => segments(&layout, scratch, frame, visit),
        Some(layout) => complete(&layout, scratch, whole, visit),
    }
}

/// Completes the checksum of a packet whose sender left it to hardware: it contains the sum of the
/// pseudo-header then. A wrong checksum that equals this sum by chance, one in 65,536, is corrected
/// too.
fn complete(layout: &Layout, scratch: &mut Vec<u8>, whole: WirePacket<'_>, visit: &mut impl FnMut(&WirePacket<'_>)) {
    let frame = whole.parts[0];
    let length = layout.end - layout.transport;
    let pseudo = layout.pseudo_header(frame, length).folded();
    if frame.len() < layout.end || u16_at(frame, layout.checksum_at()) != Some(pseudo) {
        return visit(&whole);
    }
    let (headers, payload) = frame.split_at(layout.payload);
    scratch.clear();
    scratch.extend_from_slice(headers);
    write_checksum(layout, scratch, &payload[..layout.end - layout.payload]);
    visit(&WirePacket { parts: [scratch, payload], ..whole });
}

/// Divides a super-frame as the kernel's software segmentation does (`tcp_gso_segment`,
/// `__udp_gso_segment`).
fn segments(
    layout: &Layout,
    scratch: &mut Vec<u8>,
    frame: &ObservedFrame<'_>,
    visit: &mut impl FnMut(&WirePacket<'_>),
) {
    let size = frame.gso_size as usize;
    let total = layout.end - layout.payload;
    let captured = &frame.bytes[layout.payload..frame.bytes.len().min(layout.end)];
    let count = total.div_ceil(size).max(1);
    for number in 0..count {
        let start = number * size;
        let length = size.min(total - start);
        let payload = captured.get(start..).unwrap_or_default();
        let payload = &payload[..payload.len().min(length)];
        scratch.clear();
        scratch.extend_from_slice(&frame.bytes[..layout.payload]);
        change_headers(layout, scratch, number, start, length, number + 1 == count);
        let is_whole = payload.len() == length;
        if is_whole {
            write_checksum(layout, scratch, payload);
        }
        visit(&WirePacket {
            parts: [scratch, payload],
            orig_len: (layout.payload + length) as u32,
            comment: (!is_whole).then_some(CHECKSUM_AS_SEEN),
        });
    }
}

/// Changes the headers of a super-frame to those of its packet `number`, which has `length` bytes
/// of payload from `start` on.
fn change_headers(layout: &Layout, headers: &mut [u8], number: usize, start: usize, length: usize, is_last: bool) {
    let network = layout.network;
    if layout.is_v6 {
        let after_header = layout.payload + length - (network + 40);
        put(headers, network + 4, after_header as u16);
    } else {
        put(headers, network + 2, (layout.payload + length - network) as u16);
        let id = u16_at(headers, network + 4).unwrap_or_default();
        put(headers, network + 4, id.wrapping_add(number as u16));
        put(headers, network + 10, 0);
        let sum = super::checksum::Sum::default().add(&headers[network..layout.transport]).checksum();
        put(headers, network + 10, sum);
    }
    let transport = layout.transport;
    if !layout.is_tcp {
        return put(headers, transport + 4, (layout.payload - transport + length) as u16);
    }
    let sequence = headers[transport + 4..].first_chunk().copied().map_or(0, u32::from_be_bytes);
    let sequence = sequence.wrapping_add(start as u32);
    headers[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
    let flags = &mut headers[transport + 13];
    if !is_last {
        *flags &= !(FIN | PSH);
    }
    if number > 0 {
        *flags &= !CWR;
    }
}

/// Writes the checksum of the transport over `headers` and `payload`, except for UDP without one.
fn write_checksum(layout: &Layout, headers: &mut [u8], payload: &[u8]) {
    let at = layout.checksum_at();
    if !layout.is_tcp && !layout.is_v6 && u16_at(headers, at) == Some(0) {
        return;
    }
    put(headers, at, 0);
    let length = layout.payload - layout.transport + payload.len();
    let sum = layout.pseudo_header(headers, length).add(&headers[layout.transport..layout.payload]).add(payload);
    let checksum = match sum.checksum() {
        // 0 is the checksum of a datagram without one (RFC 768).
        0 if !layout.is_tcp => 0xffff,
        checksum => checksum,
    };
    put(headers, at, checksum);
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
