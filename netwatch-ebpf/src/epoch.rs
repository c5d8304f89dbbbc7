//! Another connection on a five-tuple: its SYN adds an entry, with the next epoch, in place of the
//! entry of the connection before. `netwatch_common::table` describes how the old entry leaves.

use aya_ebpf::programs::TcContext;
use netwatch_common::front::{self as rules, FrontHead};
use netwatch_common::hash::{Words, is_same};
use netwatch_common::{handshake, round_trip, stage, stat as slots, table as layout};

use crate::front;
use crate::long_path::{continue_in, forget, slot_entry};
use crate::maps::{FRONTS, RTT_PROBES};
use crate::preemption;
use crate::scratch::{Scratch, next_epoch};
use crate::settings::settings;
use crate::stat;
use crate::table::{self, EntryRef};

/// Adds the entry, and continues on the long path, which counts the packet in it.
#[inline(always)]
pub fn begin(ctx: &TcContext) {
    let Some(scratch) = preemption::claimed(ctx) else { return };
    // SAFETY: exclusive, as on the long path.
    let scratch = unsafe { &mut *scratch };
    let Some(head) = front::head() else { return };
    // SAFETY: belongs to this CPU; the mark keeps an interrupt from flushing the front, and the old
    // entry from being given to another flow.
    unsafe {
        front::enter_preemptible(head);
        scratch.next_epoch = add(head, scratch);
        front::leave_preemptible(head);
    }
    continue_in(ctx, stage::LONG_PATH);
}

/// # Safety
/// `head` belongs to this CPU, and nothing else changes its front.
#[inline(always)]
unsafe fn add(head: *mut FrontHead, scratch: &mut Scratch) -> u32 {
    // SAFETY: guaranteed by the caller. The entry is searched again: it may have been given to
    // another flow since the long path left the front.
    let old = unsafe { slot_entry(head, scratch) }.or_else(|| table::find(&scratch.words, scratch.hash));
    scratch.number = old.map_or(u32::MAX, |old| old.number);
    // Wherever the entry was found, the verifier follows one path from here.
    let scratch = forget(scratch);
    // Without an entry, the long path adds one.
    let Some(entry) = table::entry(scratch.number) else { return next_epoch::ADDED };
    let old = EntryRef { number: scratch.number, entry };
    // SAFETY: live map values.
    unsafe {
        let value = &raw mut (*old.entry).value;
        // Another CPU may have added an entry meanwhile.
        if (*value).first_seen_ns == 0 || !handshake::begins_another(value, &scratch.seen) {
            return next_epoch::ADDED;
        }
        let next = (*value).epoch.wrapping_add(1);
        let Some(new) = table::create(head, &scratch.words, next) else {
            return next_epoch::NO_ROOM;
        };
        supersede(old);
        if !table::replace_tag(scratch.hash, old.number, layout::tag(scratch.hash, new.number)) {
            return publish(head, scratch, new);
        }
        supersede_duplicate(scratch, new);
        disable_slots(&scratch.words, scratch.hash);
    }
    disarm(scratch.hash);
    next_epoch::ADDED
}

/// The old entry has no tag any more: user space is retiring it, or another CPU was faster, whose
/// entry is then used.
#[inline(always)]
fn publish(head: *mut FrontHead, scratch: &Scratch, new: EntryRef) -> u32 {
    if table::find(&scratch.words, scratch.hash).is_none() {
        if table::publish(scratch.hash, new.number) {
            return next_epoch::ADDED;
        }
        stat::count(slots::BUCKETS_FULL);
        front::store_spare(head, new.number);
        return next_epoch::NO_ROOM;
    }
    front::store_spare(head, new.number);
    next_epoch::ADDED
}

/// # Safety
/// `old` is a live entry.
#[inline(always)]
unsafe fn supersede(old: EntryRef) {
    // SAFETY: guaranteed by the caller. The exchange of the tag that follows is a full barrier: a
    // CPU that still finds the old tag and then assigns a slot to its flow finds this mark.
    unsafe { (&raw mut (*old.entry).value.superseded).write_volatile(1) }
}

/// Supersedes the other entry of the old connection, if two CPUs added it at the same time. More
/// than two are not expected; they would be superseded by the connection after this one.
#[inline(always)]
fn supersede_duplicate(scratch: &Scratch, new: EntryRef) {
    let tag = layout::tag(scratch.hash, new.number);
    if let Some(other) = table::find_except(&scratch.words, scratch.hash, tag) {
        // SAFETY: a live map value.
        unsafe { supersede(other) };
        table::replace_tag(scratch.hash, other.number, 0);
    }
}

/// Disables the slots of all CPUs that refer to the old entry: the next packet that hits one of
/// them takes the long path, which merges and frees the slot. Other CPUs may use their slots
/// meanwhile; they only read this byte, except when they assign a slot, after which they check the
/// entry.
///
/// # Safety
/// The fronts are live map values.
#[inline(always)]
unsafe fn disable_slots(words: &Words, hash: u64) {
    if preemption::is_preemptible() {
        return;
    }
    for cpu in 0..settings().fronts() {
        let Some(front) = FRONTS.get_ptr_mut(cpu) else { break };
        let slot = front::slot(front, hash);
        // SAFETY: guaranteed by the caller.
        unsafe {
            if is_same(&raw const (*slot).key, words) {
                (&raw mut (*slot).slow_path_mask).write_volatile(rules::DISABLED);
            }
        }
    }
}

/// Abandons a round-trip measurement of the old connection.
#[inline(always)]
fn disarm(hash: u64) {
    if let Some(probe) = RTT_PROBES.get_ptr_mut(round_trip::probe_index(hash)) {
        // SAFETY: a live map value.
        unsafe { round_trip::disarm(probe, hash) }
    }
}
