//! What a meter reports besides counts: new flows, their sockets, and the heads of packets.

use bytes::Bytes;

use super::icmp;
use crate::flow::{Direction, QuotedError, Traffic};

/// A record of a meter's rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// The first packet of a flow was counted.
    NewFlow(NewFlow),
    /// A packet of a known flow may belong to another socket than the flow's earlier packets.
    SocketChanged(SocketChange),
    /// The head of a packet.
    Sample(Sample),
}

/// The first packet of a flow was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// Time of the packet, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The flow. On the loopback, its local end is the opener.
    pub traffic: Traffic,
    /// Direction of the packet that opened the flow.
    pub opened_by: Direction,
    /// Cookie of the socket that sent the packet; `None` if the socket is not the target's or
    /// unknown.
    pub socket: Option<u64>,
}

/// A packet of a known flow may belong to another socket than the flow's earlier packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketChange {
    /// The flow. On the loopback, its local end is the lower one, which need not be the opener.
    pub traffic: Traffic,
    /// Cookie of the socket that sent the packet.
    pub socket: u64,
}

/// Why a packet was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleReason {
    /// One of the first packets with payload of its flow and direction.
    Head,
    /// From or to port 53.
    Dns,
    /// An ICMP or ICMPv6 error.
    IcmpError,
    /// Every Nth packet.
    Interval,
}

/// The head of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Time of the packet, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// What the packet was counted under. On the loopback, its local end is the opener.
    pub traffic: Traffic,
    /// Direction of the packet, from the local end of `traffic`.
    pub direction: Direction,
    /// Direction of the packet that opened the flow.
    pub opened_by: Direction,
    /// Why it was sampled.
    pub reason: SampleReason,
    /// The packet's length in bytes, as the interface counts it.
    pub orig_len: u32,
    /// Offset of the transport payload in `bytes`.
    pub payload_offset: usize,
    /// Length of the packet's transport payload in bytes; `bytes` may hold less.
    pub payload_len: u32,
    /// TCP sequence number and flag byte.
    pub tcp: Option<(u32, u8)>,
    /// A fragment without a transport header: the payload is the middle or end of a datagram.
    pub is_later_fragment: bool,
    /// The packet's bytes from the Ethernet header on.
    pub bytes: Bytes,
}

impl Sample {
    /// The transport payload, as far as it was copied.
    pub fn payload(&self) -> &[u8] {
        let rest = self.bytes.get(self.payload_offset..).unwrap_or_default();
        &rest[..rest.len().min(self.payload_len as usize)]
    }
}

/// The flow and error that a sampled ICMP error quotes. `None` for other notifications.
pub fn icmp_error(notification: &Notification) -> Option<QuotedError> {
    match notification {
        Notification::Sample(sample) => icmp::quoted(sample),
        Notification::NewFlow(_) | Notification::SocketChanged(_) => None,
    }
}
