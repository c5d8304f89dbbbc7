//! The middle way: a packet that needs nothing but counting, of a flow whose slot of the front is another's. It is counted in its flow's
//! entry. A program of its own that gets what the short way has read, so that the verifier follows it once and from nowhere.

use aya_ebpf::programs::TcContext;
use netwatch_common::front::{self as rules, Front, Plain};
use netwatch_common::hash::{Words, is_same};
use netwatch_common::parse::Hook;
use netwatch_common::stage;

use crate::account::{Scratch, proceed};
use crate::atomic::Shared;
use crate::front;
use crate::maps::SCRATCH;
use crate::table::{self, Place};

/// Notes what is known of the packet and goes on in [`packet`]. Returns only if user space forgot to fill STAGES.
#[inline(always)]
pub fn hand_over(ctx: &TcContext, hook: Hook, words: &Words, hash: u64, seen: &Plain<'_>) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own until the program ends: the classifier runs with softirqs off.
    unsafe {
        (*scratch).hook = hook as u32;
        (*scratch).words = *words;
        (*scratch).hash = hash;
        (*scratch).seen.packet = *seen.packet;
        (*scratch).seen.size = *seen.size;
        (*scratch).seen.direction = seen.direction;
        (*scratch).seen.now_ns = seen.now_ns;
    }
    proceed(ctx, stage::KNOWN);
}

/// Counts the packet, or goes the long way.
#[inline(always)]
pub fn packet(ctx: &TcContext) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `hand_over`, of which this is the continuation.
        if !unsafe { count(&*scratch) } {
            proceed(ctx, stage::ACCOUNT);
        }
    }
}

/// # Safety
/// The scratch memory is of this packet.
#[inline(always)]
unsafe fn count(scratch: &Scratch) -> bool {
    let Some(front) = front::own() else { return false };
    // SAFETY: a live map value of this CPU's own. The mark comes before the look-up: while it is set, no entry that is found here is given to
    // another flow.
    unsafe {
        let head = &raw mut (*front).head;
        front::enter(head);
        let counted = !front::is_flushing(head) && count_marked(front, scratch);
        front::leave(head);
        counted
    }
}

/// # Safety
/// `front` is this CPU's own, and nobody else changes it.
#[inline(always)]
unsafe fn count_marked(front: *mut Front, scratch: &Scratch) -> bool {
    let Scratch { words, hash, seen, .. } = scratch;
    let slot = front::slot(front, *hash);
    // SAFETY: live map values, of which the slot is ours.
    unsafe {
        // A flush may have come since the short way looked.
        if !rules::is_taken(slot) || is_same(&raw const (*slot).key, words) {
            return false;
        }
        let Some(Place { entry, .. }) = table::find(words, *hash) else { return false };
        let plain = Plain { packet: &seen.packet, size: &seen.size, direction: seen.direction, now_ns: seen.now_ns };
        rules::count_in_entry::<Shared>(slot, &raw mut (*entry).value, *hash, &plain, front::probe)
    }
}
