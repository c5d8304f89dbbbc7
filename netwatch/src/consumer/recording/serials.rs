//! A set of numbers, as ranges: those of folded flows and of their processes mostly follow each
//! other.

use std::collections::BTreeMap;

/// Serial numbers.
#[derive(Debug, Default)]
pub(super) struct Serials(
    /// The first number of each range, and the one after its last. No two ranges touch.
    BTreeMap<u64, u64>,
);

impl Serials {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, serial: u64) {
        if self.contains(serial) {
            return;
        }
        let end = self.0.remove(&(serial + 1)).unwrap_or(serial + 1);
        match self.0.range_mut(..serial).next_back() {
            Some((_, before)) if *before == serial => *before = end,
            _ => drop(self.0.insert(serial, end)),
        }
    }

    pub(super) fn remove(&mut self, serial: u64) {
        let Some((first, end)) = self.0.range(..=serial).next_back().map(|(first, end)| (*first, *end)) else { return };
        if serial >= end {
            return;
        }
        self.0.remove(&first);
        for (first, end) in [(first, serial), (serial + 1, end)] {
            if first < end {
                self.0.insert(first, end);
            }
        }
    }

    pub(super) fn contains(&self, serial: u64) -> bool {
        self.0.range(..=serial).next_back().is_some_and(|(_, end)| serial < *end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_was_inserted_and_not_removed(changes in prop::collection::vec((0..40_u64, 0..4_u8), 0..80)) {
            let (mut serials, mut expected) = (Serials::default(), BTreeSet::new());
            for (serial, kind) in changes {
                if kind == 0 {
                    serials.remove(serial);
                    expected.remove(&serial);
                } else {
                    serials.insert(serial);
                    expected.insert(serial);
                }
            }
            for serial in 0..41 {
                prop_assert_eq!(serials.contains(serial), expected.contains(&serial));
            }
            let begins = expected.iter().filter(|serial| **serial == 0 || !expected.contains(&(**serial - 1)));
            prop_assert_eq!(serials.0.len(), begins.count());
        }
    }
}
