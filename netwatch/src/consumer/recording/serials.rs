//! A set of serial numbers, as ranges: those of folded flows mostly follow each other.

use std::collections::BTreeMap;

/// Serial numbers.
#[derive(Debug, Default)]
pub(super) struct Serials(
    /// The first number of each range, and the one after its last. No two ranges touch.
    BTreeMap<u64, u64>,
);

impl Serials {
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
        fn it_has_what_was_inserted(inserted in prop::collection::vec(0..40_u64, 0..60)) {
            let mut serials = Serials::default();
            inserted.iter().for_each(|serial| serials.insert(*serial));
            let expected: BTreeSet<u64> = inserted.into_iter().collect();
            for serial in 0..41 {
                prop_assert_eq!(serials.contains(serial), expected.contains(&serial));
            }
            let begins = expected.iter().filter(|serial| **serial == 0 || !expected.contains(&(**serial - 1)));
            prop_assert_eq!(serials.0.len(), begins.count());
        }
    }
}
