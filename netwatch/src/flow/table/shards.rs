//! A hash table in shards: when one of them grows, only its own elements move, so that no insert
//! takes long.

use hashbrown::HashTable;

/// Number of shards: a table of 2^18 elements moves at most 4096 of them at a time.
const SHARDS: usize = 64;

/// A table whose elements are found by their hash.
#[derive(Debug)]
pub(super) struct ShardedTable<T>(Box<[HashTable<T>]>);

impl<T> Default for ShardedTable<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashTable::new()).collect())
    }
}

impl<T> ShardedTable<T> {
    /// The shard for this hash.
    pub(super) fn of(&self, hash: u64) -> &HashTable<T> {
        &self.0[shard(hash)]
    }

    /// As [`Self::of`], to change it.
    pub(super) fn of_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        &mut self.0[shard(hash)]
    }
}

/// By bits that `hashbrown` uses neither for the place within a shard, which are the lowest, nor
/// for its tags, which are the highest.
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_their_shard_and_spread_over_all() {
        let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = ShardedTable::default();
        for number in 0..10_000_u64 {
            table.of_mut(hash(number)).insert_unique(hash(number), number, |number| hash(*number));
        }
        let find = |number: u64| table.of(hash(number)).find(hash(number), |found| *found == number).copied();
        assert!((0..10_000).all(|number| find(number) == Some(number)) && find(10_000).is_none());
        assert!(table.0.iter().all(|shard| (100..220).contains(&shard.len())));
    }
}
