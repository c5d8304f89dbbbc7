//! One packet as it is counted: what its headers said, under which key, how much, in which direction, when.

use crate::flow::FlowKey;
use crate::fragment::{self, Fragments};
use crate::parse::{self, Frame, Hook, Meta, Packet};

/// How much a socket buffer adds to the counters.
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

    /// Of a buffer of `len` bytes. Segments repeat the headers; a tag beside the frame is on the wire too.
    #[inline(always)]
    pub fn of(len: u32, meta: &Meta, packet: &Packet) -> Self {
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
    /// What its headers said.
    pub packet: Packet,
    /// What it is counted under.
    pub key: FlowKey,
    /// How much it counts.
    pub size: Size,
    /// When: ns of a monotonic clock, perhaps of its tick (see [`crate::front`]) where [`crate::account::needs_clock`] says no.
    pub now_ns: u64,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub direction: u8,
    /// Who opened its flow, likewise. Known once it was counted.
    pub opened_by: u8,
}

impl Observation {
    /// Reads a frame. The classifier takes the two steps by itself.
    pub fn new<F: Frame>(frame: &F, meta: &Meta, hook: Hook, now_ns: u64, fragments: &mut impl Fragments) -> Self {
        let mut seen = Self::default();
        parse::parse(frame, meta, &mut seen.packet);
        seen.complete(frame.len(), meta, hook, now_ns, fragments);
        seen
    }

    /// The second step, after the packet was parsed: everything else.
    #[inline(always)]
    pub fn complete(&mut self, len: u32, meta: &Meta, hook: Hook, now_ns: u64, fragments: &mut impl Fragments) {
        fragment::join(&mut self.packet, hook.scope(), fragments);
        (self.key, self.direction) = parse::orient(&self.packet, hook);
        self.size = Size::of(len, meta, &self.packet);
        self.now_ns = now_ns;
    }
}

/// Buffers from tun and packet sockets may come with a segment size but without the number of segments (SKB_GSO_DODGY).
#[inline(always)]
fn segments(meta: &Meta, packet: &Packet) -> u32 {
    if meta.gso_segs > 1 {
        return meta.gso_segs;
    }
    if meta.gso_segs == 0 && meta.gso_size != 0 { packet.payload_len.div_ceil(meta.gso_size).max(1) } else { 1 }
}
