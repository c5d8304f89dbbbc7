//! Attempts that failed before they were a packet, added up.

use std::collections::BTreeMap;

use super::table::Number;
use crate::flow::Protocol;
use crate::process::{Cause, Target};

/// Attempts that are kept apart; further ones are counted.
const MAX: usize = 16_384;

/// Who tried what, and why it failed.
pub(super) type Key = (Target, Option<Protocol>, Cause, Option<Number>);

/// How often, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    sums: BTreeMap<Key, Times>,
    pub beyond: u64,
}

impl Failures {
    pub(super) fn add(
        &mut self,
        time_ns: u64,
        target: Target,
        protocol: Option<Protocol>,
        cause: Cause,
        process: Option<Number>,
    ) {
        let key = (target, protocol, cause, process);
        if self.sums.len() >= MAX && !self.sums.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let times = self.sums.entry(key).or_insert(Times { first_ns: time_ns, last_ns: time_ns, count: 0 });
        times.last_ns = time_ns;
        times.count += 1;
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Times)> {
        self.sums.iter()
    }
}
