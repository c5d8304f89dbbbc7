//! Access to memory that several CPUs change at the same time. The BPF target has no atomic types;
//! the compiler's intrinsics give its atomic instructions.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

use netwatch_common::access::Access;
use netwatch_common::tcp::is_before;

/// Attempts to move a sequence number forward: the verifier follows each of them.
const ADVANCE_ATTEMPTS: usize = 3;

/// Memory that several CPUs share.
pub struct SharedAccess;

impl Access for SharedAccess {
    #[inline(always)]
    unsafe fn add64(word: *mut u64, value: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, value) };
    }
    #[inline(always)]
    unsafe fn add32(word: *mut u32, value: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(word, value) };
    }
    /// Another CPU that changes the number meanwhile has moved it forward, too. Three of them at
    /// once would be needed for a packet to be overtaken twice.
    #[inline(always)]
    unsafe fn advance(sequence: *mut u32, to: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            for _ in 0..ADVANCE_ATTEMPTS {
                let before = sequence.read_volatile();
                if !is_before(before, to) || replace32(sequence, before, to) {
                    return;
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn or32(word: *mut u32, bits: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe { atomic_or::<u32, u32, { AtomicOrdering::Relaxed }>(word, bits) };
    }
}

/// Adds, and returns the previous value.
///
/// # Safety
/// `word` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(word, value) }
}

/// Replaces `old` with `new`. Returns false if the value is not `old`. A full barrier: a reader of
/// `new` sees all earlier writes.
///
/// # Safety
/// `word` points to a live, aligned u64.
#[inline(always)]
pub unsafe fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).0 == old }
}

/// As [`replace`], for 32 bits.
///
/// # Safety
/// `word` points to a live, aligned u32.
#[inline(always)]
pub unsafe fn replace32(word: *mut u32, old: u32, new: u32) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic_cxchg::<u32, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).0 == old }
}
