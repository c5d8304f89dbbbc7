//! What is kept of a packet while it is counted: working memory, in which one program leaves what the next goes on with.
//!
//! Where softirqs are not preempted, a CPU has one packet at a time, and one memory is enough. With PREEMPT_RT a packet's program may be
//! preempted by another's on the same CPU, and the two may take turns in any order: since Linux 6.18 sections with softirqs off do not exclude
//! each other there (unless it is built with PREEMPT_RT_NEEDS_BH_LOCK). So each takes a memory that is free, marks it with the address of its
//! socket buffer, which no other program has meanwhile, finds it by that, and gives it back.

use aya_ebpf::programs::TcContext;
use netwatch_common::hash::Words;
use netwatch_common::observation::Observation;

use crate::atomic::replace;
use crate::maps::SCRATCH;
use crate::settings::settings;

/// Memories of each CPU. So many packets may be counted at the same time where they preempt each other.
pub const COUNT: u32 = 4;

/// What is kept of a packet while it is counted.
#[repr(C)]
pub struct Scratch {
    /// Whose it is where packets preempt each other: the address of a socket buffer, 0 while it is free.
    owner: u64,
    /// Where the packet was seen: a [`Hook`](netwatch_common::parse::Hook).
    pub hook: u32,
    /// Why it is to be sampled: one of `netwatch_common::sample::reason`.
    pub reason: u32,
    /// For [`Skb::forget`](netwatch_common::parse::Frame::forget).
    pub word: u64,
    /// The flow's key as words and its hash.
    pub words: Words,
    pub hash: u64,
    /// The number of its entry.
    pub number: u32,
    /// Whether user space is to be told of the packet: one of `netwatch_common::account::news`.
    pub news: u32,
    pub seen: Observation,
}

/// Whether packets preempt each other: then there is no front either. Decided before the load, so one of both ways is all that the verifier
/// sees and the kernel keeps.
#[inline(always)]
pub fn is_contended() -> bool {
    settings().front() == 0
}

/// A memory for the packet, where there may be others. None if all are taken.
#[inline(always)]
pub fn claim(ctx: &TcContext) -> Option<*mut Scratch> {
    for number in 0..COUNT {
        let scratch = SCRATCH.get_ptr_mut(number)?;
        // SAFETY: a live map value.
        if unsafe { replace(&raw mut (*scratch).owner, 0, mark(ctx)) } {
            return Some(scratch);
        }
    }
    None
}

/// The packet's memory: the one that was claimed for it, or the only one.
#[inline(always)]
pub fn claimed(ctx: &TcContext) -> Option<*mut Scratch> {
    let mut found = 0;
    if is_contended() {
        for number in 0..COUNT {
            let scratch = SCRATCH.get_ptr_mut(number)?;
            // SAFETY: a live map value; read in one piece.
            let owner = unsafe { (&raw const (*scratch).owner).read_volatile() };
            // Chosen, not branched to: each branch would be a path for the verifier.
            found = if owner == mark(ctx) { number } else { found };
        }
    }
    SCRATCH.get_ptr_mut(found)
}

/// Gives it back, when the packet is counted. Looks for it again, so that nothing has to be kept for this where it is not needed.
#[inline(always)]
pub fn release(ctx: &TcContext) {
    if is_contended()
        && let Some(scratch) = claimed(ctx)
    {
        // SAFETY: a live map value, ours until now. Volatile: programs of this CPU are the only others, and see stores in order.
        unsafe { (&raw mut (*scratch).owner).write_volatile(0) }
    }
}

#[inline(always)]
fn mark(ctx: &TcContext) -> u64 {
    ctx.skb.skb as u64
}
