//! Stores first fragments in a map that evicts the least recently used.

use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};

use crate::maps::FRAGMENTS;

/// The FRAGMENTS map.
pub struct FragmentMap;

impl Fragments for FragmentMap {
    #[inline(always)]
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment) {
        // If this fails, later fragments are counted as fragments without ports; no packet is lost.
        let _stored = FRAGMENTS.insert(key, first, 0);
    }

    #[inline(always)]
    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        // SAFETY: the value is copied at once. If it was evicted meanwhile, it may belong to
        // another datagram; the later fragment is then counted under that datagram's ports.
        unsafe { FRAGMENTS.get(key) }.copied()
    }
}
