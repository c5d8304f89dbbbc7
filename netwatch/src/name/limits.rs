//! How much is kept, and what was not kept.

use serde::Serialize;

/// Bounds of memory. They hold whatever the traffic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameLimits {
    /// Bytes of payload that wait for more, per direction of a flow. As vectors grow, up to twice that is allocated.
    pub direction_bytes: usize,
    /// Bytes of payload that wait for more, of all flows together (and up to twice that is allocated).
    pub waiting_bytes: usize,
    /// Flows that wait for more.
    pub open_flows: usize,
    /// Flows of which it is kept what was learned.
    pub flows: usize,
    /// Addresses of which names are kept.
    pub addresses: usize,
    /// Different questions of DNS that are kept.
    pub lookups: usize,
    /// Questions of DNS that wait for their answer.
    pub pending: usize,
    /// Bytes of names and other text in each of the three tables (flows, addresses, lookups), whatever is in them.
    pub table_bytes: usize,
}

impl Default for NameLimits {
    /// For live runs, where the classifier takes about 8 KiB of each direction: the packet that exceeds them is the last.
    fn default() -> Self {
        Self {
            direction_bytes: 8 << 10,
            waiting_bytes: 16 << 20,
            open_flows: 4096,
            // The most that fit a hash table before it doubles.
            flows: (1 << 17) / 8 * 7,
            addresses: 65_536,
            lookups: 16_384,
            pending: 4096,
            table_bytes: 16 << 20,
        }
    }
}

impl NameLimits {
    /// For captures, where all of every packet is there.
    pub fn replay() -> Self {
        Self { direction_bytes: 64 << 10, waiting_bytes: 64 << 20, ..Self::default() }
    }
}

/// What could not be kept or read, by reason. Each costs names, none costs counts. The document has them as they are here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamesLost {
    /// Directions of flows in which something began that had more bytes than may wait, or pieces too far apart.
    pub direction_bytes: u64,
    /// Flows that were given up because all together had more bytes waiting than they may: the oldest.
    pub waiting_bytes: u64,
    /// Flows that were given up because too many were waiting: the oldest.
    pub open_flows: u64,
    /// Flows whose facts were evicted to make room for newer ones: the oldest.
    pub flows: u64,
    /// Addresses whose names were forgotten: the oldest.
    pub addresses: u64,
    /// Names of one address, or of one flow, beyond what is kept of each.
    pub names: u64,
    /// Questions that were new when there was no room for more.
    pub lookups: u64,
    /// Questions that were forgotten before an answer came: the oldest.
    pub pending: u64,
    /// Questions and records of DNS messages that had more than are read.
    pub records: u64,
    /// Headers of HTTP/2 that could not be followed: requests of that flow behind them are not known.
    pub http2_broken: u64,
}

impl NamesLost {
    /// All of them, whatever their reason.
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
