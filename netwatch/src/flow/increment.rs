//! Increments: the growth of flows and remainders between two drains.

use super::{Counters, Direction, EndReason, ObservationPoint, PayloadGrowth, PerDirection, Traffic};

/// The growth of one flow or remainder since the previous drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// The flow or remainder that grew.
    pub traffic: Traffic,
    /// Where it was counted. The same as in the key of a flow.
    pub point: ObservationPoint,
    /// The growth.
    pub counters: PerDirection<Counters>,
    /// The growth of what applications sent and received.
    pub payload: PayloadGrowth,
    /// Time of the first packet of this entry, nanoseconds since the Unix epoch.
    pub first_seen_ns: u64,
    /// Time of the last packet so far, nanoseconds since the Unix epoch.
    pub last_seen_ns: u64,
    /// The side that sent the first packet.
    pub opened_by: Direction,
    /// Growth of the number of TCP handshakes that began: 1 if a SYN was observed since the
    /// previous drain and none before. 0 for other protocols.
    pub connections: u32,
    /// The sequence number of the SYN that began the TCP connection; `None` if it was not observed.
    pub initial_sequence: Option<u32>,
    /// Distinguishes entries of the meter that have the same key: higher for each later connection.
    /// It starts over when the meter has no entry with this key.
    pub epoch: u32,
    /// The meter has an entry of the next connection with this key, with a higher epoch.
    pub superseded: bool,
    /// Why the flow of this entry ended. Set on its last increment; `None` there if the flow may go
    /// on, as an open TCP connection that was idle for long.
    pub ended: Option<EndReason>,
    /// The entry has left the table of the meter: its last increment, which is also delivered when
    /// nothing grew. Further packets of the flow get a new entry.
    pub is_last: bool,
    /// Facts from TCP headers; `None` for other protocols.
    pub tcp: Option<TcpFacts>,
}

/// Facts from the TCP headers of a flow. In an [`Increment`], counts are growth, like the counters,
/// the handshake time is given once, and flags are current values.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// OR of all flag bytes (RFC 9293: CWR ECE URG ACK PSH RST SYN FIN), by direction.
    pub flags: PerDirection<u8>,
    /// Time from SYN to SYN-ACK (out) or from SYN-ACK to ACK (in), measured at the veth pair.
    pub handshake_rtt_ns: Option<u64>,
    /// SYNs without ACK by direction, retransmissions included.
    pub syns: PerDirection<u64>,
    /// SYN-ACKs by direction.
    pub syn_acks: PerDirection<u64>,
    /// RSTs by direction.
    pub resets: PerDirection<u64>,
    /// Packets, as a wire would carry them, with payload below the highest earlier sequence number:
    /// retransmitted or out of order.
    pub retransmitted_packets: PerDirection<u64>,
    /// Payload bytes below the highest earlier sequence number.
    pub retransmitted_bytes: PerDirection<u64>,
    /// Packets that advertised a window of 0.
    pub zero_windows: PerDirection<u64>,
    /// Round trips of data that the target sent (on the loopback: the local end), measured about
    /// once a second.
    pub round_trips: RoundTripTimes,
}

impl TcpFacts {
    /// Adds the facts of a later increment.
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

/// Times from data to its acknowledgment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RoundTripTimes {
    /// Number of measurements.
    pub count: u64,
    /// Sum of the times, nanoseconds.
    pub sum_ns: u64,
    /// The shortest time, nanoseconds.
    pub min_ns: Option<u64>,
}

impl RoundTripTimes {
    /// The mean time, nanoseconds; `None` without a measurement.
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }

    fn absorb(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.sum_ns = self.sum_ns.saturating_add(later.sum_ns);
        self.min_ns = [self.min_ns, later.min_ns].into_iter().flatten().min();
    }
}

/// Observations that were missed, by reason. Packets are not among them: every packet is counted,
/// except those of sockets that are `unselected`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ObservationLosses {
    /// Samples for which the ring buffer had no room.
    pub samples: u64,
    /// Packets whose header bytes the kernel could not make readable (counted as malformed).
    pub unreadable: u64,
    /// Packets that found the flow table full (counted as overflow).
    pub table_full: u64,
    /// Packets whose flow could not be inserted although the table was not full (counted as
    /// overflow).
    pub insert_failed: u64,
    /// New flows whose notification was lost: the time of the first packet is not exact.
    pub new_flows: u64,
    /// Processes and sockets that could not be selected (`--pid-only`): their packets are not
    /// counted.
    pub unselected: u64,
}
