//! Limits of memory, and counters of what exceeded them.

use serde::Serialize;

/// Limits of memory, for any traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    /// Bytes of payload that are buffered per direction of a flow. As vectors grow, up to twice
    /// that is allocated.
    pub direction_bytes: usize,
    /// Bytes of payload of all flows that are buffered (up to twice that is allocated).
    pub waiting_bytes: usize,
    /// Flows that are being read.
    pub open_flows: usize,
    /// Flows of which facts are kept.
    pub flows: usize,
    /// Addresses of which names are kept.
    pub addresses: usize,
    /// Different DNS lookups.
    pub lookups: usize,
    /// DNS queries whose response is pending.
    pub pending: usize,
    /// Bytes of names and other text in each of the three tables (flows, addresses, lookups).
    pub table_bytes: usize,
}

impl Default for NameLimits {
    /// For live sessions, where the classifier samples about 8 KiB of each direction: the packet
    /// that exceeds this is the last one sampled.
    fn default() -> Self {
        Self {
            direction_bytes: 8 << 10,
            waiting_bytes: 16 << 20,
            open_flows: 4096,
            // The maximum that fits into a hash table before it doubles.
            flows: (1 << 17) / 8 * 7,
            addresses: 65_536,
            lookups: 16_384,
            pending: 4096,
            table_bytes: 16 << 20,
        }
    }
}

impl NameLimits {
    /// For captures, which contain all of every packet.
    pub fn replay() -> Self {
        Self { direction_bytes: 64 << 10, waiting_bytes: 64 << 20, ..Self::default() }
    }
}

/// What exceeded the limits or could not be parsed, by reason. It affects names and never counters.
/// The JSON report has these fields.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamesLost {
    /// Directions of flows in which a message was recognized that exceeded the limit, or whose
    /// pieces were too far apart.
    pub direction_bytes: u64,
    /// Flows that were closed, the oldest first, because all flows together buffered too many
    /// bytes.
    pub waiting_bytes: u64,
    /// Flows that were closed, the oldest first, because too many were being read; counted if a
    /// message was incomplete or a further sample arrived.
    pub open_flows: u64,
    /// Flows whose facts were evicted to make room for newer ones, the oldest first.
    pub flows: u64,
    /// Addresses whose names were evicted, the oldest first.
    pub addresses: u64,
    /// Names beyond the limit of one address or one flow.
    pub names: u64,
    /// New lookups when the table was full.
    pub lookups: u64,
    /// Pending queries that were evicted before their response, the oldest first.
    pub pending: u64,
    /// Questions and records beyond the limits of one DNS message.
    pub records: u64,
    /// Header blocks of HTTP/2 that could not be decoded: later requests of that flow are unknown.
    pub http2_broken: u64,
}

impl NamesLost {
    /// The sum over all reasons.
    pub fn sum(&self) -> u64 {
        let Self {
            direction_bytes,
            waiting_bytes,
            open_flows,
            flows,
            addresses,
            names,
            lookups,
            pending,
            records,
            http2_broken,
        } = *self;
        let all = [
            direction_bytes,
            waiting_bytes,
            open_flows,
            flows,
            addresses,
            names,
            lookups,
            pending,
            records,
            http2_broken,
        ];
        all.into_iter().fold(0, u64::saturating_add)
    }
}
