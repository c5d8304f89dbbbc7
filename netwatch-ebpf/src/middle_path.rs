//! The middle path: a packet that needs nothing but counting, of a flow whose slot in the front is
//! taken by another flow. It is counted in the flow's entry.

use aya_ebpf::programs::TcContext;
use netwatch_common::front::{self as rules, Front};
use netwatch_common::hash::{self, is_same};
use netwatch_common::observation::{PlainPacket, Size};
use netwatch_common::parse::{self, Frame, Hook, Packet};
use netwatch_common::stage;

use crate::atomic::SharedAccess;
use crate::front;
use crate::long_path::{continue_in, forget};
use crate::maps::SCRATCH;
use crate::scratch::Scratch;
use crate::skb::{Skb, meta};
use crate::table::{self, EntryRef};

/// Continues in [`count_packet`] with the hash of the packet's flow. Returns only if STAGES is not
/// filled.
#[inline(always)]
pub fn tail_call(ctx: &TcContext, hook: Hook, hash: u64) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: exclusive until the program ends: where there is a front, packets do not preempt
        // each other.
        unsafe { ((*scratch).hook, (*scratch).hash) = (hook as u32, hash) };
        continue_in(ctx, stage::MIDDLE_PATH);
    }
}

/// Counts the packet, or continues on the long path.
#[inline(always)]
pub fn count_packet(ctx: &TcContext) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `tail_call`.
        let scratch = unsafe { &mut *scratch };
        table::prefetch(scratch.hash);
        if !parse(ctx, scratch) || !count(scratch) {
            continue_in(ctx, stage::LONG_PATH);
        }
    }
}

/// Parses the packet again: the short path does not store the parsed packet, because that would
/// take stack space for every packet. The result goes into map memory, whose contents the verifier
/// does not track, so that it follows one path from there.
#[inline(always)]
fn parse(ctx: &TcContext, scratch: &mut Scratch) -> bool {
    let (skb, meta) = (Skb::direct(ctx), meta(ctx));
    scratch.seen.packet = Packet::default();
    if !parse::quick(&skb, &meta, &mut scratch.seen.packet) {
        return false;
    }
    scratch.seen.size = Size::new(skb.len(), &meta, &scratch.seen.packet);
    let hook = Hook::from_number(scratch.hook);
    let key;
    (key, scratch.seen.direction) = parse::orient(&scratch.seen.packet, hook);
    scratch.words = hash::words(&key);
    true
}

#[inline(always)]
fn count(scratch: &mut Scratch) -> bool {
    let scratch = forget(scratch);
    let (Some(head), Some(front)) = (front::head(), front::own()) else { return false };
    // SAFETY: a live map value of this CPU. The mark is set before the lookup: while it is set, no
    // entry that is found here is given to another flow.
    unsafe {
        scratch.seen.now_ns = front::tick_ns(head);
        front::enter(head);
        let counted = !front::is_flushing(head) && count_in_entry(front, scratch);
        if counted {
            front::count_down(head);
        }
        front::leave(head);
        counted
    }
}

/// # Safety
/// `front` belongs to this CPU, and nothing else changes it.
#[inline(always)]
unsafe fn count_in_entry(front: *mut Front, scratch: &Scratch) -> bool {
    let Scratch { words, hash, seen, .. } = scratch;
    let slot = front::slot(front, *hash);
    // SAFETY: live map values; the slot is exclusive.
    unsafe {
        // A flush may have run since the short path checked.
        if !rules::is_taken(slot) || is_same(&raw const (*slot).key, words) {
            return false;
        }
        let Some(EntryRef { entry, .. }) = table::find(words, *hash) else { return false };
        let plain =
            PlainPacket { packet: &seen.packet, size: &seen.size, direction: seen.direction, now_ns: seen.now_ns };
        rules::count_in_entry::<SharedAccess>(slot, &raw mut (*entry).value, *hash, &plain, front::rtt_probe)
    }
}
