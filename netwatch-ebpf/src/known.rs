//! The middle way: a packet that needs nothing but counting, of a flow whose slot of the front is another's. It is counted in its flow's
//! entry.

use aya_ebpf::programs::TcContext;
use netwatch_common::front::{self as rules, Front, Plain};
use netwatch_common::hash::{self, is_same};
use netwatch_common::observation::Size;
use netwatch_common::parse::{self, Frame, Hook, Packet};
use netwatch_common::stage;

use crate::account::{forget, proceed};
use crate::atomic::Shared;
use crate::front;
use crate::maps::SCRATCH;
use crate::scratch::Scratch;
use crate::skb::{Skb, meta};
use crate::table::{self, Place};

/// As [`crate::account::hand_over`], to here, with the hash of the packet's flow.
#[inline(always)]
pub fn hand_over(ctx: &TcContext, hook: Hook, hash: u64) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: this CPU's own until the program ends: where there is a front, packets do not preempt each other.
        unsafe { ((*scratch).hook, (*scratch).hash) = (hook as u32, hash) };
        proceed(ctx, stage::KNOWN);
    }
}

/// Counts the packet, or goes the long way.
#[inline(always)]
pub fn packet(ctx: &TcContext) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `hand_over`, of which this is the continuation.
        let scratch = unsafe { &mut *scratch };
        table::expect(scratch.hash);
        if !read(ctx, scratch) || !count(scratch) {
            proceed(ctx, stage::ACCOUNT);
        }
    }
}

/// Reads the packet again: the short way keeps nothing of it, because what it kept would be on the stack for every packet. Into memory
/// that the verifier does not track, so that it follows one path from there.
#[inline(always)]
fn read(ctx: &TcContext, scratch: &mut Scratch) -> bool {
    let (skb, meta) = (Skb::direct(ctx), meta(ctx));
    scratch.seen.packet = Packet::default();
    if !parse::quick(&skb, &meta, &mut scratch.seen.packet) {
        return false;
    }
    scratch.seen.size = Size::of(skb.len(), &meta, &scratch.seen.packet);
    let hook = Hook::from_number(scratch.hook);
    let key;
    (key, scratch.seen.direction) = parse::orient(&scratch.seen.packet, hook);
    scratch.words = hash::words(&key);
    true
}

#[inline(always)]
fn count(scratch: &mut Scratch) -> bool {
    let scratch = forget(scratch);
    let Some(front) = front::own() else { return false };
    // SAFETY: a live map value of this CPU's own. The mark comes before the look-up: while it is set, no entry that is found here is given to
    // another flow.
    unsafe {
        let head = &raw mut (*front).head;
        scratch.seen.now_ns = front::tick_ns(head);
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
