//! What a consumer remembers: about flows, so that the packets of each flow are counted once, and
//! about their processes, which a session sends once.

use std::collections::{HashMap, VecDeque};

use crate::process::ProcessNumber;

/// Number of ends after which an ended flow is forgotten: more flows than a session tracks and has
/// undelivered, so that late packets of an ended flow are counted once.
const MAX_ENDS: usize = 1 << 18;

/// Half of the number of processes that are remembered.
const MAX_RECENT_PROCESSES: usize = 1 << 17;

/// A value for each process. When there are too many, those are forgotten that no flow used for
/// longest: sessions do not send them again.
#[derive(Debug)]
pub(super) struct RememberedProcesses<V> {
    recent: HashMap<ProcessNumber, V>,
    /// Those that were not used since `recent` was full.
    older: HashMap<ProcessNumber, V>,
    max_recent: usize,
}

impl<V> Default for RememberedProcesses<V> {
    fn default() -> Self {
        Self { recent: HashMap::new(), older: HashMap::new(), max_recent: MAX_RECENT_PROCESSES }
    }
}

impl<V> RememberedProcesses<V> {
    /// Remembers at least so many, and at most twice as many.
    pub(super) fn at_least(max_recent: usize) -> Self {
        Self { max_recent, ..Self::default() }
    }

    /// Remembers a process.
    pub(super) fn insert(&mut self, number: ProcessNumber, value: V) {
        if self.recent.len() >= self.max_recent && !self.recent.contains_key(&number) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.older.remove(&number);
        self.recent.insert(number, value);
    }

    /// The value of a process that is used now.
    pub(super) fn get(&mut self, number: ProcessNumber) -> Option<&V> {
        if let Some(value) = self.older.remove(&number) {
            self.insert(number, value);
        }
        self.recent.get(&number)
    }

    /// Takes the value of a process, which is forgotten.
    pub(super) fn take(&mut self, number: ProcessNumber) -> Option<V> {
        self.recent.remove(&number).or_else(|| self.older.remove(&number))
    }
}

/// A value for each live flow, and for those that ended last, by serial number.
#[derive(Debug, Default)]
pub(super) struct RememberedFlows<V> {
    flows: HashMap<u64, RememberedFlow<V>>,
    /// Serial numbers of flows that ended, each with the number of its end. An entry is stale if
    /// its flow is live again or ended again.
    ends: VecDeque<(u64, u64)>,
    /// The number of the next end.
    next_end: u64,
}

#[derive(Debug, Default)]
struct RememberedFlow<V> {
    value: V,
    /// The number of its last end; `None` while it is live.
    end: Option<u64>,
}

impl<V: Default> RememberedFlows<V> {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn has(&self, serial: u64) -> bool {
        self.flows.contains_key(&serial)
    }

    /// The value of a flow; a default one if the flow is new.
    pub(super) fn entry(&mut self, serial: u64) -> &mut V {
        &mut self.flows.entry(serial).or_default().value
    }

    /// The flow is live, also if it had ended.
    pub(super) fn reopen(&mut self, serial: u64) {
        if let Some(flow) = self.flows.get_mut(&serial) {
            flow.end = None;
        }
    }

    /// The flow has ended. Forgets the flow that ended [`MAX_ENDS`] ends before.
    pub(super) fn end(&mut self, serial: u64) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        flow.end = Some(self.next_end);
        self.ends.push_back((serial, self.next_end));
        self.next_end += 1;
        if self.ends.len() > MAX_ENDS
            && let Some((oldest, end)) = self.ends.pop_front()
            && self.flows.get(&oldest).is_some_and(|flow| flow.end == Some(end))
        {
            self.flows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_are_used_are_not_forgotten() {
        let mut processes = RememberedProcesses::at_least(10);
        for number in 0..100 {
            processes.insert(number, number);
            assert_eq!(processes.get(3).copied(), (number >= 3).then_some(3), "a flow of each uses it");
        }
        assert!(processes.recent.len() + processes.older.len() <= 20);
        let mut get = |number| processes.get(number).copied();
        assert_eq!((get(4), get(99)), (None, Some(99)));
        assert_eq!((processes.take(99), processes.take(99)), (Some(99), None));
    }

    #[test]
    fn a_flow_is_forgotten_after_its_last_end_and_never_while_it_is_live() {
        let mut flows = RememberedFlows::default();
        for serial in 1..=3 {
            *flows.entry(serial) = serial;
            flows.end(serial);
        }
        // The first flow ends again, the second one is live again, and both ends are in the queue.
        flows.reopen(1);
        flows.end(1);
        flows.reopen(2);
        for serial in 10..10 + MAX_ENDS as u64 - 1 {
            *flows.entry(serial) = serial;
            flows.end(serial);
        }
        assert_eq!((*flows.entry(1), *flows.entry(2), flows.has(3)), (1, 2, false));
        *flows.entry(4) = 4;
        flows.end(4);
        assert!(!flows.has(1) && flows.has(2));
        assert_eq!(flows.len(), MAX_ENDS + 1, "as many ended flows, and the live one");
    }
}
