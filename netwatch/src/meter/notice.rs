//! What a meter reports besides counts: new flows, their sockets, and the heads of packets.

use bytes::Bytes;

use super::icmp;
use crate::flow::{Direction, Quoted, Traffic};

/// Something a ring held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The first packet of a flow was counted.
    NewFlow(NewFlow),
    /// A flow that is not new has a packet of another socket.
    Sender(Sender),
    /// The head of a packet.
    Sample(Sample),
}

/// The first packet of a flow was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// When, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The flow. On the loopback, its local end is the opener.
    pub traffic: Traffic,
    /// Who opened it.
    pub opened_by: Direction,
    /// The socket that the packet is of; `None` if it is none of the target's, or not known.
    pub socket: Option<u64>,
}

/// A flow that is not new has a packet of another socket than those before it, perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The flow. On the loopback its local end is the lower one, which need not be the opener.
    pub traffic: Traffic,
    /// The socket.
    pub socket: u64,
}

/// Why a packet was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Among the first packets with payload of its flow and direction.
    Head,
    /// From or to port 53.
    Dns,
    /// An ICMP or ICMPv6 error.
    IcmpError,
    /// One in so many.
    Interval,
}

/// The head of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// What it was counted under. On the loopback, its local end is the opener.
    pub traffic: Traffic,
    /// Of this packet, as seen from `traffic`'s local end.
    pub direction: Direction,
    /// Who opened the flow.
    pub opened_by: Direction,
    /// Why it was sampled.
    pub reason: Reason,
    /// The packet's length in bytes, as the interface counts it.
    pub orig_len: u32,
    /// Where in `bytes` the transport's payload starts.
    pub payload_offset: usize,
    /// Bytes of it that the packet had.
    pub payload_len: u32,
    /// Sequence number and flag byte of TCP.
    pub tcp: Option<(u32, u8)>,
    /// A fragment without transport header: what is taken for its payload is the datagram's middle or end.
    pub is_later_fragment: bool,
    /// From the Ethernet header on.
    pub bytes: Bytes,
}

impl Sample {
    /// The transport's payload, as far as it was taken.
    pub fn payload(&self) -> &[u8] {
        let rest = self.bytes.get(self.payload_offset..).unwrap_or_default();
        &rest[..rest.len().min(self.payload_len as usize)]
    }
}

/// The flow whose packet an ICMP error among the samples quotes, and the error.
pub fn icmp_error(notice: &Notice) -> Option<Quoted> {
    match notice {
        Notice::Sample(sample) => icmp::quoted(sample),
        Notice::NewFlow(_) | Notice::Sender(_) => None,
    }
}
