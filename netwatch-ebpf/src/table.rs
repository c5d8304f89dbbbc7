//! The classifier's side of the flow table: looks entries up and adds them. How it all fits together is told in
//! `netwatch_common::table`.

use aya_ebpf::helpers::bpf_map_lookup_elem;
use netwatch_common::front::Head;
use netwatch_common::hash::{Words, is_same};
use netwatch_common::stat as slot;
use netwatch_common::table::{self, Bucket, Control, Entry, SEGMENT, TAGS};

use crate::atomic::{fetch_add, replace};
use crate::front;
use crate::maps::{BUCKETS, CONTROL, FREE, SEGMENTS};
use crate::settings::settings;
use crate::stat;

/// Races that one packet may lose before it is counted under its protocol.
const TRIES: usize = 4;

/// An entry and its number.
#[derive(Clone, Copy)]
pub struct Place {
    pub number: u32,
    pub entry: *mut Entry,
}

/// The entry of this number, if there is memory for it.
#[inline(always)]
pub fn entry(number: u32) -> Option<*mut Entry> {
    let (segment, within) = (number / SEGMENT, number % SEGMENT);
    // SAFETY: the outer map holds arrays of entries, so what is found in one of those points to an entry.
    unsafe {
        let array = bpf_map_lookup_elem((&raw const SEGMENTS).cast_mut().cast(), (&raw const segment).cast());
        if array.is_null() {
            return None;
        }
        let entry = bpf_map_lookup_elem(array, (&raw const within).cast());
        if entry.is_null() { None } else { Some(entry.cast()) }
    }
}

/// Reads a word of the bucket that [`find`] will look into first, for nothing but that it is in the cache by then: with many flows it is
/// not, and the CPU waits for it while it does the rest.
#[inline(always)]
pub fn expect(hash: u64) {
    let [first, _] = table::buckets(hash, settings().bucket_mask());
    if let Some(bucket) = BUCKETS.get_ptr_mut(first) {
        // SAFETY: a live bucket.
        let _unused = unsafe { cell(bucket, 0).read_volatile() };
    }
}

/// The entry of a key.
#[inline(always)]
pub fn find(words: &Words, hash: u64) -> Option<Place> {
    let [first, second] = table::buckets(hash, settings().bucket_mask());
    let tag = match tag_in(first, hash) {
        0 => tag_in(second, hash),
        found => found,
    };
    if tag == 0 {
        return None;
    }
    let number = table::number(tag);
    let entry = entry(number)?;
    // SAFETY: a live entry; its key was written before its tag.
    if unsafe { is_same(&raw const (*entry).key, words) } { Some(Place { number, entry }) } else { None }
}

/// The tag for this hash in a bucket, 0 if there is none.
#[inline(always)]
fn tag_in(bucket: u32, hash: u64) -> u64 {
    let Some(bucket) = BUCKETS.get_ptr_mut(bucket) else { return 0 };
    let mut found = 0;
    for place in 0..TAGS {
        // SAFETY: a live bucket; a tag is read in one piece.
        let tag = unsafe { cell(bucket, place).read_volatile() };
        // Chosen, not branched to: sixteen branches would be sixteen paths for the verifier.
        found = if table::matches(tag, hash) { tag } else { found };
    }
    found
}

#[inline(always)]
fn cell(bucket: *mut Bucket, place: usize) -> *mut u64 {
    // SAFETY: within the bucket.
    unsafe { (&raw mut (*bucket).tags).cast::<u64>().add(place) }
}

/// A new entry with this key. `None`, counted by its reason, if there can be none.
#[inline(always)]
pub fn add(head: *mut Head, words: &Words, hash: u64) -> Option<Place> {
    let control = CONTROL.get_ptr_mut(0)?;
    let number = take(head, control)?;
    let entry = entry(number)?;
    // SAFETY: a free entry that only we know of; user space cleared it.
    unsafe { (&raw mut (*entry).key).cast::<Words>().write(*words) };
    let [first, second] = table::buckets(hash, settings().bucket_mask());
    let tag = table::tag(hash, number);
    if publish(first, tag) || publish(second, tag) {
        return Some(Place { number, entry });
    }
    front::keep_spare(head, number);
    stat::count(slot::BUCKETS_FULL);
    None
}

/// Puts a tag into the first free place of a bucket.
#[inline(always)]
fn publish(bucket: u32, tag: u64) -> bool {
    let Some(bucket) = BUCKETS.get_ptr_mut(bucket) else { return false };
    for place in 0..TAGS {
        let cell = cell(bucket, place);
        // SAFETY: a live bucket.
        if unsafe { cell.read_volatile() == 0 && replace(cell, 0, tag) } {
            return true;
        }
    }
    false
}

/// The number of a free entry: one that was left over here, one that was freed, or the next that was never used.
#[inline(always)]
fn take(head: *mut Head, control: *mut Control) -> Option<u32> {
    // SAFETY: a live element; each field is read in one piece.
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
            // Lost a race for the last ones. It will have memory when the table grows.
            front::keep_spare(head, number as u32);
            stat::count(slot::INSERT_BUSY);
            return None;
        }
        Some(number as u32)
    }
}

#[inline(always)]
fn take_freed(control: *mut Control) -> Option<u32> {
    // SAFETY: a live element; each field is read in one piece.
    unsafe {
        for _ in 0..TRIES {
            let head = (&raw const (*control).free_head).read_volatile();
            let tail = (&raw const (*control).free_tail).read_volatile();
            if head == tail {
                return None;
            }
            let number = FREE.get(head as u32 & settings().free_mask()).copied()?;
            if replace(&raw mut (*control).free_head, head, head + 1) {
                return Some(number as u32);
            }
        }
    }
    None
}
