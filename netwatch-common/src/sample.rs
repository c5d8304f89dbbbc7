//! Records of the two ring buffers: samples (the heads of packets) and events (rare, never starved by samples).

use crate::flow::FlowKey;

/// Why a packet was sampled. Values of [`SampleHeader::reason`].
pub mod reason {
    /// Among the first packets with payload of its flow and direction.
    pub const HEAD: u8 = 1;
    /// Port 53, UDP or TCP.
    pub const DNS: u8 = 2;
    /// An ICMP or ICMPv6 error message.
    pub const ICMP_ERROR: u8 = 3;
    /// One in so many, whatever it is.
    pub const INTERVAL: u8 = 4;
}

/// Precedes the packet's bytes, from its link-layer header on, in a record of SAMPLES.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SampleHeader {
    /// When: ns of the kernel's monotonic clock.
    pub time_ns: u64,
    /// What it was counted under.
    pub key: FlowKey,
    /// The packet's length in bytes, as the interface counts it.
    pub orig_len: u32,
    /// How many bytes of it follow.
    pub caplen: u32,
    /// Where the transport's payload starts.
    pub payload_offset: u16,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub direction: u8,
    /// One of [`reason`].
    pub reason: u8,
    /// Bytes of the transport's payload that the packet had.
    pub payload_len: u32,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's flag byte.
    pub flags: u8,
    /// Who opened the flow: [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub opened_by: u8,
    /// Which part of a datagram: one of [`crate::parse::part`].
    pub fragment: u8,
    /// Always zero.
    pub zero: u8,
}

/// A record of EVENTS: the first packet of a flow was counted, or one that may be of another socket than those before it.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// When: ns of the kernel's monotonic clock.
    pub time_ns: u64,
    /// The flow.
    pub key: FlowKey,
    /// Who sent the packet, and with that opened the flow if it is new: [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub opened_by: u32,
    /// 0: the flow is new; 1: it is not.
    pub another: u32,
    /// The kernel's number of the socket that sent the packet; 0 if it is none of the target's, or not known.
    pub cookie: u64,
}

/// Space for packet bytes in the three sizes of record: small messages, one wire packet, a GSO buffer's first 4 KiB.
/// The verifier wants sizes known at compile time.
pub const CLASSES: [usize; 3] = [256 - HEADER, 1792 - HEADER, 4608 - HEADER];
const HEADER: usize = size_of::<SampleHeader>();
/// Maximum number of packet bytes in a sample.
pub const MAX_SNAPLEN: u32 = CLASSES[CLASSES.len() - 1] as u32;

/// What a packet takes from its flow's budget for samples, in bytes: its payload, as far as it is taken, and the record's size at the
/// least, so that a flow of small messages is sampled 32 times and not for most of its life. A datagram takes four times that: what it is
/// shows in the first few, or never.
///
/// Of a `stream` sent in crumbs, a hello byte by byte, nothing can be read without them all: those take an eighth.
#[inline(always)]
pub fn charge(payload_len: u32, stream: bool) -> u32 {
    const LEAST: u32 = (CLASSES[0] + HEADER) as u32;
    const CRUMB: u32 = 16;
    let least = match stream {
        true if payload_len < CRUMB => LEAST / 8,
        true => LEAST,
        false => 4 * LEAST,
    };
    payload_len.clamp(least, MAX_SNAPLEN)
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<SampleHeader>() == 72);
    assert!(offset_of!(SampleHeader, orig_len) == 48);
    assert!(offset_of!(SampleHeader, reason) == 59);
    assert!(offset_of!(SampleHeader, fragment) == 70);
    assert!(size_of::<NewFlow>() == 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// How many packets of so many bytes of payload are sampled at the defaults.
    fn sampled(payload_len: u32, stream: bool) -> u32 {
        Config::DEFAULT.sample_budget.div_ceil(charge(payload_len, stream))
    }

    #[test]
    fn the_budget_takes_whole_hellos_and_not_whole_conversations() {
        assert_eq!(sampled(1, true), 256, "a hello in crumbs has its server name in the first 256 bytes");
        assert_eq!((sampled(58, true), sampled(256, true)), (32, 32), "small messages");
        assert_eq!((sampled(1, false), sampled(500, false)), (8, 8), "small datagrams");
        assert_eq!(sampled(1200, false), 7, "Initials of QUIC");
        assert!(sampled(1460, true) * 1460 >= 4096 && sampled(65_000, true) == 2, "a hello of 4 KiB");
    }
}
