//! Records of two ring buffers: samples (heads of packets) and events. Events are rare and have a
//! ring of their own, so that samples cannot displace them.

use crate::flow::EntryKey;

/// Why a packet was sampled. Values of [`SampleHeader::reason`].
pub mod reason {
    /// The packet is not sampled. In no record.
    pub const NONE: u8 = 0;
    /// One of the first packets with payload of its flow and direction.
    pub const HEAD: u8 = 1;
    /// Port 53, UDP or TCP.
    pub const DNS: u8 = 2;
    /// An ICMP or ICMPv6 error message.
    pub const ICMP_ERROR: u8 = 3;
    /// Every Nth packet, whatever it contains.
    pub const INTERVAL: u8 = 4;
}

/// A record of SAMPLES: this header, then the packet's bytes from its link-layer header on.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SampleHeader {
    /// Time of the packet, ns of the kernel's boot-time clock.
    pub time_ns: u64,
    /// The key it was counted under.
    pub key: EntryKey,
    /// The packet's length in bytes, as the interface counts it.
    pub orig_len: u32,
    /// Number of bytes that follow.
    pub caplen: u32,
    /// Offset of the transport payload in the packet, in bytes.
    pub payload_offset: u16,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub direction: u8,
    /// One of [`reason`].
    pub reason: u8,
    /// Length of the packet's transport payload in bytes.
    pub payload_len: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP flag byte.
    pub flags: u8,
    /// Direction of the packet that opened the flow: [`crate::flow::EGRESS`] or
    /// [`crate::flow::INGRESS`].
    pub opened_by: u8,
    /// Part of a datagram: one of [`crate::parse::part`].
    pub fragment: u8,
    /// Always zero.
    pub zero: u8,
}

/// A record of EVENTS: the first packet of a flow was counted, or a packet that may belong to
/// another socket than the flow's earlier packets.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowNotification {
    /// Time of the packet, ns of the kernel's boot-time clock.
    pub time_ns: u64,
    /// The flow.
    pub key: EntryKey,
    /// Direction of the packet that opened the flow if the flow is new, else of this packet:
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`].
    pub opened_by: u32,
    /// 0: the flow is new; 1: the flow is known and its socket may have changed.
    pub socket_changed: u32,
    /// Cookie of the socket that sent the packet; 0 if the socket is not the target's or unknown.
    pub cookie: u64,
}

/// Space for packet bytes in the three sizes of records: small messages, one wire packet, the first
/// 4 KiB of a GSO buffer. The verifier requires sizes that are known at compile time.
pub const CLASSES: [usize; 3] = [256 - HEADER, 1792 - HEADER, 4608 - HEADER];
const HEADER: usize = size_of::<SampleHeader>();
/// Maximum number of packet bytes in a sample.
pub const MAX_SNAPLEN: u32 = CLASSES[CLASSES.len() - 1] as u32;

/// What a sample charges to its flow's budget, in bytes: the payload that is copied, but at least
/// the size of the smallest record, so that a flow of small messages is sampled 32 times and not
/// for most of its life. The minimum for a datagram is four times that, because the first few
/// datagrams identify a protocol, or none does.
///
/// If a `stream` is sent a few bytes at a time, as some send a ClientHello, it can only be parsed
/// with all of its segments. Such segments charge an eighth of the minimum.
#[inline(always)]
pub fn charge(payload_len: u32, stream: bool) -> u32 {
    const MIN_CHARGE: u32 = (CLASSES[0] + HEADER) as u32;
    const TINY_PAYLOAD: u32 = 16;
    let min = match stream {
        true if payload_len < TINY_PAYLOAD => MIN_CHARGE / 8,
        true => MIN_CHARGE,
        false => 4 * MIN_CHARGE,
    };
    payload_len.clamp(min, MAX_SNAPLEN)
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<SampleHeader>() == 72);
    assert!(offset_of!(SampleHeader, orig_len) == 48);
    assert!(offset_of!(SampleHeader, reason) == 59);
    assert!(offset_of!(SampleHeader, fragment) == 70);
    assert!(size_of::<FlowNotification>() == 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// How many packets with this many bytes of payload are sampled by default.
    fn sampled(payload_len: u32, stream: bool) -> u32 {
        Config::DEFAULT.sample_budget.div_ceil(charge(payload_len, stream))
    }

    #[test]
    fn the_budget_covers_a_hello_but_not_a_conversation() {
        assert_eq!(sampled(1, true), 256, "a hello sent byte by byte has its server name in the first 256 bytes");
        assert_eq!((sampled(58, true), sampled(256, true)), (32, 32), "small messages");
        assert_eq!((sampled(1, false), sampled(500, false)), (8, 8), "small datagrams");
        assert_eq!(sampled(1200, false), 7, "QUIC Initial packets");
        assert!(sampled(1460, true) * 1460 >= 4096 && sampled(65_000, true) == 2, "a hello of 4 KiB");
    }
}
