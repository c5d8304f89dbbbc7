//! Merges the counts of a CPU's front into the flows' entries. User space runs it on that CPU
//! (`BPF_F_TEST_RUN_ON_CPU`): there it arrives as an interrupt, or in process context if user space
//! already runs on that CPU.
//!
//! As an interrupt it may arrive while a packet is being counted; it then refuses (`active`). In
//! process context it may be interrupted by packets, which then do not touch the front
//! (`flushing`). So each side has the front to itself, without locks and atomics.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::RawTracePointContext;
use netwatch_common::flow::FlowValue;
use netwatch_common::front::{self, Front, GROUPS, InstalledSlots, SLOTS_PER_GROUP, Slot};
use netwatch_common::stage::flushed;

use crate::atomic::SharedAccess;
use crate::maps::{FRONTS, HEADS, INSTALLED};
use crate::table;

/// Flushes one group of slots. The first argument of the program is the CPU, the second the group.
#[inline(always)]
pub fn run(ctx: &RawTracePointContext) -> u32 {
    let arguments = ctx.as_ptr().cast::<u64>();
    // SAFETY: user space passes two arguments.
    let (cpu, group) = unsafe { (*arguments as u32, *arguments.add(1) as usize) };
    let Some(head) = HEADS.get_ptr_mut(cpu) else { return flushed::NO_CPU };
    if group >= GROUPS {
        return flushed::NO_CPU;
    }
    // SAFETY: live map values of the CPU that this runs on.
    unsafe {
        if (&raw const (*head).active).read_volatile() != 0 {
            return flushed::BUSY;
        }
        let (Some(front), Some(installed)) = (FRONTS.get_ptr_mut(cpu), INSTALLED.get_ptr_mut(cpu)) else {
            return flushed::DONE;
        };
        (&raw mut (*head).flushing).write_volatile(1);
        flush_group(front, installed, group);
        (&raw mut (*head).flushing).write_volatile(0);
    }
    flushed::DONE
}

/// # Safety
/// The front is exclusive; `group` is one of its groups.
#[inline(always)]
unsafe fn flush_group(front: *mut Front, installed: *mut InstalledSlots, group: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let bits = (&raw mut (*installed).groups).cast::<u8>().add(group);
        let slots = (&raw mut (*front).slots).cast::<Slot>().add(group * SLOTS_PER_GROUP);
        for bit in 0..SLOTS_PER_GROUP {
            if *bits & (1 << bit) != 0 && !flush_slot(slots.add(bit)) {
                *bits &= !(1 << bit);
            }
        }
    }
}

/// Merges one slot, and frees it if its entry is about to leave the table. Returns whether the slot
/// is still taken.
#[inline(always)]
fn flush_slot(slot: *mut Slot) -> bool {
    // SAFETY: a live, exclusive map value; the entry stays until no front refers to it.
    unsafe {
        if !front::is_taken(slot) {
            return false;
        }
        let Some(entry) = table::entry((*slot).entry) else { return true };
        let value = &raw mut (*entry).value;
        front::merge::<SharedAccess>(slot, value);
        if !FlowValue::is_leaving(value) {
            return true;
        }
        front::clear(slot);
        false
    }
}
