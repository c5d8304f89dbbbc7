//! The order in which flows ended, or their entries left the meter.

use std::collections::VecDeque;

use super::Place;

/// The queue is compacted only if it has at least this many entries.
const MIN_TO_COMPACT: usize = 1024;

/// Flows in the order of their departures. An entry is stale if its flow departed again, or if it
/// came back.
#[derive(Debug, Default)]
pub(super) struct Departures {
    queue: VecDeque<(Place, u64)>,
    /// Number of entries that are not stale.
    current: usize,
    /// The number of the next departure.
    next: u64,
}

impl Departures {
    /// Number of flows that departed and did not come back.
    pub(super) fn count(&self) -> usize {
        self.current
    }

    #[cfg(test)]
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// The flow at this place departs. Returns the number of its departure.
    pub(super) fn push(&mut self, place: Place) -> u64 {
        let number = self.next;
        self.queue.push_back((place, number));
        self.current += 1;
        self.next += 1;
        number
    }

    /// A departure does not count any more: its flow came back, was removed, or departs again.
    pub(super) fn take_back(&mut self, departure: Option<u64>) {
        self.current -= usize::from(departure.is_some());
    }

    /// The flow that departed first. `is_current` decides whether an entry is not stale.
    pub(super) fn first(&mut self, is_current: impl Fn(Place, u64) -> bool) -> Option<Place> {
        while let Some((place, number)) = self.queue.front() {
            if is_current(*place, *number) {
                return Some(*place);
            }
            self.queue.pop_front();
        }
        None
    }

    /// Drops stale entries when they outnumber the others, so that the queue is bounded by the
    /// number of flows also if the same flows depart and come back for hours.
    pub(super) fn compact(&mut self, is_current: impl Fn(Place, u64) -> bool) {
        if self.queue.len() >= MIN_TO_COMPACT && self.queue.len() > 2 * self.current {
            self.queue.retain(|(place, number)| is_current(*place, *number));
        }
    }
}
