//! A bounded store of first fragments.

use std::collections::{HashMap, VecDeque};

use netwatch_common::fragment::{FirstFragment, FragmentKey, Fragments};

/// The same size as the classifier's map.
const CAPACITY: usize = 4096;

/// What is known from each first fragment. Evicts the oldest one when it is full.
#[derive(Debug)]
pub(super) struct RecentFragments<V = FirstFragment> {
    known: HashMap<FragmentKey, V, foldhash::fast::RandomState>,
    order: VecDeque<FragmentKey>,
}

impl<V> Default for RecentFragments<V> {
    fn default() -> Self {
        Self { known: HashMap::default(), order: VecDeque::new() }
    }
}

impl<V: Copy> RecentFragments<V> {
    /// Remembers what the first fragment of a datagram shows.
    pub(super) fn remember(&mut self, key: FragmentKey, value: V) {
        if self.known.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// What the first fragment of this datagram showed.
    pub(super) fn recall(&self, key: &FragmentKey) -> Option<V> {
        self.known.get(key).copied()
    }
}

impl Fragments for RecentFragments {
    fn insert(&mut self, key: &FragmentKey, first: &FirstFragment) {
        self.remember(*key, *first);
    }

    fn find(&mut self, key: &FragmentKey) -> Option<FirstFragment> {
        self.recall(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_fragment_is_evicted_only_when_the_store_is_full() {
        let mut recent = RecentFragments::<FirstFragment>::default();
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
