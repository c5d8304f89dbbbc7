//! Attempts that failed before a packet was sent, and the threads whose calls failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::limits::HashMap;
use crate::flow::Protocol;
use crate::process::{AttemptCause, AttemptTarget, ProcessNumber, SocketOperation};

/// A failed attempt of a process, and its cause.
pub(super) type FailureKey = (AttemptTarget, Option<Protocol>, AttemptCause, Option<ProcessNumber>);

/// Number and times of attempts.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptTimes {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
}

/// Failed attempts, summed by target, cause and process.
#[derive(Debug)]
pub(super) struct AttemptSums {
    max: usize,
    sums: BTreeMap<FailureKey, AttemptTimes>,
    /// Attempts stored without their process, or not at all.
    pub beyond: u64,
}

impl AttemptSums {
    /// Stores at most `max` sums.
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
        let times = AttemptTimes { first_ns: time_ns, last_ns: time_ns, count: 1 };
        self.add_all(times, target, protocol, cause, process);
    }

    /// Adds several attempts. Without room for another process the process is left out; without
    /// room for the target the attempts are only counted.
    pub(super) fn add_all(
        &mut self,
        times: AttemptTimes,
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
        let first = AttemptTimes { count: 0, ..times };
        let sum = self.sums.entry(key).or_insert(first);
        sum.first_ns = sum.first_ns.min(times.first_ns);
        sum.last_ns = sum.last_ns.max(times.last_ns);
        sum.count += times.count;
    }

    /// Removes one of these attempts. Returns false if there is none.
    pub(super) fn remove_one(&mut self, key: &FailureKey) -> bool {
        let Some(sum) = self.sums.get_mut(key) else { return false };
        sum.count -= 1;
        if sum.count == 0 {
            self.sums.remove(key);
        }
        true
    }

    fn has_room(&self, key: &FailureKey, max: usize) -> bool {
        self.sums.len() < max || self.sums.contains_key(key)
    }

    /// The processes of all attempts.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        self.sums.keys().filter_map(|(.., process)| *process)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&FailureKey, &AttemptTimes)> {
        self.sums.iter()
    }
}

/// Threads of one generation.
const MAX_THREADS: usize = 8192;

/// The last socket operation of a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadOperation {
    pub operation: SocketOperation,
    pub cookie: u64,
    pub address: Option<SocketAddr>,
    pub protocol: Option<Protocol>,
}

/// The last operation of each thread that was active recently. The end of a thread is not
/// reported, and its operation is needed only until its call returns.
#[derive(Debug, Default)]
pub(super) struct ThreadOperations {
    now: HashMap<u32, ThreadOperation>,
    before: HashMap<u32, ThreadOperation>,
}

impl ThreadOperations {
    pub(super) fn note(&mut self, tid: u32, operation: ThreadOperation) {
        if self.now.len() >= MAX_THREADS && !self.now.contains_key(&tid) {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(tid, operation);
    }

    pub(super) fn of(&self, tid: u32) -> Option<ThreadOperation> {
        self.now.get(&tid).or_else(|| self.before.get(&tid)).copied()
    }
}
