//! Storage of the individually tracked flows: reusable places, an index by key, and the order in
//! which flows ended.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::flow::{EndReason, Flow, FlowId, FlowKey, Increment, Protocol};

/// The position of a tracked flow in the table. It is reused after the flow was evicted.
pub type Place = usize;

/// How an increment changed the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowChange {
    /// It was added to a remainder.
    Remainder,
    /// The table is full of live flows: it was folded into the endpoint of its flow.
    Folded,
    /// It opened a flow.
    Opened,
    /// It was added to a flow of the table. If that flow had ended, it is live again, unless the
    /// increment ended it too.
    Grew,
}

/// A tracked flow.
#[derive(Debug)]
pub(super) struct StoredFlow {
    pub flow: Flow,
    /// The number of the entry of this flow in [`FlowStore::ended`]; `None` while it is live.
    end: Option<u64>,
    /// TCP closed the flow and the meter ended it. Late segments can reopen it, until a handshake
    /// begins.
    is_closed: bool,
}

impl StoredFlow {
    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }
}

/// [`FlowStore::ended`] is compacted only if it has at least this many entries.
const MIN_ENDS_TO_COMPACT: usize = 1024;

/// The individually tracked flows.
#[derive(Debug, Default)]
pub(super) struct FlowStore {
    slots: Vec<Option<StoredFlow>>,
    free: Vec<Place>,
    /// The place of the newest flow of each key.
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// The place after the flow that grew last. Every drain delivers flows in the same order, so
    /// the next increment usually belongs to this place and needs no lookup.
    next: Place,
    /// Ended flows in the order in which they ended, with the number of each end. An entry is stale
    /// if its flow was reopened.
    ended: VecDeque<(Place, u64)>,
    /// Number of ended flows: entries of `ended` that are not stale.
    ended_flows: usize,
    /// The number of the next end.
    next_end: u64,
    /// The serial number of the next flow.
    next_serial: u64,
}

impl FlowStore {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredFlow> {
        self.slots.iter().flatten()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (Place, &StoredFlow)> {
        self.slots.iter().enumerate().filter_map(|(place, slot)| slot.as_ref().map(|stored| (place, stored)))
    }

    pub(super) fn stored(&self, place: Place) -> Option<&StoredFlow> {
        self.slots.get(place)?.as_ref()
    }

    pub(super) fn get(&self, place: Place) -> Option<&Flow> {
        self.stored(place).map(|stored| &stored.flow)
    }

    pub(super) fn ended_mut(&mut self, place: Place) -> Option<&mut Flow> {
        self.slots.get_mut(place)?.as_mut().filter(|stored| stored.is_ended()).map(|stored| &mut stored.flow)
    }

    #[cfg(test)]
    pub(super) fn ends_len(&self) -> usize {
        self.ended.len()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended_flows > 0
    }

    /// The place of the newest flow with this key.
    pub(super) fn find(&self, key: &FlowKey) -> Option<Place> {
        let is_next = self.stored(self.next).is_some_and(|next| next.flow.key == *key && !next.is_ended());
        if is_next {
            return Some(self.next);
        }
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |place| self.key_at(*place) == Some(key)).map(|place| *place as Place)
    }

    fn key_at(&self, place: u32) -> Option<&FlowKey> {
        self.get(place as Place).map(|flow| &flow.key)
    }

    /// Whether an increment belongs to this flow and not to a new one with the same key. An ended
    /// flow continues if the increment began before its last packet (another part of the same
    /// entry), or if it is a TCP flow and no handshake began (late segments, or a connection that
    /// was idle for longer than the meter keeps an entry).
    pub(super) fn continues(&self, place: Place, increment: &Increment) -> bool {
        let Some(stored) = self.stored(place).filter(|stored| stored.is_ended()) else { return true };
        let flow = &stored.flow;
        let is_tcp = flow.key.protocol == Protocol::TCP.0 && !flow.key.fragment;
        increment.first_seen_ns <= flow.last_seen_ns || is_tcp && increment.connections == 0
    }

    /// Adds growth to a flow. An ended flow is live again.
    pub(super) fn grow(&mut self, place: Place, increment: &Increment) {
        let Some(stored) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        stored.flow.absorb(increment);
        if stored.end.take().is_some() {
            stored.flow.ended = None;
            self.ended_flows -= 1;
        } else if increment.connections > 0 {
            stored.is_closed = false;
        }
        self.next = place + 1;
    }

    pub(super) fn open(&mut self, id: FlowId, increment: &Increment) -> Place {
        let serial = self.next_serial;
        self.insert(Flow { serial, ..Flow::new(id, increment) })
    }

    /// Adds a flow, which is the newest of its key.
    pub(super) fn insert(&mut self, flow: Flow) -> Place {
        self.next_serial = self.next_serial.max(flow.serial.saturating_add(1));
        let key = flow.key;
        let stored = Some(StoredFlow { flow, end: None, is_closed: false });
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place] = stored;
                place
            }
            None => {
                self.slots.push(stored);
                self.slots.len() - 1
            }
        };
        self.index_newest(&key, place);
        self.next = place + 1;
        place
    }

    fn index_newest(&mut self, key: &FlowKey, place: Place) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let key_at = |at: u32| slots[at as Place].as_ref().map(|stored| &stored.flow.key);
        let is_same = |at: &u32| *at as Place == place || key_at(*at) == Some(key);
        let hash_at = |at: &u32| hasher.hash_one(key_at(*at).unwrap_or(key));
        let number = u32::try_from(place).expect("a table has fewer than 2^32 flows");
        match self.index.entry(hasher.hash_one(key), is_same, hash_at) {
            hashbrown::hash_table::Entry::Occupied(mut entry) => *entry.get_mut() = number,
            hashbrown::hash_table::Entry::Vacant(entry) => drop(entry.insert(number)),
        }
    }

    /// Marks a flow as ended. A closed flow that late segments reopened keeps its end reason.
    /// Returns false if there is no flow at this place.
    pub(super) fn end(&mut self, place: Place, reason: EndReason) -> bool {
        let Some(stored) = self.slots.get_mut(place).and_then(Option::as_mut) else { return false };
        stored.is_closed |= reason == EndReason::EndOfFlow;
        stored.flow.ended = Some(if stored.is_closed { EndReason::EndOfFlow } else { reason });
        if stored.end.is_none() {
            self.ended_flows += 1;
        }
        stored.end = Some(self.next_end);
        self.ended.push_back((place, self.next_end));
        self.next_end += 1;
        self.drop_stale_ends();
        true
    }

    /// Drops stale entries when they outnumber the ended flows, so that `ended` is bounded by the
    /// number of flows also if the same flows end and reopen for hours.
    fn drop_stale_ends(&mut self) {
        if self.ended.len() >= MIN_ENDS_TO_COMPACT && self.ended.len() > 2 * self.ended_flows {
            let slots = &self.slots;
            let is_current = |place: Place, end| slots[place].as_ref().is_some_and(|stored| stored.end == Some(end));
            self.ended.retain(|(place, end)| is_current(*place, *end));
        }
    }

    /// Removes the flow that ended first.
    pub(super) fn remove_oldest_ended(&mut self) -> Option<(Place, Flow)> {
        loop {
            let (place, end) = self.ended.pop_front()?;
            if self.stored(place).is_some_and(|stored| stored.end == Some(end)) {
                return self.remove(place).map(|stored| (place, stored.flow));
            }
        }
    }

    fn remove(&mut self, place: Place) -> Option<StoredFlow> {
        let hash = self.hasher.hash_one(self.get(place)?.key);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at as Place == place) {
            entry.remove();
        }
        let stored = self.slots[place].take()?;
        self.ended_flows -= usize::from(stored.is_ended());
        self.free.push(place);
        Some(stored)
    }
}
