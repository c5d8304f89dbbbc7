//! The input: samples of packets.

use crate::flow::{Direction, FlowKey};
use crate::wire::identify::Ports;

/// The payload of one packet, as far as it was sampled.
#[derive(Debug, Clone, Copy)]
pub struct NameSample<'a> {
    /// Time of capture, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The flow.
    pub flow: FlowKey,
    /// The direction: egress was sent by the local end of the flow.
    pub direction: Direction,
    /// The direction of the first packet of the flow.
    pub opened_by: Direction,
    /// The transport payload, from its start.
    pub payload: &'a [u8],
    /// Length of the payload in the packet, bytes. If it is greater than the length of `payload`,
    /// the sample was cut.
    pub payload_len: u32,
    /// The fields of TCP.
    pub tcp: Option<Segment>,
}

/// Fields of the TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The sequence number.
    pub sequence: u32,
    /// The flag byte (RFC 9293): [`netwatch_common::tcp`] names its bits.
    pub flags: u8,
    /// The acknowledgment number; `None` if it is unknown.
    pub acknowledgment: Option<u32>,
}

impl Segment {
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence number of the first byte of payload; SYN occupies one.
    pub(super) fn payload_sequence(self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.has(flag::SYN)))
    }
}

/// The flags of TCP that are used here.
pub(super) mod flag {
    pub use netwatch_common::tcp::{FIN, RST, SYN};
}

impl NameSample<'_> {
    pub(super) fn is_cut(&self) -> bool {
        self.payload.len() < self.payload_len as usize
    }

    pub(super) fn ports(&self) -> Ports {
        ports(&self.flow, self.direction)
    }
}

/// The ports of a packet in this direction.
pub(super) fn ports(flow: &FlowKey, direction: Direction) -> Ports {
    match direction {
        Direction::Egress => Ports { source: flow.local.port, destination: flow.remote.port },
        Direction::Ingress => Ports { source: flow.remote.port, destination: flow.local.port },
    }
}
