//! Traffic over time: the sums of steps, not of packets.

use crate::flow::{Counters, PerDirection};

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Its start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Its length, nanoseconds. Steps do not overlap; between two of them there may be a gap in which nothing was counted.
    pub length_ns: u64,
    /// What the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// Flows that began.
    pub opened: u64,
    /// Flows that carried something.
    pub active: u64,
}

/// A run's traffic over time, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// The steps: fine ones at the end, older ones may have been folded.
    pub steps: Vec<Step>,
}
