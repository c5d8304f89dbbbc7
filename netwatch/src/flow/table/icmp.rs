//! ICMP errors of flows: they arrive before the flow is drained, or after it has ended.

use super::store::StoredFlow;
use super::{FlowTable, Place};
use crate::flow::{Direction, Flow, FlowKey, IcmpError, QuotedError};

/// An ICMP error that is not part of a stored flow yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingError {
    error: IcmpError,
    /// Nanoseconds since the Unix epoch.
    time_ns: u64,
    /// Drains since then without a live flow with its key.
    drains: u8,
}

/// An error waits for its flow for this many drains. The second one includes every flow that began
/// before the error, also if the error arrived during the first.
const MAX_DRAINS_WITHOUT_FLOW: u8 = 2;

impl FlowTable {
    /// Moves the ICMP errors of a flow that arrived before `until_ns` into the flow, so that the
    /// next flow with this key does not get them. Returns whether the flow changed.
    pub(super) fn move_icmp_error(&mut self, place: Place, until_ns: u64) -> bool {
        let Some(flow) = self.store.flow_mut(place) else { return false };
        let mut is_changed = false;
        for by_target in [false, true] {
            let key = (flow.key, by_target);
            let is_due = self.icmp_errors.get(&key).is_some_and(|pending| pending.time_ns < until_ns);
            if is_due
                && let Some(pending) = self.icmp_errors.remove(&key)
                && is_response(flow, by_target)
            {
                flow.icmp_error = Some(pending.error);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Assigns the ICMP errors that no live flow has for `MAX_DRAINS_WITHOUT_FLOW` drains: to the
    /// ended flow with their key, or to the endpoint of a folded flow. To be called after each
    /// drain. Returns the places of the flows that changed.
    pub fn settle_icmp_errors(&mut self) -> Vec<Place> {
        let mut due = Vec::new();
        for (key, pending) in &mut self.icmp_errors {
            let found = self.store.find(&key.0);
            let has_flow = match found.and_then(|place| self.store.stored(place)) {
                Some(stored) => !stored.is_ended(),
                // The error of an untracked flow counts once, however often it is sent.
                None => self.untracked.has(&key.0),
            };
            pending.drains = if has_flow { 0 } else { pending.drains + 1 };
            if pending.drains >= MAX_DRAINS_WITHOUT_FLOW {
                due.push((*key, found));
            }
        }
        let mut changed = Vec::new();
        for (key, found) in due {
            match found {
                Some(place) if self.move_icmp_error(place, u64::MAX) => changed.push(place),
                Some(_) => {}
                None => self.fold_icmp_error(key),
            }
        }
        changed
    }

    /// Adds an ICMP error to the endpoint of a folded flow.
    fn fold_icmp_error(&mut self, (key, by_target): (FlowKey, bool)) {
        self.icmp_errors.remove(&(key, by_target));
        if !by_target && !self.evicted.add_unreachable(&key) && !self.untracked.add_unreachable(&key) {
            self.icmp_errors_lost += 1;
        }
    }

    /// Records an ICMP error. Ignores errors that do not end an attempt, and errors sent by the
    /// side that opened the flow: it sends them for answers that arrived after it stopped waiting.
    ///
    /// Returns the place of the flow if it has ended and the error was added to it.
    pub fn note_icmp_error(&mut self, quoted: QuotedError) -> Option<Place> {
        let QuotedError { flow, error, by_target, time_ns } = quoted;
        if !error.is_failure(flow.remote.addr) {
            return None;
        }
        let found = self.store.find(&flow);
        let ended = found.and_then(|place| self.store.ended_mut(place));
        // A later error may belong to the next flow with this key, which was not drained yet.
        if let Some(ended) = ended.filter(|ended| time_ns <= ended.last_seen_ns) {
            let is_response = is_response(ended, by_target);
            if is_response {
                ended.icmp_error = Some(error);
            }
            return found.filter(|_| is_response);
        }
        let has_room = self.icmp_errors.len() < self.max_flows;
        if has_room || self.icmp_errors.contains_key(&(flow, by_target)) {
            self.icmp_errors.insert((flow, by_target), PendingError { error, time_ns, drains: 0 });
        } else {
            self.icmp_errors_lost += 1;
        }
        None
    }

    /// The flow with its ICMP error: the one sent by the side that did not open the flow.
    pub(super) fn with_error(&self, stored: &StoredFlow) -> Flow {
        let flow = stored.flow.clone();
        Flow { icmp_error: self.pending_error(stored).or(flow.icmp_error), ..flow }
    }

    /// The ICMP error that is not yet part of a live flow.
    pub(super) fn pending_error(&self, stored: &StoredFlow) -> Option<IcmpError> {
        let flow = &stored.flow;
        if stored.is_ended() || self.icmp_errors.is_empty() {
            return None;
        }
        let sent_by_target = flow.opened_by == Direction::Ingress;
        self.icmp_errors.get(&(flow.key, sent_by_target)).map(|pending| pending.error)
    }
}

/// Whether an ICMP error responds to the side that opened the flow.
fn is_response(flow: &Flow, by_target: bool) -> bool {
    by_target == (flow.opened_by == Direction::Ingress)
}
