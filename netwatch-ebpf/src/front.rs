//! The front in the classifier, and the short path of a packet: parse, find the slot, count.
//! Packets that the short path declines continue on the middle or the long path.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::programs::TcContext;
use netwatch_common::access::Access;
use netwatch_common::front::{self, Front, FrontHead, Slot};
use netwatch_common::hash::{self, is_same};
use netwatch_common::observation::{PlainPacket, Size};
use netwatch_common::parse::{self, Frame, Hook, IpFamily, Packet};
use netwatch_common::round_trip::{self, RttProbe};

use crate::atomic::{SharedAccess, replace32};
use crate::maps::{CONTROL, FRONTS, HEADS, RTT_PROBES};
use crate::preemption;
use crate::settings::settings;
use crate::skb::{Skb, meta};

/// Time of the kernel's tick, ns of the boot-time clock: see `netwatch_common::front`.
#[inline(always)]
pub fn tick_ns(head: *const FrontHead) -> u64 {
    // SAFETY: no arguments, no memory; a live map value.
    unsafe { bpf_jiffies64().wrapping_mul((*head).tick_ns).wrapping_add((*head).tick_base_ns) }
}

/// Stores the tick count for user space.
#[inline(always)]
pub fn store_tick() {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: a live map value that only this program writes; no arguments, no memory.
        unsafe { (*control).jiffies = bpf_jiffies64() };
    }
}

/// Result of the short path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ShortPathResult {
    /// The packet is counted.
    Counted,
    /// Another flow has the slot. The hash of the packet's flow.
    SlotTaken(u64),
    /// The flow is new, or the packet needs more than counting.
    Declined,
    /// The front is off, because packets preempt each other.
    NoFront,
}

/// Counts the packet in the front if it needs nothing else.
#[inline(always)]
pub fn count(ctx: &TcContext, hook: Hook) -> ShortPathResult {
    if preemption::is_preemptible() {
        return ShortPathResult::NoFront;
    }
    // Helpers first: the kernel inlines them, but the compiler treats them as calls and saves its
    // registers before them.
    let (Some(head), Some(front)) = (head(), own()) else { return ShortPathResult::Declined };
    let now_ns = tick_ns(head);
    let skb = Skb::direct(ctx);
    // Compiled once per IP version: half of an IPv4 address is constant.
    match parse::ip_family(&skb) {
        Some(IpFamily::V4) => count_family(IpFamily::V4, ctx, hook, &skb, (head, front), now_ns),
        Some(IpFamily::V6) => count_family(IpFamily::V6, ctx, hook, &skb, (head, front), now_ns),
        None => ShortPathResult::Declined,
    }
}

#[inline(always)]
fn count_family(
    family: IpFamily,
    ctx: &TcContext,
    hook: Hook,
    skb: &Skb,
    (head, front): (*mut FrontHead, *mut Front),
    now_ns: u64,
) -> ShortPathResult {
    let meta = meta(ctx);
    // Rare on a veth, and each case would be another path for the verifier.
    if meta.tagged || (meta.gso_segs == 0 && meta.gso_size != 0) {
        return ShortPathResult::Declined;
    }
    let mut packet = Packet::default();
    if !parse::quick_of(family, skb, &meta, &mut packet) {
        return ShortPathResult::Declined;
    }
    let (key, direction) = parse::orient(&packet, hook);
    let words = hash::words(&key);
    let hash = hash::hash(words);
    let slot = slot(front, hash);
    // SAFETY: belongs to this CPU. The mark prevents an interrupt from flushing the front
    // meanwhile.
    unsafe {
        enter(head);
        let outcome = if is_flushing(head) || is_due(head) {
            ShortPathResult::Declined
        } else if !is_same(&raw const (*slot).key, &words) {
            if front::is_taken(slot) { ShortPathResult::SlotTaken(hash) } else { ShortPathResult::Declined }
        } else {
            let size = Size::new(skb.len(), &meta, &packet);
            let seen = PlainPacket { packet: &packet, size: &size, direction, now_ns };
            if front::count(slot, hash, &seen, rtt_probe) {
                count_down(head);
                ShortPathResult::Counted
            } else {
                ShortPathResult::Declined
            }
        };
        leave(head);
        outcome
    }
}

/// The round-trip probe of the flow with this hash.
#[inline(always)]
pub fn rtt_probe(hash: u64) -> Option<*const RttProbe> {
    RTT_PROBES.get_ptr(round_trip::probe_index(hash))
}

/// Whether the sampling interval selects the next packet, which then takes the long path.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn is_due(head: *const FrontHead) -> bool {
    // SAFETY: guaranteed by the caller.
    settings().sample_interval() != 0 && unsafe { (*head).countdown <= 1 }
}

/// Counts down to the next packet that the sampling interval selects, after a packet was counted
/// that is not due. A packet that continues on another path is counted down there.
///
/// # Safety
/// As for [`is_due`].
#[inline(always)]
pub unsafe fn count_down(head: *mut FrontHead) {
    if settings().sample_interval() != 0 {
        // SAFETY: guaranteed by the caller.
        unsafe { (*head).countdown -= 1 };
    }
}

/// Whether the sampling interval selects this packet, for the long path. Counts down if it does
/// not.
#[inline(always)]
pub fn is_selected(head: *mut FrontHead) -> bool {
    let interval = settings().sample_interval();
    if interval == 0 {
        return false;
    }
    // SAFETY: belongs to this CPU. Two packets that preempt each other may count down by one.
    unsafe {
        let due = is_due(head);
        (*head).countdown = if due { interval } else { (*head).countdown - 1 };
        due
    }
}

/// The state of this CPU.
#[inline(always)]
pub fn head() -> Option<*mut FrontHead> {
    HEADS.get_ptr_mut(cpu())
}

/// The front of this CPU. `None` on a CPU that came online after the load, with a higher number
/// than all others.
#[inline(always)]
pub fn own() -> Option<*mut Front> {
    FRONTS.get_ptr_mut(cpu())
}

/// The number of this CPU.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { bpf_get_smp_processor_id() as u32 }
}

/// The slot of a front for a hash.
#[inline(always)]
pub fn slot(front: *mut Front, hash: u64) -> *mut Slot {
    // SAFETY: the index is below the number of slots.
    unsafe { (&raw mut (*front).slots).cast::<Slot>().add(front::slot_index(hash) as usize) }
}

/// Marks that a packet is being counted on this CPU.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn enter(head: *mut FrontHead) {
    // SAFETY: guaranteed by the caller. Volatile: the only reader is an interrupt of this CPU,
    // which sees stores in order.
    unsafe { (&raw mut (*head).active).write_volatile(1) }
}

/// Ends what [`enter`] began.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn leave(head: *mut FrontHead) {
    // SAFETY: guaranteed by the caller.
    unsafe { (&raw mut (*head).active).write_volatile(0) }
}

/// As [`enter`], also where packets preempt each other. There the mark is a count, so that a packet
/// that ends does not remove the mark of another.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn enter_preemptible(head: *mut FrontHead) {
    // SAFETY: guaranteed by the caller.
    unsafe { if preemption::is_preemptible() { SharedAccess::add32(&raw mut (*head).active, 1) } else { enter(head) } }
}

/// Ends what [`enter_preemptible`] began.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn leave_preemptible(head: *mut FrontHead) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if preemption::is_preemptible() { SharedAccess::add32(&raw mut (*head).active, u32::MAX) } else { leave(head) }
    }
}

/// Whether the front is being flushed.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn is_flushing(head: *mut FrontHead) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (&raw const (*head).flushing).read_volatile() != 0 }
}

/// A full memory barrier: an atomic exchange, because the instruction set has nothing else.
///
/// # Safety
/// `head` belongs to this CPU.
#[inline(always)]
pub unsafe fn barrier(head: *mut FrontHead) {
    // SAFETY: guaranteed by the caller. Nothing else writes this word, and its value stays the
    // same.
    unsafe { replace32(&raw mut (*head).barrier, 0, 0) };
}

/// Stores the number of an entry that was allocated and not used, for the next new flow on this
/// CPU. One spare is enough, because it is used before any other entry is allocated. A second spare
/// only occurs where packets preempt each other; it overwrites the first, and only the memory of
/// that entry is lost.
#[inline(always)]
pub fn store_spare(head: *mut FrontHead, number: u32) {
    // SAFETY: belongs to this CPU.
    unsafe { (*head).spare = number + 1 };
}

/// Takes the spare entry, if there is one that has memory by now.
#[inline(always)]
pub fn take_spare(head: *mut FrontHead, limit: u64) -> Option<u32> {
    // SAFETY: belongs to this CPU. Atomic, so that a packet that preempts this one cannot take the
    // same entry, which would count two flows in one entry.
    unsafe {
        let spare = &raw mut (*head).spare;
        let stored = spare.read_volatile();
        let is_taken = stored != 0 && u64::from(stored) <= limit && replace32(spare, stored, 0);
        is_taken.then(|| stored - 1)
    }
}
