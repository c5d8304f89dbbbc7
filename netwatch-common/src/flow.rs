//! The flow entry: what packets are counted under ([`FlowKey`]) and what is known about it ([`FlowValue`]).
//! Not the rules by which it grows; those are in [`crate::account`].

use crate::address::Address;
use crate::tcp;

/// What a key stands for. Values of [`FlowKey::kind`].
pub mod kind {
    /// A flow over IPv4; addresses are IPv4-mapped.
    pub const IPV4: u8 = 4;
    /// A flow over IPv6.
    pub const IPV6: u8 = 6;
    /// Later IPv4 fragments whose first fragment was not seen.
    pub const IPV4_FRAGMENT: u8 = 0x14;
    /// Later IPv6 fragments whose first fragment was not seen.
    pub const IPV6_FRAGMENT: u8 = 0x16;
    /// What the kernel says by itself on any link; `protocol` holds a value of [`super::housekeeping`].
    pub const HOUSEKEEPING: u8 = 0x20;
    /// Neither IP nor ARP; `local_port` holds the EtherType.
    pub const NON_IP: u8 = 0x21;
    /// Unreadable; `protocol` holds a value of [`super::malformed`].
    pub const MALFORMED: u8 = 0x22;
    /// The table was full; `protocol` holds the IP protocol.
    pub const OVERFLOW: u8 = 0x23;
}

/// Kinds of link housekeeping: `protocol` of a key of kind [`kind::HOUSEKEEPING`].
pub mod housekeeping {
    /// EtherType 0x0806.
    pub const ARP: u8 = 0;
    /// ICMPv6 types 133 to 137 (RFC 4861).
    pub const NEIGHBOUR_DISCOVERY: u8 = 1;
    /// ICMPv6 types 130 to 132 (RFC 2710) and 143 (RFC 3810).
    pub const MLD: u8 = 2;
    /// IP protocol 2.
    pub const IGMP: u8 = 3;
    /// How many there are.
    pub const COUNT: u8 = 4;
}

/// Reasons why a packet could not be read: `protocol` of a key of kind [`kind::MALFORMED`].
pub mod malformed {
    /// Shorter than its link-layer header.
    pub const ETHERNET: u8 = 0;
    /// IP version nibble and EtherType disagree.
    pub const IP_VERSION: u8 = 1;
    /// IPv4 header length under 20 bytes, or longer than the packet.
    pub const IPV4_HEADER_LENGTH: u8 = 2;
    /// IPv4 total length or IPv6 payload length is less than the headers, or more than the packet.
    pub const IP_LENGTH: u8 = 3;
    /// Cut off inside the IP header.
    pub const IP_TRUNCATED: u8 = 4;
    /// An IPv6 extension header runs over the end, or there are more than can be followed.
    pub const EXTENSION_HEADER: u8 = 5;
    /// Cut off before the ports.
    pub const TRANSPORT_TRUNCATED: u8 = 6;
    /// How many there are.
    pub const COUNT: u8 = 7;
}

/// Where a packet was seen. Values of [`FlowKey::scope`].
pub mod scope {
    /// On the link between the target's namespace and the host.
    pub const LINK: u8 = 0;
    /// On the `lo` of the target's namespace.
    pub const LOOPBACK: u8 = 1;
    /// How many there are.
    pub const COUNT: u8 = 2;
}

/// Index into [`FlowValue::halves`]: sent by the local end.
pub const EGRESS: u8 = 0;
/// Index into [`FlowValue::halves`]: received by the local end.
pub const INGRESS: u8 = 1;

/// What packets are counted under. Unused fields are zero: the kernel's hash compares all 40 bytes.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The target's address, network order; IPv4 as `::ffff:a.b.c.d`. On the loopback: the lower end.
    pub local: Address,
    /// The other address.
    pub remote: Address,
    /// The target's port, host order; 0 where the protocol has none.
    pub local_port: u16,
    /// The other port.
    pub remote_port: u16,
    /// What the key stands for: one of [`kind`].
    pub kind: u8,
    /// IANA protocol number, or what [`kind`] says.
    pub protocol: u8,
    /// Where it was seen: one of [`scope`].
    pub scope: u8,
    /// Always zero.
    pub zero: u8,
}

/// What was counted in one direction. The two that offloading brings are kept apart, so that a packet without it changes
/// two words instead of four.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Socket buffers.
    pub skbs: u64,
    /// Bytes as the interface counts them.
    pub bytes: u64,
    /// Packets that a wire would carry beyond one for each socket buffer.
    pub extra_packets: u64,
    /// Bytes that a wire would carry beyond `bytes`: repeated headers, and tags beside the frame.
    pub extra_wire_bytes: u64,
}

/// One direction of a flow.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// The counters.
    pub counts: Counts,
    /// Payload bytes below the highest sequence number seen before them: sent again, or out of order.
    pub retransmitted_bytes: u64,
    /// Packets with such bytes, as a wire would carry them.
    pub retransmitted_packets: u32,
    /// Packets that advertised a window of 0, but for RSTs.
    pub zero_windows: u32,
    /// The sequence number after the highest one seen; means something once `flags` is not 0.
    pub highest: u32,
    /// OR of the TCP flag bytes seen.
    pub flags: u32,
    /// SYNs without ACK, repeats included.
    pub syns: u32,
    /// SYNs with ACK, repeats included.
    pub syn_acks: u32,
    /// RSTs.
    pub resets: u32,
    /// What is used up of the budget for samples of the first packets with payload: the sum of their
    /// [charges](crate::sample::charge).
    pub sampled: u32,
}

/// How far the latest TCP handshake got. Values of [`Handshake::stage`].
pub mod stage {
    /// No SYN was seen.
    pub const NONE: u32 = 0;
    /// One SYN was seen.
    pub const SYN: u32 = 1;
    /// The target answered with one SYN-ACK; the RTT ends with the opener's ACK.
    pub const SYN_ACK: u32 = 2;
    /// Something was repeated: which copy was answered cannot be told (Karn), so there is no RTT.
    pub const REPEATED: u32 = 3;
    /// Finished.
    pub const DONE: u32 = 4;
}

/// The latest TCP handshake on a five-tuple.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// When the packet was seen whose answer gives the RTT: ns of the kernel's monotonic clock.
    pub started_ns: u64,
    /// Latest measured RTT in ns, 0 while there is none.
    pub rtt_ns: u64,
    /// Initial sequence number of the latest SYN.
    pub isn: u32,
    /// How far it got: one of [`stage`].
    pub stage: u32,
    /// Who sent the latest SYN: [`EGRESS`] or [`INGRESS`].
    pub opener: u32,
    /// Handshakes begun: SYNs whose initial sequence number differs from the one before.
    pub connections: u32,
}

/// Round trips from data that the local end sent to its acknowledgement, measured now and then.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrips {
    /// Their sum in ns.
    pub sum_ns: u64,
    /// The shortest in ns, at most `u32::MAX`; 0 while there is none.
    pub min_ns: u32,
    /// How many.
    pub count: u32,
}

/// All that is known about a key. Counters only grow; user space takes the differences. Behind its key in
/// [`crate::table::Entry`], what a packet changes lies in two lines of the cache, whichever its direction.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowValue {
    /// Packets that need more than counting: bits of [`crate::front::attention`].
    pub attention: u8,
    /// Who opened it: [`EGRESS`] or [`INGRESS`].
    pub opened_by: u8,
    /// 1: user space is taking the entry out of the table, see [`crate::table`].
    pub retiring: u16,
    /// Number of the connection on this key: tells apart entries of one key that are live at the same time or follow each
    /// other. Always 0 for now.
    pub epoch: u32,
    /// Latest packet, ns of the kernel's monotonic clock; up to a tick of the kernel's earlier than it was, see [`crate::front`].
    pub last_seen_ns: u64,
    /// What the local end sent, then what it received.
    pub halves: [Half; 2],
    /// First packet, ns of the kernel's monotonic clock.
    pub first_seen_ns: u64,
    /// TCP only.
    pub handshake: Handshake,
    /// TCP only.
    pub round_trips: RoundTrips,
}

impl FlowValue {
    /// Nothing seen yet.
    pub const EMPTY: Self = {
        // SAFETY: integers only; zero is what `default` gives, which is not const.
        unsafe { core::mem::zeroed() }
    };

    /// Whether it is a TCP flow that is closed: see [`tcp::is_closed`].
    pub fn is_closed(&self) -> bool {
        let [egress, ingress] = self.halves.map(|half| half.flags as u8);
        tcp::is_closed(egress, ingress)
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 8);
    assert!(offset_of!(FlowKey, remote) == 16);
    assert!(offset_of!(FlowKey, local_port) == 32);
    assert!(offset_of!(FlowKey, remote_port) == 34);
    assert!(offset_of!(FlowKey, kind) == 36);
    assert!(offset_of!(FlowKey, protocol) == 37);
    assert!(offset_of!(FlowKey, scope) == 38);
    assert!(size_of::<Counts>() == 32);
    assert!(size_of::<Half>() == 72 && offset_of!(Half, highest) == 48);
    assert!(offset_of!(Half, sampled) == 68);
    assert!(size_of::<Handshake>() == 32 && offset_of!(Handshake, isn) == 16);
    assert!(size_of::<RoundTrips>() == 16);
    assert!(size_of::<FlowValue>() == 216 && align_of::<FlowValue>() == 8);
    assert!(offset_of!(FlowValue, epoch) == 4);
    assert!(offset_of!(FlowValue, last_seen_ns) == 8 && offset_of!(FlowValue, halves) == 16);
    assert!(offset_of!(FlowValue, first_seen_ns) == 160);
    assert!(offset_of!(FlowValue, handshake) == 168);
};
