//! The PACKETS ring: packets as the link carried them, for captures. Its programs and maps belong
//! to an object of their own, which is loaded only while packets are captured.

use crate::flow::{EGRESS, INGRESS};

/// A record of PACKETS: this header, then the packet's bytes from its link-layer header on.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    /// Time of the packet, ns of the kernel's boot-time clock.
    pub time_ns: u64,
    /// Cookie of the socket that sent the packet; 0 if the socket is not the target's or unknown.
    pub cookie: u64,
    /// Packets of both directions that were lost before this one, see [`slot::LOST`].
    pub lost: u64,
    /// The packet's length in bytes, as the interface counts it.
    pub orig_len: u32,
    /// Number of bytes that follow.
    pub caplen: u32,
    /// Payload bytes of each packet that offloading combined into this one; 0 without offloading.
    pub gso_size: u32,
    /// Number of these packets; 0 or 1 without offloading.
    pub gso_segs: u32,
    /// A VLAN tag that is stored outside the frame: its protocol (high half) and the tag (low
    /// half), both in host order; 0 without one.
    pub vlan: u32,
    /// [`crate::flow::EGRESS`] or [`crate::flow::INGRESS`] in the lowest byte; above it, the number
    /// of the interface, [`CaptureSettings::interface`].
    pub direction: u32,
}

/// Position of the number of the interface in [`PacketHeader::direction`].
pub const INTERFACE_SHIFT: u32 = 8;
/// Number of interfaces that a capture can distinguish.
pub const MAX_INTERFACES: u32 = 1 << (u32::BITS - INTERFACE_SHIFT);

/// Settings of the programs that fill PACKETS, written by user space before it loads them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Maximum number of bytes copied of a packet, from the Ethernet header on.
    pub snaplen: u32,
    /// The reader is woken whenever the ring contains another multiple of this many bytes, a power
    /// of two. Fewer are read on a timer.
    pub wakeup_bytes: u32,
    /// Whether packets are filtered: user space has replaced the function `packet_filter`.
    pub filter: u32,
    /// The number of the interface that the programs are attached to, less than
    /// [`MAX_INTERFACES`].
    pub interface: u32,
}

impl CaptureSettings {
    /// What the object contains until user space writes the settings.
    pub const DEFAULT: Self =
        Self { snaplen: MAX_CAPLEN, wakeup_bytes: DEFAULT_RING_BYTES / 32, filter: 0, interface: 0 };
}

/// Default size of the PACKETS ring in bytes.
pub const DEFAULT_RING_BYTES: u32 = 16 << 20;
/// Smallest size of the PACKETS ring in bytes: it has room for a few of the longest records.
pub const MIN_RING_BYTES: u32 = 512 << 10;
/// Largest size of the PACKETS ring in bytes. The kernel permits no more.
pub const MAX_RING_BYTES: u32 = 1 << 30;

/// Sizes of records, header included. The verifier requires sizes that are known at compile time;
/// the smallest that fits is used. The sizes between powers of two are for packets of an Ethernet
/// of 1500 bytes and for heads of 96 bytes.
pub const RECORD_BYTES: [usize; 14] =
    [96, 144, 192, 320, 576, 1024, 1584, 2560, 4608, 8704, 16_896, 33_280, 49_664, 65_648];
/// Maximum number of bytes captured of a packet: the longest IPv4 packet with Ethernet and two VLAN
/// tags. Only IPv6 super-frames with a jumbo length can be longer.
pub const MAX_CAPLEN: u32 = RECORD_BYTES[RECORD_BYTES.len() - 1] as u32 - size_of::<PacketHeader>() as u32;

/// Slots of the CAPTURE_STATS map. For each kind but the last, the slot of egress is followed by
/// that of ingress.
pub mod slot {
    /// Packets that the programs observed.
    pub const OBSERVED: u32 = 0;
    /// Packets that found no room in the ring.
    pub const RING_FULL: u32 = 2;
    /// Packets of which not all requested bytes fit into the largest record. They are
    /// captured up to [`super::MAX_CAPLEN`].
    pub const TOO_LONG: u32 = 4;
    /// Packets whose bytes could not be read.
    pub const UNREADABLE: u32 = 6;
    /// Packets that did not match the filter.
    pub const FILTERED: u32 = 8;
    /// Packets of both directions that are not in the ring because of [`RING_FULL`] or
    /// [`UNREADABLE`].
    pub const LOST: u32 = 10;
    /// Number of slots.
    pub const COUNT: u32 = 11;
}

const _: () = {
    assert!(size_of::<PacketHeader>() == 48);
    assert!(size_of::<CaptureSettings>() == 16);
    assert!(MAX_CAPLEN == 65_600);
    assert!(EGRESS == 0 && INGRESS == 1, "they are added to slots");
};
