//! The flow table in the classifier: looks up entries and adds them. `netwatch_common::table`
//! describes the design.

use netwatch_common::front::FrontHead;
use netwatch_common::hash::{Words, is_same};
use netwatch_common::stat as slot;
use netwatch_common::table::{self, Bucket, Control, FlowEntry, SEGMENT, TAGS};

use crate::atomic::{fetch_add, replace};
use crate::front;
use crate::maps::{BUCKETS, CONTROL, FREE, SEGMENTS};
use crate::settings::settings;
use crate::stat;

/// Maximum number of races that a packet may lose before it is counted by protocol.
const MAX_TRIES: usize = 4;

/// An entry and its number.
#[derive(Clone, Copy)]
pub struct EntryRef {
    pub number: u32,
    pub entry: *mut FlowEntry,
}

/// The entry with this number, if it has memory.
#[inline(always)]
pub fn entry(number: u32) -> Option<*mut FlowEntry> {
    SEGMENTS.get_ptr_mut(number / SEGMENT, number % SEGMENT)
}

/// Reads a word of the bucket that [`find`] will search first, so that the cache line is loaded
/// while the packet is parsed. With many flows the bucket is usually not in the cache.
#[inline(always)]
pub fn prefetch(hash: u64) {
    let [first, _] = table::buckets(hash, settings().bucket_mask());
    if let Some(bucket) = BUCKETS.get_ptr_mut(first) {
        // SAFETY: a live bucket.
        let _unused = unsafe { tag_at(bucket, 0).read_volatile() };
    }
}

/// Finds the entry of a key.
#[inline(always)]
pub fn find(words: &Words, hash: u64) -> Option<EntryRef> {
    find_except(words, hash, 0)
}

/// Finds the entry of a key whose tag is not `except`.
#[inline(always)]
pub fn find_except(words: &Words, hash: u64, except: u64) -> Option<EntryRef> {
    let [first, second] = table::buckets(hash, settings().bucket_mask());
    let tag = match tag_in(first, hash, except) {
        0 => tag_in(second, hash, except),
        found => found,
    };
    if tag == 0 {
        return None;
    }
    let number = table::number(tag);
    let entry = entry(number)?;
    // SAFETY: a live entry; its key was written before its tag.
    if unsafe { is_same(&raw const (*entry).key, words) } { Some(EntryRef { number, entry }) } else { None }
}

/// Finds the tag for this hash in a bucket that is not `except`; 0 if there is none.
#[inline(always)]
fn tag_in(bucket: u32, hash: u64, except: u64) -> u64 {
    let Some(bucket) = BUCKETS.get_ptr_mut(bucket) else { return 0 };
    let mut found = 0;
    for place in 0..TAGS {
        // SAFETY: a live bucket; a tag is read atomically.
        let tag = unsafe { tag_at(bucket, place).read_volatile() };
        // Selected, not branched to: sixteen branches would be sixteen paths for the verifier.
        found = if table::matches(tag, hash) && tag != except { tag } else { found };
    }
    found
}

#[inline(always)]
fn tag_at(bucket: *mut Bucket, place: usize) -> *mut u64 {
    // SAFETY: within the bucket.
    unsafe { (&raw mut (*bucket).tags).cast::<u64>().add(place) }
}

/// Adds the first entry with this key. Returns `None`, and counts the reason, if that fails.
#[inline(always)]
pub fn add(head: *mut FrontHead, words: &Words, hash: u64) -> Option<EntryRef> {
    let new = create(head, words, 0)?;
    if publish(hash, new.number) {
        return Some(new);
    }
    front::store_spare(head, new.number);
    stat::count(slot::BUCKETS_FULL);
    None
}

/// Takes a free entry for this key, without publishing it. Returns `None`, and counts the reason,
/// if there is none.
#[inline(always)]
pub fn create(head: *mut FrontHead, words: &Words, epoch: u32) -> Option<EntryRef> {
    let control = CONTROL.get_ptr_mut(0)?;
    let number = allocate(head, control)?;
    let entry = entry(number)?;
    // SAFETY: an allocated entry that nothing else refers to; user space has cleared it. A spare
    // one has an epoch.
    unsafe {
        (&raw mut (*entry).key).cast::<Words>().write(*words);
        (*entry).value.epoch = epoch;
    }
    Some(EntryRef { number, entry })
}

/// Replaces the tag of an entry. Returns false if the entry has none any more.
#[inline(always)]
pub fn replace_tag(hash: u64, old: u32, new: u64) -> bool {
    let [first, second] = table::buckets(hash, settings().bucket_mask());
    let old = table::tag(hash, old);
    exchange(first, old, new) || exchange(second, old, new)
}

/// Publishes an entry. Returns false if both buckets are full.
#[inline(always)]
pub fn publish(hash: u64, number: u32) -> bool {
    let [first, second] = table::buckets(hash, settings().bucket_mask());
    let tag = table::tag(hash, number);
    exchange(first, 0, tag) || exchange(second, 0, tag)
}

/// Replaces the first tag of a bucket that is `old`. Returns false if there is none.
#[inline(always)]
fn exchange(bucket: u32, old: u64, new: u64) -> bool {
    let Some(bucket) = BUCKETS.get_ptr_mut(bucket) else { return false };
    for place in 0..TAGS {
        let tag = tag_at(bucket, place);
        // SAFETY: a live bucket.
        if unsafe { tag.read_volatile() == old && replace(tag, old, new) } {
            return true;
        }
    }
    false
}

/// Allocates an entry and returns its number: the spare of this CPU, one that was freed, or the
/// next that was never used.
#[inline(always)]
fn allocate(head: *mut FrontHead, control: *mut Control) -> Option<u32> {
    // SAFETY: a live element; each field is read atomically.
    let limit = unsafe { (&raw const (*control).limit).read_volatile() };
    if let Some(spare) = front::take_spare(head, limit) {
        return Some(spare);
    }
    if let Some(freed) = take_freed(control) {
        return Some(freed);
    }
    // SAFETY: as above.
    unsafe {
        if (&raw const (*control).next).read_volatile() >= limit {
            stat::count(slot::TABLE_FULL);
            return None;
        }
        let number = fetch_add(&raw mut (*control).next, 1);
        if number >= limit {
            // Lost a race for the last entries. This entry will have memory when the table grows.
            front::store_spare(head, number as u32);
            stat::count(slot::INSERT_BUSY);
            return None;
        }
        Some(number as u32)
    }
}

/// Takes an entry from the ring of freed ones.
#[inline(always)]
fn take_freed(control: *mut Control) -> Option<u32> {
    // SAFETY: a live element; each field is read atomically.
    unsafe {
        for _ in 0..MAX_TRIES {
            let head = (&raw const (*control).free_head).read_volatile();
            let tail = (&raw const (*control).free_tail).read_volatile();
            if head == tail {
                return None;
            }
            let place = FREE.get_ptr(head as u32 & settings().free_mask())?;
            // The number may become visible after the tail: then the next packet takes it.
            let number = table::freed_number(place.read_volatile(), head)?;
            if replace(&raw mut (*control).free_head, head, head + 1) {
                return Some(number);
            }
        }
    }
    None
}
