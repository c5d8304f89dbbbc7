//! Slots of the STATS map: one counter per reason why an observation was lost. Packets are not
//! lost: each is counted under its flow or a remainder. The exception is [`UNSELECTED`].

/// A sample found no room in the SAMPLES ring.
pub const SAMPLES_LOST: u32 = 0;
/// The notification of a new flow found no room in the EVENTS ring.
pub const EVENTS_LOST: u32 = 1;
/// The headers of a packet are outside of linear memory and could not be pulled into it; the packet
/// was counted as malformed.
pub const UNREADABLE: u32 = 2;
/// A packet of a new flow found no free entry.
pub const TABLE_FULL: u32 = 3;
/// A packet of a new flow found a free entry, but no free tag in either of its buckets.
pub const BUCKETS_FULL: u32 = 4;
/// A packet of a new flow lost every race against other CPUs for a free entry or tag.
pub const INSERT_BUSY: u32 = 5;
/// A packet found no scratch memory, because it preempted too many others (PREEMPT_RT).
pub const SCRATCH_BUSY: u32 = 6;
/// A new process or a new socket could not be selected (`--pid-only`): its packets are not counted.
/// Sockets that user space found are not among them: their packets are counted without a mark.
/// While one of them that listens cannot be marked, the connections that it accepts are missing.
pub const UNSELECTED: u32 = 7;
/// Number of slots.
pub const COUNT: u32 = 8;
