//! What the drain hands over: growth since the last drain.

use super::{Counters, Direction, EndReason, ObservationPoint, PerDirection, Traffic};

/// The growth of one flow or remainder since the previous drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// What it was counted under.
    pub traffic: Traffic,
    /// Where (also in the flow's key).
    pub point: ObservationPoint,
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
    /// The meter's number of the connection on this key: tells apart entries of one key that are live at the same time or
    /// follow each other. Always 0 for now.
    pub epoch: u32,
    /// Why the meter's entry ended; set on its last increment, which is also handed over when nothing grew. Further packets of
    /// the flow get a new entry.
    pub ended: Option<EndReason>,
    /// TCP only.
    pub tcp: Option<TcpFacts>,
}

/// What TCP headers said. Counts are growth, like the counters; flags and the handshake's time are as they stand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// OR of all flag bytes seen (RFC 9293: CWR ECE URG ACK PSH RST SYN FIN), by direction.
    pub flags: PerDirection<u8>,
    /// SYN to SYN-ACK (out) or SYN-ACK to ACK (in), as seen at the veth.
    pub handshake_rtt_ns: Option<u64>,
    /// Pure SYNs (no ACK) by direction, repeats included.
    pub syns: PerDirection<u64>,
    /// SYN-ACKs by direction.
    pub syn_acks: PerDirection<u64>,
    /// RSTs by direction.
    pub resets: PerDirection<u64>,
    /// Packets as a wire would carry them that held payload below the highest sequence number seen before: sent again, or out of order.
    pub retransmitted_packets: PerDirection<u64>,
    /// Payload bytes of that kind.
    pub retransmitted_bytes: PerDirection<u64>,
    /// Packets that advertised a window of 0.
    pub zero_windows: PerDirection<u64>,
    /// Round trips measured on data that the target sent (on the loopback: the local end), about once a second.
    pub round_trips: RoundTripTimes,
}

impl TcpFacts {
    /// Adds what came later.
    pub fn absorb(&mut self, later: &Self) {
        self.flags = self.flags.zip(later.flags, |a, b| a | b);
        self.handshake_rtt_ns = later.handshake_rtt_ns.or(self.handshake_rtt_ns);
        self.syns += later.syns;
        self.syn_acks += later.syn_acks;
        self.resets += later.resets;
        self.retransmitted_packets += later.retransmitted_packets;
        self.retransmitted_bytes += later.retransmitted_bytes;
        self.zero_windows += later.zero_windows;
        self.round_trips.absorb(later.round_trips);
    }
}

/// Times from data to its acknowledgement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RoundTripTimes {
    /// How many were measured.
    pub count: u64,
    /// Their sum, nanoseconds.
    pub sum_ns: u64,
    /// The shortest, nanoseconds.
    pub min_ns: Option<u64>,
}

impl RoundTripTimes {
    /// The mean, nanoseconds.
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }

    fn absorb(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.sum_ns = self.sum_ns.saturating_add(later.sum_ns);
        self.min_ns = [self.min_ns, later.min_ns].into_iter().flatten().min();
    }
}

/// Observations that were missed, by reason. Packets are never among them: those are all counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ObservationLosses {
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
