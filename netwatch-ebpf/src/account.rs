//! Counts a packet: in its flow's entry, or in a remainder's. Every packet ends in exactly one of them.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, keys and entries would be copied to the small stack"
)]

use core::intrinsics::{AtomicOrdering, atomic_or, atomic_xadd};

use aya_ebpf::bindings::{BPF_NOEXIST, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use netwatch_common::account::{self, Cells};
use netwatch_common::flow::FlowValue;
use netwatch_common::observation::Observation;
use netwatch_common::parse::{self, Frame, Hook};
use netwatch_common::{remainder, stage, stat as slot};

use crate::maps::{CONFIG, EVENTS, FLOWS, REMAINDERS, SCRATCH, STAGES};
use crate::skb::{Skb, meta};
use crate::{fragment as fragments, sample, stat};

const E2BIG: i32 = -7;
const EBUSY: i32 = -16;
const EEXIST: i32 = -17;

/// What every entry starts as; in read-only data, because the stack is small.
static EMPTY: FlowValue = FlowValue::EMPTY;

/// Memory that several CPUs change at the same time.
pub struct Shared;

impl Cells for Shared {
    #[inline(always)]
    unsafe fn add64(cell: *mut u64, value: u64) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(cell, value) };
    }
    #[inline(always)]
    unsafe fn add32(cell: *mut u32, value: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(cell, value) };
    }
    #[inline(always)]
    unsafe fn or32(cell: *mut u32, bits: u32) {
        // SAFETY: the caller's promise.
        unsafe { atomic_or::<u32, u32, { AtomicOrdering::Relaxed }>(cell, bits) };
    }
}

/// What is kept of a packet while it is counted.
#[repr(C)]
pub struct Scratch {
    /// Where it was seen: a [`Hook`].
    hook: u32,
    /// Why it is to be sampled: one of `netwatch_common::sample::reason`.
    reason: u32,
    /// For [`Skb::forget`](netwatch_common::parse::Frame::forget).
    word: u64,
    seen: Observation,
}

/// Notes where the packet was seen and goes on in [`packet`]. Returns only if user space forgot to fill STAGES.
#[inline(always)]
pub fn hand_over(ctx: &TcContext, hook: Hook) -> i32 {
    // There is always an element 0. The classifier runs with softirqs off: nobody else on this CPU uses it meanwhile.
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: ours until the program ends, see above.
        unsafe { (*scratch).hook = hook as u32 };
        proceed(ctx, stage::ACCOUNT);
    }
    TC_ACT_UNSPEC
}

/// Parses, counts, then samples.
#[inline(always)]
pub fn packet(ctx: &TcContext) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: as in `hand_over`, of which this is the continuation.
    let scratch = unsafe { &mut *scratch };
    let meta = meta(ctx);
    // SAFETY: a word of the scratch memory that only the frame uses.
    let skb = unsafe { Skb::new(ctx, (&raw mut scratch.word).cast()) };
    parse::parse(&skb, &meta, &mut scratch.seen.packet);
    let scratch = forget(scratch);
    if scratch.seen.packet.incomplete && skb.is_short() {
        if skb.pull(ctx) {
            proceed(ctx, stage::ACCOUNT);
        }
        stat::count(slot::UNREADABLE);
        debug!(ctx, "headers of a packet of {} bytes are out of reach", ctx.len());
    }
    let hook = Hook::from_number(scratch.hook);
    // SAFETY: no arguments, no memory.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    scratch.seen.complete(skb.len(), &meta, hook, now_ns, &mut fragments::Map);
    let scratch = forget(scratch);
    if let Some(reason) = count(ctx, &scratch.seen) {
        scratch.reason = u32::from(reason);
        proceed(ctx, stage::SAMPLE);
    }
}

/// Samples the packet that [`packet`] has counted.
#[inline(always)]
pub fn sampled(ctx: &TcContext) {
    if let Some(scratch) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: as in `hand_over`, of which this is the continuation.
        let scratch = unsafe { &*scratch };
        sample::take(ctx, &scratch.seen, scratch.reason as u8);
    }
}

/// From here on the verifier, which does not track map memory, and the compiler, which would put constants back in its
/// place, both take what is there for unknown: one path goes on, not one for every path that led here.
#[inline(always)]
fn forget(scratch: &mut Scratch) -> &mut Scratch {
    core::hint::black_box(scratch)
}

/// Continues in another program. Returns only if that fails.
#[inline(always)]
fn proceed(ctx: &TcContext, stage: u32) {
    // SAFETY: a tail call between programs of the same type.
    unsafe { STAGES.tail_call(ctx, stage) };
}

/// Counts the packet. Returns the reason to sample it, if there is one.
#[inline(always)]
fn count(ctx: &TcContext, seen: &Observation) -> Option<u8> {
    let value = entry(ctx, seen);
    if value.is_null() {
        return None;
    }
    // SAFETY: `entry` returns a live map value; RCU keeps it until the program ends.
    unsafe {
        account::record::<Shared>(value, seen);
        let half = account::half(value, seen.direction);
        account::wants_sample::<Shared>(half, seen, &CONFIG.load())
    }
}

/// The entry a packet is counted in.
#[inline(always)]
fn entry(ctx: &TcContext, seen: &Observation) -> *mut FlowValue {
    if remainder::is_fixed(&seen.key) {
        return remainder_entry(seen);
    }
    if let Some(value) = FLOWS.get_ptr_mut(&seen.key) {
        return value;
    }
    insert(ctx, seen)
}

/// Adds a flow. The errors of an insert mean different things, and none of them forgets the packet.
#[inline(always)]
fn insert(ctx: &TcContext, seen: &Observation) -> *mut FlowValue {
    match FLOWS.insert(&seen.key, &EMPTY, BPF_NOEXIST.into()) {
        Ok(()) => announce(seen),
        // Another CPU was faster: its entry is ours.
        Err(EEXIST) => {}
        Err(E2BIG) => stat::count(slot::TABLE_FULL),
        Err(EBUSY) => stat::count(slot::INSERT_BUSY),
        Err(errno) => {
            stat::count(slot::INSERT_FAILED);
            debug!(ctx, "flow refused: errno {}", errno);
        }
    }
    match FLOWS.get_ptr_mut(&seen.key) {
        Some(value) => opened(value, seen),
        None => remainder_entry(seen),
    }
}

#[inline(always)]
fn remainder_entry(seen: &Observation) -> *mut FlowValue {
    let Some(value) = REMAINDERS.get_ptr_mut(remainder::slot(&seen.key)) else {
        return core::ptr::null_mut();
    };
    opened(value, seen)
}

/// Notes the first packet. Two of them at once, on two CPUs, write nearly the same.
#[inline(always)]
fn opened(value: *mut FlowValue, seen: &Observation) -> *mut FlowValue {
    // SAFETY: a live map value.
    unsafe {
        if (*value).first_seen_ns == 0 {
            account::open(value, seen);
        }
    }
    value
}

/// Tells user space of a new flow.
#[inline(always)]
fn announce(seen: &Observation) {
    if CONFIG.load().announce == 0 {
        return;
    }
    sample::announce(&EVENTS, seen);
}
