//! What the drain hands over: growth since the last drain.

use super::{Counters, Direction, PerDirection, Scope, Traffic};

/// The growth of one flow or remainder since the previous drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// What it was counted under.
    pub traffic: Traffic,
    /// Where (also in the flow's key).
    pub scope: Scope,
    /// By how much it grew.
    pub counters: PerDirection<Counters>,
    /// First packet ever of this entry, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Last packet so far, nanoseconds since the Unix epoch.
    pub last_seen_ns: u64,
    /// Who sent the first packet.
    pub opened_by: Direction,
    /// Connections: TCP handshakes begun on this five-tuple (distinct initial sequence numbers); 0 for other protocols. Growth, like the counters.
    pub connections: u32,
    /// TCP only.
    pub tcp: Option<TcpFacts>,
}

/// What TCP headers said, cumulative over the entry's life (not growth).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// OR of all flag bytes seen (RFC 9293: CWR ECE URG ACK PSH RST SYN FIN), by direction.
    pub flags: PerDirection<u8>,
    /// SYN to SYN-ACK (out) or SYN-ACK to ACK (in), as seen at the veth.
    pub handshake_rtt_ns: Option<u64>,
    /// Pure SYNs (no ACK) by direction, repeats included.
    pub syns: PerDirection<u32>,
    /// SYN-ACKs by direction.
    pub syn_acks: PerDirection<u32>,
    /// RSTs by direction.
    pub resets: PerDirection<u32>,
}

/// Observations that were missed, by reason. Packets are never among them: those are all counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Header samples for which the ring buffer had no room.
    pub samples: u64,
    /// Packets whose header bytes the kernel could not make readable (counted as malformed).
    pub unreadable: u64,
    /// Packets that found the flow table full (counted as overflow).
    pub table_full: u64,
    /// Packets whose flow could not be inserted for another reason than a full table (counted as overflow).
    pub insert_failed: u64,
    /// New flows whose first packet has no precise time (the announcement was lost).
    pub new_flows: u64,
}
