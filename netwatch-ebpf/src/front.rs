//! The classifier's side of the front, and the short way of a packet: parse, find the slot, count, done. Everything else goes on
//! in `account`.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::programs::TcContext;
use netwatch_common::account::Cells;
use netwatch_common::front::{self, Front, Head, Plain, Slot};
use netwatch_common::hash::{self, is_same};
use netwatch_common::observation::Size;
use netwatch_common::parse::{self, Family, Frame, Hook, Packet};
use netwatch_common::round_trip::{self, Probe};

use crate::atomic::{Shared, replace32};
use crate::maps::{CONTROL, FRONTS, PROBES};
use crate::scratch;
use crate::settings::settings;
use crate::skb::{Skb, meta};

/// The kernel's tick as a time: see `netwatch_common::front`.
#[inline(always)]
pub fn tick_ns(head: *const Head) -> u64 {
    // SAFETY: no arguments, no memory; a live map value.
    unsafe { bpf_jiffies64().wrapping_mul((*head).tick_ns).wrapping_add((*head).tick_base_ns) }
}

/// Tells user space the count of ticks.
#[inline(always)]
pub fn tell_tick() {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: a live map value that only this program writes; no arguments, no memory.
        unsafe { (*control).jiffies = bpf_jiffies64() };
    }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is counted.
    Counted,
    /// Its slot is another flow's. The hash of its own.
    OthersSlot(u64),
    /// It is new, or needs more than counting.
    NeedsMore,
    /// There is no front, because packets preempt each other.
    NoFront,
}

/// Counts the packet in the front if that is all it needs.
#[inline(always)]
pub fn count(ctx: &TcContext, hook: Hook) -> Outcome {
    if scratch::is_contended() {
        return Outcome::NoFront;
    }
    // Helpers first, although in line: the compiler takes them for calls, before which it saves what it holds.
    let Some(front) = own() else { return Outcome::NeedsMore };
    // SAFETY: a live map value.
    let now_ns = tick_ns(unsafe { &raw const (*front).head });
    let skb = Skb::direct(ctx);
    // Compiled for each family: half of an IPv4 address is known.
    match parse::family(&skb) {
        Some(Family::V4) => count_of(Family::V4, ctx, hook, &skb, front, now_ns),
        Some(Family::V6) => count_of(Family::V6, ctx, hook, &skb, front, now_ns),
        None => Outcome::NeedsMore,
    }
}

#[inline(always)]
fn count_of(family: Family, ctx: &TcContext, hook: Hook, skb: &Skb, front: *mut Front, now_ns: u64) -> Outcome {
    let meta = meta(ctx);
    // Rare on a veth, and each would be paths of its own for the verifier.
    if meta.tagged || (meta.gso_segs == 0 && meta.gso_size != 0) {
        return Outcome::NeedsMore;
    }
    let mut packet = Packet::default();
    if !parse::quick_of(family, skb, &meta, &mut packet) {
        return Outcome::NeedsMore;
    }
    // SAFETY: a live map value.
    let head = unsafe { &raw mut (*front).head };
    let (key, direction) = parse::orient(&packet, hook);
    let words = hash::words(&key);
    let hash = hash::hash(words);
    let slot = slot(front, hash);
    // SAFETY: this CPU's own. The mark keeps an interrupt from flushing the front meanwhile.
    unsafe {
        enter(head);
        let outcome = if is_flushing(head) || !is_unsampled(head) {
            Outcome::NeedsMore
        } else if !is_same(&raw const (*slot).key, &words) {
            if front::is_taken(slot) { Outcome::OthersSlot(hash) } else { Outcome::NeedsMore }
        } else {
            let size = Size::of(skb.len(), &meta, &packet);
            let seen = Plain { packet: &packet, size: &size, direction, now_ns };
            if front::count(slot, hash, &seen, probe) { Outcome::Counted } else { Outcome::NeedsMore }
        };
        leave(head);
        outcome
    }
}

#[inline(always)]
pub fn probe(hash: u64) -> Option<*const Probe> {
    PROBES.get_ptr(round_trip::place(hash))
}

/// One in so many packets is sampled, whatever it is.
///
/// # Safety
/// `head` is this CPU's own.
#[inline(always)]
unsafe fn is_unsampled(head: *mut Head) -> bool {
    if settings().sample_interval() == 0 {
        return true;
    }
    // SAFETY: the caller's promise.
    unsafe {
        if (*head).countdown <= 1 {
            return false;
        }
        (*head).countdown -= 1;
    }
    true
}

/// For the long way: whether this is the one. Counts it down if not.
#[inline(always)]
pub fn is_due(head: *mut Head) -> bool {
    let interval = settings().sample_interval();
    if interval == 0 {
        return false;
    }
    // SAFETY: this CPU's own. Packets that preempt each other may count one down for two.
    unsafe {
        let due = (*head).countdown <= 1;
        (*head).countdown = if due { interval } else { (*head).countdown - 1 };
        due
    }
}

/// This CPU's front.
#[inline(always)]
pub fn own() -> Option<*mut Front> {
    // SAFETY: no arguments, no memory.
    FRONTS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)
}

/// Its slot for a hash.
#[inline(always)]
pub fn slot(front: *mut Front, hash: u64) -> *mut Slot {
    // SAFETY: the number is under that of slots.
    unsafe { (&raw mut (*front).slots).cast::<Slot>().add(front::slot(hash) as usize) }
}

/// # Safety
/// `head` is this CPU's own.
#[inline(always)]
pub unsafe fn enter(head: *mut Head) {
    // SAFETY: the caller's promise. Volatile: an interrupt of this CPU is the only reader, and sees stores in order.
    unsafe { (&raw mut (*head).active).write_volatile(1) }
}

/// # Safety
/// `head` is this CPU's own.
#[inline(always)]
pub unsafe fn leave(head: *mut Head) {
    // SAFETY: as above.
    unsafe { (&raw mut (*head).active).write_volatile(0) }
}

/// As [`enter`], also where packets preempt each other. There they are counted: of two, the one that ends first must not end the other's mark.
///
/// # Safety
/// `head` is this CPU's own.
#[inline(always)]
pub unsafe fn enter_amid_others(head: *mut Head) {
    // SAFETY: the caller's promise.
    unsafe { if scratch::is_contended() { Shared::add32(&raw mut (*head).active, 1) } else { enter(head) } }
}

/// The end of what [`enter_amid_others`] began.
///
/// # Safety
/// As there.
#[inline(always)]
pub unsafe fn leave_amid_others(head: *mut Head) {
    // SAFETY: as above.
    unsafe { if scratch::is_contended() { Shared::add32(&raw mut (*head).active, u32::MAX) } else { leave(head) } }
}

/// # Safety
/// `head` is this CPU's own.
#[inline(always)]
pub unsafe fn is_flushing(head: *mut Head) -> bool {
    // SAFETY: as above.
    unsafe { (&raw const (*head).flushing).read_volatile() != 0 }
}

/// Keeps the number of an entry that was taken and not used, for the next flow on this CPU. One is enough: it is taken before
/// any other, so a second is only given up where packets preempt each other, and then only that entry's memory is lost.
#[inline(always)]
pub fn keep_spare(head: *mut Head, number: u32) {
    // SAFETY: this CPU's own.
    unsafe { (*head).spare = number + 1 };
}

/// The entry that was kept, if it has memory by now.
#[inline(always)]
pub fn take_spare(head: *mut Head, limit: u64) -> Option<u32> {
    // SAFETY: this CPU's own. Another packet that preempts this one must not take the same: two flows would be counted in one entry.
    unsafe {
        let spare = &raw mut (*head).spare;
        let kept = spare.read_volatile();
        let is_ours = kept != 0 && u64::from(kept) <= limit && replace32(spare, kept, 0);
        is_ours.then(|| kept - 1)
    }
}
