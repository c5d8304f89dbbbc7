//! Counts lost observations.

use netwatch_common::access::Access;

use crate::atomic::SharedAccess;
use crate::maps::STATS;

/// Counts one more lost observation in a slot of `netwatch_common::stat`.
#[inline(always)]
pub fn count(slot: u32) {
    if let Some(counter) = STATS.get_ptr_mut(slot) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the program.
        unsafe { SharedAccess::add64(counter, 1) }
    }
}
