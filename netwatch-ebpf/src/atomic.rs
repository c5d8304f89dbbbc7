//! Memory that several CPUs change at the same time. The BPF target has no atomic types; its instructions are reached through
//! the compiler's intrinsics.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

use netwatch_common::account::Cells;

/// Counters in shared memory.
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

/// Adds and returns what was there before.
///
/// # Safety
/// `cell` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn fetch_add(cell: *mut u64, value: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(cell, value) }
}

/// Replaces `old` by `new`. False if something else was there. A full barrier: what was written before is seen by who sees `new`.
///
/// # Safety
/// `cell` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn replace(cell: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(cell, old, new).0 == old }
}

/// As [`replace`], for 32 bits.
///
/// # Safety
/// `cell` points to a live, aligned u32.
#[inline(always)]
pub unsafe fn replace32(cell: *mut u32, old: u32, new: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(cell, old, new).0 == old }
}
