//! Slots of the STATS map: one counter per reason why something was not observed. Packets are never among them: each is
//! counted under its flow or under a remainder.

/// A sample found no room in the ring.
pub const SAMPLES_LOST: u32 = 0;
/// The announcement of a new flow found no room in the ring.
pub const EVENTS_LOST: u32 = 1;
/// A packet's headers are not in linear memory and could not be pulled there; it was counted as malformed.
pub const UNREADABLE: u32 = 2;
/// A packet of a new flow found no free entry.
pub const TABLE_FULL: u32 = 3;
/// A packet of a new flow found a free entry, but no free place in either of its buckets.
pub const BUCKETS_FULL: u32 = 4;
/// A packet of a new flow lost every race for a free entry or place against other CPUs.
pub const INSERT_BUSY: u32 = 5;
/// A packet found no working memory, because it preempted too many others (PREEMPT_RT).
pub const SCRATCH_BUSY: u32 = 6;
/// How many slots there are.
pub const COUNT: u32 = 7;
