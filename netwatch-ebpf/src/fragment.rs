//! First fragments, in a map that forgets the oldest.

use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};

use crate::maps::FRAGMENTS;

/// The FRAGMENTS map.
pub struct Map;

impl Fragments for Map {
    #[inline(always)]
    fn remember(&mut self, key: &FragmentKey, first: &FirstFragment) {
        // Forgetting is allowed here: a later fragment is then named as one. No packet is lost by it.
        let _forgotten = FRAGMENTS.insert(key, first, 0);
    }

    #[inline(always)]
    fn recall(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        // SAFETY: the value is copied at once; it may be that of a datagram just evicted, which is as good as forgotten.
        unsafe { FRAGMENTS.get(key) }.copied()
    }
}
