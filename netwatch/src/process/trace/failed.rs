//! Attempts that failed before they were a packet, added up.

use std::collections::BTreeMap;

use crate::flow::Protocol;
use crate::process::{AttemptCause, AttemptTarget, ProcessNumber};

/// Who tried what, and why it failed.
pub(super) type Key = (AttemptTarget, Option<Protocol>, AttemptCause, Option<ProcessNumber>);

/// How often, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
}

#[derive(Debug)]
pub(super) struct Failures {
    max: usize,
    sums: BTreeMap<Key, Times>,
    /// Attempts whose process, or which themselves, are not told any more.
    pub beyond: u64,
}

impl Failures {
    /// So many are kept apart.
    pub(super) fn new(max: usize) -> Self {
        Self { max, sums: BTreeMap::new(), beyond: 0 }
    }

    pub(super) fn add(
        &mut self,
        time_ns: u64,
        target: AttemptTarget,
        protocol: Option<Protocol>,
        cause: AttemptCause,
        process: Option<ProcessNumber>,
    ) {
        let times = Times { first_ns: time_ns, last_ns: time_ns, count: 1 };
        self.add_all(times, target, protocol, cause, process);
    }

    /// Of several. Where there is no room for another process, it is left out; where there is none for the target either, all are only counted.
    pub(super) fn add_all(
        &mut self,
        times: Times,
        target: AttemptTarget,
        protocol: Option<Protocol>,
        cause: AttemptCause,
        process: Option<ProcessNumber>,
    ) {
        let mut key = (target, protocol, cause, process);
        if !self.has_room(&key, self.max - self.max / 4) {
            self.beyond += times.count;
            key.3 = None;
            if !self.has_room(&key, self.max) {
                return;
            }
        }
        let first = Times { count: 0, ..times };
        let sum = self.sums.entry(key).or_insert(first);
        sum.first_ns = sum.first_ns.min(times.first_ns);
        sum.last_ns = sum.last_ns.max(times.last_ns);
        sum.count += times.count;
    }

    fn has_room(&self, key: &Key, max: usize) -> bool {
        self.sums.len() < max || self.sums.contains_key(key)
    }

    /// All processes that tried.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        self.sums.keys().filter_map(|(.., process)| *process)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Times)> {
        self.sums.iter()
    }
}
