//! Merges what a CPU's front has counted into the flows' entries. User space runs it on that very CPU (`BPF_F_TEST_RUN_ON_CPU`), where
//! it comes as an interrupt; or as a process, if user space is on that CPU already.
//!
//! As an interrupt it may come amid a packet, and then refuses (`active`). As a process it may be interrupted by packets, which then keep
//! out of the front (`flushing`). So each side has the front for itself, without a lock and without an atomic.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::front::{self, Front, GROUPS, PER_FLUSH, Slot};
use netwatch_common::stage::flushed;

use crate::atomic::Shared;
use crate::maps::FRONTS;
use crate::table;

/// Flushes [`PER_FLUSH`] slots of a CPU: the first argument is the CPU, the second says which.
#[inline(always)]
pub fn run(ctx: &RawTracePointContext) -> u32 {
    let arguments = ctx.as_ptr().cast::<u64>();
    // SAFETY: user space gives two.
    let (cpu, group) = unsafe { (*arguments as u32, *arguments.add(1) as usize) };
    let Some(front) = FRONTS.get_ptr_mut(cpu) else { return flushed::NONE };
    if group >= GROUPS {
        return flushed::NONE;
    }
    // SAFETY: a live map value of the CPU that this runs on.
    unsafe {
        let head = &raw mut (*front).head;
        if (&raw const (*head).active).read_volatile() != 0 {
            return flushed::BUSY;
        }
        (&raw mut (*head).flushing).write_volatile(1);
        flush(front, group);
        (&raw mut (*head).flushing).write_volatile(0);
    }
    flushed::DONE
}

/// # Safety
/// The front is ours; `group` is one of its groups.
#[inline(always)]
unsafe fn flush(front: *mut Front, group: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = (&raw mut (*front).head.installed).cast::<u8>().add(group);
        let slots = (&raw mut (*front).slots).cast::<Slot>().add(group * PER_FLUSH);
        for bit in 0..PER_FLUSH {
            if *bits & (1 << bit) != 0 && !keep(slots.add(bit)) {
                *bits &= !(1 << bit);
            }
        }
    }
}

/// Merges one slot. False if it is free afterwards: its entry is about to leave the table.
#[inline(always)]
fn keep(slot: *mut Slot) -> bool {
    // SAFETY: a live map value that is ours; the entry stays until every front has let go of it.
    unsafe {
        if !front::is_taken(slot) {
            return false;
        }
        let Some(entry) = table::entry((*slot).entry) else { return true };
        let value = &raw mut (*entry).value;
        front::merge::<Shared>(slot, value);
        if (&raw const (*value).retiring).read_volatile() == 0 {
            return true;
        }
        front::clear(slot);
        false
    }
}
