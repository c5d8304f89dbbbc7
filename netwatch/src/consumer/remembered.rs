//! What a consumer remembers about flows, so that the packets of each flow are counted once.

use std::collections::{HashMap, VecDeque};

/// Number of ends after which an ended flow is forgotten: more flows than a session tracks and has
/// undelivered, so that late packets of an ended flow are counted once.
const MAX_ENDS: usize = 1 << 18;

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
