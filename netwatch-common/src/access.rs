//! How the accounting rules change counters: with plain additions where the memory is exclusive
//! (fronts, the host meter), with atomics where several CPUs share it (the classifier's flow
//! table).

use crate::tcp::is_before;

/// A way to change counters.
pub trait Access {
    /// Adds to a counter.
    ///
    /// # Safety
    /// `counter` points to a live, aligned u64.
    unsafe fn add64(counter: *mut u64, value: u64);
    /// Adds to a counter.
    ///
    /// # Safety
    /// `counter` points to a live, aligned u32.
    unsafe fn add32(counter: *mut u32, value: u32);
    /// Moves a sequence number forward, if `to` comes after it (RFC 9293, 3.4).
    ///
    /// # Safety
    /// `sequence` points to a live, aligned u32.
    unsafe fn advance(sequence: *mut u32, to: u32);
    /// Sets bits.
    ///
    /// # Safety
    /// `word` points to a live, aligned u32.
    unsafe fn or32(word: *mut u32, bits: u32);
}

/// Memory that nothing else changes at the same time.
#[derive(Debug, Clone, Copy)]
pub struct ExclusiveAccess;

impl Access for ExclusiveAccess {
    #[inline(always)]
    unsafe fn add64(counter: *mut u64, value: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { *counter = (*counter).wrapping_add(value) }
    }
    #[inline(always)]
    unsafe fn add32(counter: *mut u32, value: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe { *counter += value }
    }
    #[inline(always)]
    unsafe fn advance(sequence: *mut u32, to: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if is_before(*sequence, to) {
                *sequence = to;
            }
        }
    }
    #[inline(always)]
    unsafe fn or32(word: *mut u32, bits: u32) {
        // SAFETY: guaranteed by the caller.
        unsafe { *word |= bits }
    }
}
