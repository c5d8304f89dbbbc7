//! The flow table: not a BPF hash map but plain memory that the classifier and user space share.
//! Therefore
//!
//! - a lookup costs neither a helper call nor the kernel's hash of 40 bytes,
//! - user space reads the counters in place, without a system call per entry,
//! - an entry can leave the table without losing a packet.
//!
//! The table consists of buckets with eight tags each, and of entries in segments that are added as
//! flows arrive. A tag holds a part of the key's hash and the number of an entry. Each key has two
//! possible buckets; its tag goes into the first that has room.
//!
//! **Adding** (by the classifier): take a free entry, write its key, then publish it with one
//! compare-and-exchange of a tag. If two CPUs add the same key at the same time, the key has two
//! entries and user space adds them up. Exactness does not require a key to be in the table once.
//!
//! **Superseding** (by the classifier): when another connection begins on a key, its entry takes
//! the tag of the entry before, whose [`epoch`](crate::flow::FlowValue::epoch) it continues and
//! which it marks [`superseded`](crate::flow::FlowValue::superseded). From then on no lookup finds
//! the old entry, and no slot in a front refers to it: the slots of all CPUs are disabled, and a
//! CPU that assigns one meanwhile frees it when it finds the mark. The next drain retires the old
//! entry.
//!
//! **Retiring** (by user space): mark the entry [`retiring`](crate::flow::FlowValue::retiring),
//! remove its tag, flush the front of every CPU (after which no program and no front refers to the
//! entry), read the counters for the last time, clear the entry, and only then free its number.
//! Packets that arrive meanwhile find no tag and get a new entry.

use crate::flow::{EntryKey, FlowValue};

/// A flow in the table.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowEntry {
    /// The flow's key.
    pub key: EntryKey,
    /// Its counters and state.
    pub value: FlowValue,
}

/// Entries of one segment, the unit by which the table grows: 1 MiB.
pub const SEGMENT: u32 = 4096;
/// Tags of a bucket: one cache line.
pub const TAGS: usize = 8;
/// Low bits of a tag: the number of the entry plus one, so that no tag is 0.
const NUMBER_BITS: u32 = 24;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// Maximum number of entries of any table.
pub const MAX_ENTRIES: u32 = (1 << NUMBER_BITS) - 1;

/// Tags of keys that hash to this bucket; 0 marks a free place.
#[repr(C, align(64))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// See [`tag`].
    pub tags: [u64; TAGS],
}

/// The tag of an entry: 40 bits of the key's hash and the entry's number.
#[inline(always)]
pub fn tag(hash: u64, number: u32) -> u64 {
    (hash & !NUMBER) | (number as u64 + 1)
}

/// Whether a tag may belong to a key with this hash. Of other keys in the same bucket, one in 2⁴⁰
/// matches too.
#[inline(always)]
pub fn matches(tag: u64, hash: u64) -> bool {
    (tag ^ hash) & !NUMBER == 0 && tag & NUMBER != 0
}

/// The entry number in a tag. Meaningless for 0.
#[inline(always)]
pub fn number(tag: u64) -> u32 {
    ((tag & NUMBER) as u32).wrapping_sub(1)
}

/// The two buckets of a hash, in a table of `mask` + 1 buckets.
#[inline(always)]
pub fn buckets(hash: u64, mask: u32) -> [u32; 2] {
    let first = hash as u32;
    [first & mask, (first ^ ((hash >> 32) as u32).wrapping_mul(0x9e37_79b1)) & mask]
}

/// Number of buckets of a table with this many entries: a power of two, with at least twice as many
/// tags as entries.
pub fn bucket_count(entries: u32) -> u32 {
    (entries.div_ceil(TAGS as u32) * 2).next_power_of_two()
}

/// What the FREE ring holds for a number at a position: the number, and above it the position plus
/// one. A CPU that may read the ring's words out of order (arm64) can see a position in `free_tail`
/// before the number there, and then finds the number of an earlier lap, which is in use.
#[inline(always)]
pub fn freed(number: u32, position: u64) -> u64 {
    (((position as u32).wrapping_add(1) as u64) << 32) | number as u64
}

/// The number that [`freed`] stored for a position; `None` if the word is not that of the position.
#[inline(always)]
pub fn freed_number(word: u64, position: u64) -> Option<u32> {
    if (word >> 32) as u32 == (position as u32).wrapping_add(1) { Some(word as u32) } else { None }
}

/// State of the free entries, shared by both sides. One element of the CONTROL map.
#[repr(C, align(64))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Entries below this number were allocated at least once. Advanced by the classifier; lost
    /// races advance it past `limit`.
    pub next: u64,
    /// Entries below this number have memory and may be allocated. Advanced by user space.
    pub limit: u64,
    /// Numbers taken from the FREE ring. Advanced by the classifier.
    pub free_head: u64,
    /// Numbers put into the FREE ring. Advanced by user space.
    pub free_tail: u64,
    /// The kernel's tick count when the program `tick` last ran.
    pub jiffies: u64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<FlowEntry>() == 256 && align_of::<FlowEntry>() == 8);
    assert!(offset_of!(FlowEntry, value) == 40);
    assert!(size_of::<Bucket>() == 64 && size_of::<Control>() == 64);
    assert!(SEGMENT.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_returns_its_number_and_matches_only_its_hash() {
        for (hash, entry) in [(0, 0), (u64::MAX, MAX_ENTRIES - 1), (0x1234_5678_9abc_def0, 77)] {
            let made = tag(hash, entry);
            assert_eq!(number(made), entry);
            assert!(matches(made, hash) && !matches(made, hash ^ (1 << 40)) && made != 0);
        }
        assert!(!matches(0, 0), "a free place matches no hash");
    }

    #[test]
    fn a_freed_number_is_found_at_its_position_only() {
        assert_eq!(freed_number(0, 0), None, "nothing was freed yet");
        for position in [0, 1, u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 40] {
            let word = freed(MAX_ENTRIES - 1, position);
            assert_eq!(freed_number(word, position), Some(MAX_ENTRIES - 1));
            assert_eq!(freed_number(word, position + 4096), None, "the next lap");
        }
    }

    #[test]
    fn a_table_has_at_least_twice_as_many_tags_as_entries() {
        for entries in [1, 8, 16, crate::config::defaults::MAX_FLOWS, MAX_ENTRIES] {
            let buckets = bucket_count(entries);
            assert!(buckets.is_power_of_two() && u64::from(buckets) * TAGS as u64 >= 2 * u64::from(entries));
        }
    }
}
