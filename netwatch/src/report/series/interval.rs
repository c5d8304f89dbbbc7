//! The numbers of an interval, and how two of them are merged.

use crate::flow::{Counters, PerDirection, TimeHistogram};

/// What happened in an interval of time, on the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interval {
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Length, nanoseconds. Intervals do not overlap; a gap between two of them means that nothing
    /// happened.
    pub length_ns: u64,
    /// Traffic of the target.
    pub totals: PerDirection<Counters>,
    /// Flows that began.
    pub opened: u64,
    /// Flows with traffic; of merged intervals the largest number among them.
    pub active: u64,
    /// TCP connections that began. A failed attempt is none.
    pub connections: u64,
    /// TCP connections that were closed or forgotten.
    pub closed: u64,
    /// TCP connections that were open at the end; of merged intervals the largest number among
    /// them.
    pub open: u64,
    /// Failed attempts that packets show.
    pub failed: u64,
    /// Packets of TCP flows in both directions.
    pub tcp_packets: u64,
    /// Packets among them that were retransmitted or out of order.
    pub retransmitted: u64,
    /// DNS responses with an error, to queries of the target.
    pub dns_failed: u64,
    /// Observations that were lost.
    pub lost: u64,
    /// CPU time of the target, nanoseconds.
    pub cpu_ns: u64,
    /// Memory of the target at the end, bytes; of merged intervals the largest among them. `None`
    /// if unknown.
    pub memory: Option<u64>,
    /// Times of TCP handshakes of connections that the target opened.
    pub connect: TimeHistogram,
    /// Round trips of established connections.
    pub round_trip: TimeHistogram,
    /// Response times of DNS queries of the target.
    pub dns: TimeHistogram,
}

impl Interval {
    /// End, nanoseconds since the Unix epoch.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }

    /// Whether nothing happened. Open connections and memory alone are nothing.
    pub fn is_empty(&self) -> bool {
        let Self { start_ns, length_ns, open, memory, .. } = *self;
        *self == Self { start_ns, length_ns, open, memory, ..Self::default() }
    }

    /// Adds a later interval, and extends this one to its end.
    pub fn merge(&mut self, later: &Self) {
        self.length_ns = later.end_ns().saturating_sub(self.start_ns);
        self.totals += later.totals;
        self.active = self.active.max(later.active);
        self.open = self.open.max(later.open);
        self.memory = self.memory.max(later.memory);
        for (sum, part) in [
            (&mut self.opened, later.opened),
            (&mut self.connections, later.connections),
            (&mut self.closed, later.closed),
            (&mut self.failed, later.failed),
            (&mut self.tcp_packets, later.tcp_packets),
            (&mut self.retransmitted, later.retransmitted),
            (&mut self.dns_failed, later.dns_failed),
            (&mut self.lost, later.lost),
            (&mut self.cpu_ns, later.cpu_ns),
        ] {
            *sum = sum.saturating_add(part);
        }
        self.connect.merge(&later.connect);
        self.round_trip.merge(&later.round_trip);
        self.dns.merge(&later.dns);
    }
}
