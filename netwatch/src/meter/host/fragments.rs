//! A bounded store of first fragments.

use std::collections::{HashMap, VecDeque};

use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};

/// The same size as the classifier's map.
const CAPACITY: usize = 4096;

/// Evicts the oldest fragment when it is full.
#[derive(Debug, Default)]
pub(super) struct RecentFragments {
    known: HashMap<FragmentKey, FirstFragment, foldhash::fast::RandomState>,
    order: VecDeque<FragmentKey>,
}

impl Fragments for RecentFragments {
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment) {
        if self.known.insert(*key, *first).is_some() {
            return;
        }
        self.order.push_back(*key);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        self.known.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_fragment_is_evicted_only_when_the_store_is_full() {
        let mut recent = RecentFragments::default();
        let key = |id: u32| FragmentKey { id, ..FragmentKey::default() };
        (0..CAPACITY as u32).for_each(|id| recent.insert(&key(id), &FirstFragment::default()));
        recent.insert(&key(7), &FirstFragment { source_port: 1, ..FirstFragment::default() });
        assert_eq!(
            recent.find(&key(7)).map(|first| first.source_port),
            Some(1),
            "the latest fragment with the same key"
        );
        assert!(recent.find(&key(0)).is_some());
        recent.insert(&key(CAPACITY as u32), &FirstFragment::default());
        assert_eq!((recent.find(&key(0)), recent.known.len(), recent.order.len()), (None, CAPACITY, CAPACITY));
    }
}
