//! The flow table: not a BPF hash map but plain memory that both sides map, because then
//!
//! - a look-up costs no helper call and no hash of 40 bytes behind it,
//! - user space reads the counters where they are, without a system call for each entry,
//! - and an entry can leave without losing a packet.
//!
//! It is made of buckets of eight tags, each half a hash and the number of an entry, and of entries in segments that
//! are added as flows come. Two places are possible for a key; it is put into the first that has room.
//!
//! **Adding** (the classifier): take a free entry, write its key, then publish it with one compare-and-exchange of a tag. Two
//! CPUs may add the same key at the same time; it then has two entries, which user space adds up. Exactness does not
//! need a key to be in the table once.
//!
//! **Leaving** (user space): mark the entry [`retiring`](crate::flow::FlowValue::retiring), take its tag out, let every CPU
//! flush its front (after which no program, and no front, holds the entry's number), read the counters for the last time,
//! clear the entry, and only then make its number free again. Packets that come meanwhile find no tag and get a new entry.

use crate::flow::{FlowKey, FlowValue};

/// A flow in the table.
#[repr(C, align(8))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What is counted here.
    pub key: FlowKey,
    /// What is known about it.
    pub value: FlowValue,
}

/// Entries of one segment: what the table grows by. 1 MiB.
pub const SEGMENT: u32 = 4096;
/// Tags of a bucket: one line of the cache.
pub const TAGS: usize = 8;
/// A tag's low bits: number of the entry plus one, so that no tag is 0.
const NUMBER_BITS: u32 = 24;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// No table can have more entries.
pub const MAX_ENTRIES: u32 = (1 << NUMBER_BITS) - 1;

/// Tags of keys whose hash leads here; 0 is a free place.
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

/// Whether a tag may be that of a key with this hash. Of keys in the same bucket, one in 2⁴⁰ is wrong.
#[inline(always)]
pub fn matches(tag: u64, hash: u64) -> bool {
    (tag ^ hash) & !NUMBER == 0 && tag & NUMBER != 0
}

/// The entry's number that a tag holds. Means nothing for 0.
#[inline(always)]
pub fn number(tag: u64) -> u32 {
    ((tag & NUMBER) as u32).wrapping_sub(1)
}

/// The two buckets of a hash, in a table of `mask` + 1.
#[inline(always)]
pub fn buckets(hash: u64, mask: u32) -> [u32; 2] {
    let first = hash as u32;
    [first & mask, (first ^ ((hash >> 32) as u32).wrapping_mul(0x9e37_79b1)) & mask]
}

/// How many buckets a table for so many entries has: a power of two, with twice as many tags as entries or more.
pub fn bucket_count(entries: u32) -> u32 {
    (entries.div_ceil(TAGS as u32) * 2).next_power_of_two()
}

/// What both sides agree on about free entries. One element of the CONTROL map.
#[repr(C, align(64))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// Entries below this number were given out at least once. Advanced by the classifier, past `limit` by lost races.
    pub next: u64,
    /// Entries that have memory: numbers below this may be given out. Advanced by user space.
    pub limit: u64,
    /// Numbers taken from the FREE ring. Advanced by the classifier.
    pub free_head: u64,
    /// Numbers put into the FREE ring. Advanced by user space.
    pub free_tail: u64,
    /// The kernel's count of ticks when the program `tick` ran last.
    pub jiffies: u64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Entry>() == 256 && align_of::<Entry>() == 8);
    assert!(offset_of!(Entry, value) == 40);
    assert!(size_of::<Bucket>() == 64 && size_of::<Control>() == 64);
    assert!(SEGMENT.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_its_number_back_and_matches_its_hash_alone() {
        for (hash, entry) in [(0, 0), (u64::MAX, MAX_ENTRIES - 1), (0x1234_5678_9abc_def0, 77)] {
            let made = tag(hash, entry);
            assert_eq!(number(made), entry);
            assert!(matches(made, hash) && !matches(made, hash ^ (1 << 40)) && made != 0);
        }
        assert!(!matches(0, 0), "a free place is nobody's");
    }

    #[test]
    fn there_are_at_least_twice_as_many_places_as_entries() {
        for entries in [1, 8, 16, 131_072, MAX_ENTRIES] {
            let buckets = bucket_count(entries);
            assert!(buckets.is_power_of_two() && u64::from(buckets) * TAGS as u64 >= 2 * u64::from(entries));
        }
    }
}
