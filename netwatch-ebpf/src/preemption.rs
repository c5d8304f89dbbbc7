//! Allocates scratch memory for a packet.
//!
//! Where softirqs are not preempted, a CPU processes one packet at a time, and one scratch memory
//! is enough. With PREEMPT_RT, the program of one packet may be preempted by the program of another
//! packet on the same CPU, in any order: since Linux 6.18, sections with softirqs off do not
//! exclude each other there (unless built with PREEMPT_RT_NEEDS_BH_LOCK). Therefore each packet
//! claims a free scratch memory by writing the address of its socket buffer into it, which is
//! unique at that time; later programs in the chain find the memory by that address; the last one
//! releases it.

use aya_ebpf::programs::TcContext;

use crate::atomic::replace;
use crate::maps::SCRATCH;
use crate::scratch::{SCRATCH_PER_CPU, Scratch};
use crate::settings::settings;

/// Whether packets may preempt each other; then the front is off. This is decided before the load,
/// so the verifier and the kernel only keep the code for one case.
#[inline(always)]
pub fn is_preemptible() -> bool {
    settings().front() == 0
}

/// Claims a scratch memory for the packet where packets preempt each other. None if all are taken.
#[inline(always)]
pub fn claim(ctx: &TcContext) -> Option<*mut Scratch> {
    for number in 0..SCRATCH_PER_CPU {
        let scratch = SCRATCH.get_ptr_mut(number)?;
        // SAFETY: a live map value.
        if unsafe { replace(&raw mut (*scratch).owner, 0, owner(ctx)) } {
            return Some(scratch);
        }
    }
    None
}

/// The packet's scratch memory: the one it claimed, or the only one.
#[inline(always)]
pub fn claimed(ctx: &TcContext) -> Option<*mut Scratch> {
    let mut found = 0;
    if is_preemptible() {
        for number in 0..SCRATCH_PER_CPU {
            let scratch = SCRATCH.get_ptr_mut(number)?;
            // SAFETY: a live map value; a word is read atomically.
            let stored = unsafe { (&raw const (*scratch).owner).read_volatile() };
            // Selected, not branched to: each branch would be another path for the verifier.
            found = if stored == owner(ctx) { number } else { found };
        }
    }
    SCRATCH.get_ptr_mut(found)
}

/// Releases the packet's scratch memory after the packet was counted. It searches again, so that
/// the caller need not keep the pointer where there is nothing to release.
#[inline(always)]
pub fn release(ctx: &TcContext) {
    if is_preemptible()
        && let Some(scratch) = claimed(ctx)
    {
        // SAFETY: a live map value, claimed until now. Volatile: only programs of this CPU read it,
        // and they see stores in order.
        unsafe { (&raw mut (*scratch).owner).write_volatile(0) }
    }
}

#[inline(always)]
fn owner(ctx: &TcContext) -> u64 {
    ctx.skb.skb as u64
}
