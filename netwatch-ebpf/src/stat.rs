//! Counts what was not observed.

use netwatch_common::account::Cells;

use crate::atomic::Shared;
use crate::maps::STATS;

/// One more observation lost, by a slot of `netwatch_common::stat`.
#[inline(always)]
pub fn count(slot: u32) {
    if let Some(counter) = STATS.get_ptr_mut(slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the program.
        unsafe { Shared::add64(counter, 1) }
    }
}
