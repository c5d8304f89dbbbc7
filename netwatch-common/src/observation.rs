//! One packet, ready to be counted: its headers, key, size, direction and time.

use crate::flow::EntryKey;
use crate::fragment::{self, Fragments};
use crate::parse::{self, Frame, Hook, Meta, Packet};

/// What a socket buffer adds to the counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes as the interface counts them.
    pub bytes: u64,
    /// Packets that a wire would carry beyond one.
    pub extra_packets: u64,
    /// Bytes that a wire would carry beyond `bytes`.
    pub extra_wire_bytes: u64,
}

impl Size {
    /// Packets as a wire would carry them.
    #[inline(always)]
    pub fn packets(&self) -> u64 {
        1 + self.extra_packets
    }

    /// Bytes as a wire would carry them.
    #[inline(always)]
    pub fn wire_bytes(&self) -> u64 {
        self.bytes + self.extra_wire_bytes
    }

    /// Whether a wire would carry more than the interface counts.
    #[inline(always)]
    pub fn has_extra(&self) -> bool {
        self.extra_packets | self.extra_wire_bytes != 0
    }

    /// The size of a buffer of `len` bytes. On the wire, each segment repeats the headers, and a
    /// VLAN tag stored outside the frame takes space.
    #[inline(always)]
    pub fn new(len: u32, meta: &Meta, packet: &Packet) -> Self {
        const TAG: u64 = 4;
        let tag = if meta.tagged { TAG } else { 0 };
        let extra_packets = u64::from(segments(meta, packet) - 1);
        let headers = u64::from(packet.payload_offset) + tag;
        Self { bytes: u64::from(len), extra_packets, extra_wire_bytes: tag + extra_packets * headers }
    }
}

/// One packet, ready to be counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Its headers.
    pub packet: Packet,
    /// The key it is counted under.
    pub key: EntryKey,
    /// What it adds to the counters.
    pub size: Size,
    /// Time, ns of the boot-time clock; precise only if [`crate::account::needs_clock`] holds, else
    /// the kernel's tick (see [`crate::front`]).
    pub now_ns: u64,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub direction: u8,
    /// Direction of the packet that opened the flow. Set when the packet is counted.
    pub opened_by: u8,
    /// The timestamp of a TCP SYN or FIN, see [`parse::timestamp`]; 0 if it has none.
    pub timestamp: u32,
}

impl Observation {
    /// Parses a frame. The classifier runs the steps separately.
    pub fn new<F: Frame>(frame: &F, meta: &Meta, hook: Hook, now_ns: u64, fragments: &mut impl Fragments) -> Self {
        let mut seen = Self::default();
        parse::parse(frame, meta, &mut seen.packet);
        seen.complete(frame.len(), meta, hook, now_ns, fragments);
        seen.timestamp = parse::timestamp(frame, &seen.packet);
        seen
    }

    /// The second step: everything after the packet was parsed.
    #[inline(always)]
    pub fn complete(&mut self, len: u32, meta: &Meta, hook: Hook, now_ns: u64, fragments: &mut impl Fragments) {
        fragment::join(&mut self.packet, hook.observation_point(), fragments);
        (self.key, self.direction) = parse::orient(&self.packet, hook);
        self.size = Size::new(len, meta, &self.packet);
        self.now_ns = now_ns;
    }
}

/// A packet that neither opens nor closes anything, so that the front can count it.
#[derive(Debug, Clone, Copy)]
pub struct PlainPacket<'a> {
    /// Its headers.
    pub packet: &'a Packet,
    /// What it adds to the counters.
    pub size: &'a Size,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub direction: u8,
    /// Time of the kernel's tick, ns of the boot-time clock.
    pub now_ns: u64,
}

impl PlainPacket<'_> {
    /// Whether the buffer ends with the payload, so that the size of the payload follows from it.
    #[inline(always)]
    pub fn ends_with_payload(&self) -> bool {
        self.size.bytes as u32 == self.packet.payload_offset + self.packet.payload_len
    }
}

/// Number of segments. Buffers from tun and packet sockets may have a segment size without a
/// segment count (SKB_GSO_DODGY).
#[inline(always)]
fn segments(meta: &Meta, packet: &Packet) -> u32 {
    if meta.gso_segs > 1 {
        return meta.gso_segs;
    }
    if meta.gso_segs == 0 && meta.gso_size != 0 { packet.payload_len.div_ceil(meta.gso_size).max(1) } else { 1 }
}
