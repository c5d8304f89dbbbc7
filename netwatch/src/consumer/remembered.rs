//! What a consumer remembers: about flows, so that the packets of each flow are counted once, and
//! about their processes, which a session sends once.

use std::collections::{HashMap, VecDeque};

use crate::process::ProcessNumber;

/// Number of ended flows that are remembered: more than a session tracks and has undelivered,
/// whatever the size of the kernel's table is, so that late packets of an ended flow are counted
/// once.
const MAX_ENDED: usize = 1 << 18;

/// The queue of ends is compacted only if it has more stale entries than this.
const MAX_STALE: usize = 1024;

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
    /// Number of flows that have ended: the entries that are not stale.
    ended: usize,
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
            self.ended -= usize::from(flow.end.take().is_some());
        }
    }

    /// The flow has ended. If that is one too many, forgets the one that ended first.
    pub(super) fn end(&mut self, serial: u64) {
        let Some(flow) = self.flows.get_mut(&serial) else { return };
        self.ended += usize::from(flow.end.replace(self.next_end).is_none());
        self.ends.push_back((serial, self.next_end));
        self.next_end += 1;
        if self.ended > MAX_ENDED {
            self.forget_first();
        }
        // Flows can end and come back for hours.
        if self.ends.len() > 2 * self.ended + MAX_STALE {
            let Self { flows, ends, .. } = self;
            ends.retain(|(serial, end)| is_current(flows, *serial, *end));
        }
    }

    fn forget_first(&mut self) {
        while let Some((serial, end)) = self.ends.pop_front() {
            if is_current(&self.flows, serial, end) {
                self.flows.remove(&serial);
                self.ended -= 1;
                return;
            }
        }
    }
}

/// Whether this was the last end of the flow, and it is not live.
fn is_current<V>(flows: &HashMap<u64, RememberedFlow<V>>, serial: u64, end: u64) -> bool {
    flows.get(&serial).is_some_and(|flow| flow.end == Some(end))
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
        for serial in 10..10 + MAX_ENDED as u64 - 1 {
            *flows.entry(serial) = serial;
            flows.end(serial);
        }
        assert_eq!((*flows.entry(1), *flows.entry(2), flows.has(3)), (1, 2, false));
        *flows.entry(4) = 4;
        flows.end(4);
        assert!(!flows.has(1) && flows.has(2));
        assert_eq!(flows.len(), MAX_ENDED + 1, "as many ended flows, and the live one");
    }

    /// Idle flows end and come back for hours, while the session still tracks the first one.
    #[test]
    fn flows_that_end_repeatedly_displace_no_other() {
        let mut flows = RememberedFlows::default();
        *flows.entry(1) = 7;
        flows.end(1);
        for serial in (2..102).cycle().take(MAX_ENDED + 1000) {
            *flows.entry(serial) = serial;
            flows.reopen(serial);
            flows.end(serial);
        }
        assert_eq!((*flows.entry(1), flows.len()), (7, 101));
        assert!(flows.ends.len() <= 2 * 101 + MAX_STALE, "{} ends", flows.ends.len());
    }
}
