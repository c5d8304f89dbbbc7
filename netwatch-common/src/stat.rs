//! Slots of the STATS map: one counter per reason why something was not observed. Packets are never among them: each is
//! counted under its flow or under a remainder.

/// A sample found no room in the ring.
pub const SAMPLES_LOST: u32 = 0;
/// The announcement of a new flow found no room in the ring.
pub const EVENTS_LOST: u32 = 1;
/// A packet's headers are not in linear memory and could not be pulled there; it was counted as malformed.
pub const UNREADABLE: u32 = 2;
/// A packet found the flow table full (E2BIG).
pub const TABLE_FULL: u32 = 3;
/// A flow could not be inserted: bucket lock busy (EBUSY).
pub const INSERT_BUSY: u32 = 4;
/// A flow could not be inserted: no memory, or an errno nobody expects.
pub const INSERT_FAILED: u32 = 5;
/// How many slots there are.
pub const COUNT: u32 = 6;
