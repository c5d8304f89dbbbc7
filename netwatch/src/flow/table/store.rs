//! Storage of the individually tracked flows: reusable places, an index by key, and the order in
//! which flows ended and became idle.

use std::cmp::Ordering;
use std::hash::BuildHasher;

use super::departures::Departures;
use super::shards::ShardedTable;
use crate::flow::{Chunks, EndReason, Flow, FlowId, FlowKey, Increment};

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
    /// It was added to a flow of the table. If that flow had ended, it is live again, unless TCP
    /// closed it or the increment ended it too.
    Grew,
}

/// A tracked flow.
#[derive(Debug)]
pub(super) struct StoredFlow {
    pub flow: Flow,
    /// The number of the entry of this flow in [`FlowStore::ended`]; `None` while it is live.
    end: Option<u64>,
    /// The number of the entry of this flow in [`FlowStore::idle`], if the meter has no entry of it
    /// although it is live.
    departure: Option<u64>,
    /// TCP closed the flow and the meter ended it: late segments do not reopen it.
    is_closed: bool,
    /// The epoch of its entry in the meter.
    meter_epoch: u32,
    /// The meter had an entry of the next connection while it had this one.
    is_superseded: bool,
    /// The sequence number of its SYN, if that was observed.
    initial_sequence: Option<u32>,
    /// The place of the flow with this key before this one. If that flow was evicted, another flow
    /// is there, with another key or a higher epoch.
    earlier: Option<Place>,
    /// Whether it is the newest flow with its key.
    is_newest: bool,
}

impl StoredFlow {
    fn new(flow: Flow) -> Self {
        Self {
            flow,
            end: None,
            departure: None,
            is_closed: false,
            meter_epoch: 0,
            is_superseded: false,
            initial_sequence: None,
            earlier: None,
            is_newest: false,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the flow is live and the meter has no entry of it.
    pub(super) fn is_idle(&self) -> bool {
        self.departure.is_some()
    }

    /// Whether the increment is of an entry that the meter had before the flow ended or became
    /// idle.
    fn has_entry_of(&self, increment: &Increment) -> bool {
        !self.is_ended() && !self.is_idle() || increment.first_seen_ns <= self.flow.last_seen_ns
    }

    /// Whether an increment belongs to an earlier flow with the same key, to this one, or to a
    /// later one.
    fn compare(&self, increment: &Increment, idle_timeout_ns: u64) -> Ordering {
        let flow = &self.flow;
        if self.has_entry_of(increment) {
            return increment.epoch.cmp(&self.meter_epoch);
        }
        let is_continued = if flow.is_tcp() {
            // Late segments, a connection that was idle for longer than the meter keeps an entry,
            // or a copy of its SYN.
            let sequence = increment.initial_sequence;
            increment.connections == 0 && sequence.is_none() || sequence.is_some() && sequence == self.initial_sequence
        } else {
            let is_idle = increment.first_seen_ns - flow.last_seen_ns >= idle_timeout_ns;
            !is_idle && flow.ended.is_none_or(|reason| reason == EndReason::LackOfResources)
        };
        if is_continued { Ordering::Equal } else { Ordering::Greater }
    }

    /// The epoch of a flow that an increment opens after this one.
    fn epoch_after(&self, increment: &Increment) -> u32 {
        // The epochs of the meter start over when it has no entry with this key. Then the increment
        // of the first one may be delivered later.
        let is_continued = !self.is_ended() && !self.is_idle() || self.is_superseded;
        let more = increment.epoch.checked_sub(self.meter_epoch).filter(|more| is_continued && *more > 0);
        self.flow.epoch.saturating_add(more.unwrap_or(increment.epoch.saturating_add(1)))
    }

    /// The epoch of a flow that an increment opens before this one.
    fn epoch_before(&self, increment: &Increment) -> u32 {
        self.flow.epoch.saturating_sub(self.meter_epoch - increment.epoch)
    }
}

/// The flow that an increment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The flow at this place.
    Tracked(Place),
    /// A new flow. The newest one with its key so far is at this place, if it is tracked.
    New(Option<Place>),
    /// A new flow that began before the one with its key at this place: the meter delivers its
    /// entries in any order.
    NewBefore(Place),
}

/// The individually tracked flows.
#[derive(Debug, Default)]
pub(super) struct FlowStore {
    slots: Chunks<Option<StoredFlow>>,
    free: Vec<Place>,
    /// The place of the newest flow of each key.
    index: ShardedTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// The place after the flow that grew last. Every drain delivers flows in the same order, so
    /// the next increment usually belongs to this place and needs no lookup.
    next: Place,
    /// Ended flows. They may be reopened.
    ended: Departures,
    /// Live flows without an entry in the meter. They may go on.
    idle: Departures,
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

    pub(super) fn flow_mut(&mut self, place: Place) -> Option<&mut Flow> {
        self.slots.get_mut(place)?.as_mut().map(|stored| &mut stored.flow)
    }

    pub(super) fn ended_mut(&mut self, place: Place) -> Option<&mut Flow> {
        let is_ended = self.stored(place)?.is_ended();
        self.flow_mut(place).filter(|_| is_ended)
    }

    #[cfg(test)]
    pub(super) fn ends_len(&self) -> usize {
        self.ended.queue_len().max(self.idle.queue_len())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.count() > 0
    }

    /// Whether the meter has no entry of a live flow.
    pub(super) fn has_idle(&self) -> bool {
        self.idle.count() > 0
    }

    /// The place of the newest flow with this key.
    pub(super) fn find(&self, key: &FlowKey) -> Option<Place> {
        let is_next =
            self.stored(self.next).is_some_and(|next| next.flow.key == *key && next.is_newest && !next.is_ended());
        if is_next {
            return Some(self.next);
        }
        let hash = self.hasher.hash_one(key);
        self.index.of(hash).find(hash, |place| self.key_at(*place) == Some(key)).map(|place| *place as Place)
    }

    fn key_at(&self, place: u32) -> Option<&FlowKey> {
        self.get(place as Place).map(|flow| &flow.key)
    }

    /// The flow that an increment with this key belongs to.
    pub(super) fn owner(&self, key: &FlowKey, increment: &Increment, idle_timeout_ns: u64) -> Owner {
        let Some((place, newest)) = self.find(key).and_then(|place| Some((place, self.stored(place)?))) else {
            return Owner::New(None);
        };
        match newest.compare(increment, idle_timeout_ns) {
            Ordering::Equal => Owner::Tracked(place),
            Ordering::Greater => Owner::New(Some(place)),
            Ordering::Less => self.earlier_owner(place, newest, increment),
        }
    }

    /// The owner of an increment that belongs to a flow before the newest one, which is at `place`.
    /// Packets of a TCP connection without a SYN are late segments, which open no flow.
    fn earlier_owner(&self, place: Place, newest: &StoredFlow, increment: &Increment) -> Owner {
        let flows = || std::iter::successors(Some(place), |place| self.earlier(*place));
        let stored = |place: &Place| self.stored(*place);
        let is_owner = |stored: &StoredFlow| stored.meter_epoch == increment.epoch && stored.has_entry_of(increment);
        if let Some(found) = flows().find(|place| stored(place).is_some_and(is_owner)) {
            return Owner::Tracked(found);
        }
        let epoch = newest.epoch_before(increment);
        let is_later = |place: &Place| stored(place).is_some_and(|stored| stored.flow.epoch > epoch);
        let later = flows().take_while(is_later).last().unwrap_or(place);
        let is_late = newest.flow.is_tcp() && increment.initial_sequence.is_none();
        match self.earlier(later) {
            Some(earlier) if is_late || self.get(earlier).is_some_and(|flow| flow.epoch == epoch) => {
                Owner::Tracked(earlier)
            }
            _ if newest.flow.epoch == epoch => Owner::Tracked(place),
            _ => Owner::NewBefore(later),
        }
    }

    /// The place of the flow with the same key before the one at this place.
    fn earlier(&self, place: Place) -> Option<Place> {
        let later = self.stored(place)?;
        let is_earlier = |flow: &Flow| flow.key == later.flow.key && flow.epoch < later.flow.epoch;
        later.earlier.filter(|earlier| self.get(*earlier).is_some_and(is_earlier))
    }

    /// Whether the flow at this place is the newest one with its key.
    pub(super) fn is_newest(&self, place: Place) -> bool {
        self.stored(place).is_some_and(|stored| stored.is_newest)
    }

    /// Adds growth to a flow. An ended flow is live again, unless TCP closed it.
    pub(super) fn grow(&mut self, place: Place, increment: &Increment) {
        let Some(stored) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        // Two CPUs may have added the same connection, each with a copy of its SYN.
        let is_copy = stored.initial_sequence.is_some() && stored.initial_sequence == increment.initial_sequence;
        let connections = if is_copy { 0 } else { increment.connections };
        let is_another_entry = !stored.has_entry_of(increment);
        stored.flow.absorb(&Increment { connections, ..*increment });
        stored.initial_sequence = stored.initial_sequence.or(increment.initial_sequence);
        if stored.is_ended() || stored.is_idle() {
            stored.meter_epoch = increment.epoch;
        }
        stored.is_superseded = increment.superseded || stored.is_superseded && !is_another_entry;
        if !stored.is_closed && stored.is_ended() {
            self.ended.take_back(stored.end.take());
            stored.flow.ended = None;
        }
        self.note_departure(place, increment);
        self.next = place + 1;
    }

    /// Opens the flow of an increment. `epoch` is that of the first flow of the meter with this key
    /// if none is tracked.
    pub(super) fn open(&mut self, key: FlowKey, epoch: u32, owner: Owner, increment: &Increment) -> Place {
        let near = match owner {
            Owner::New(near) => near,
            Owner::NewBefore(place) | Owner::Tracked(place) => Some(place),
        };
        // It may have been evicted to make room.
        let near = near.filter(|place| self.get(*place).is_some_and(|flow| flow.key == key));
        let epoch = match near.and_then(|place| self.stored(place)) {
            None => epoch.saturating_add(increment.epoch),
            Some(later) if matches!(owner, Owner::NewBefore(_)) => later.epoch_before(increment),
            Some(newest) => newest.epoch_after(increment),
        };
        let earlier = match (owner, near) {
            (Owner::NewBefore(_), Some(later)) => self.earlier(later),
            _ => near,
        };
        let flow = Flow { serial: self.next_serial, ..Flow::new(FlowId { key, epoch }, increment) };
        let initial_sequence = increment.initial_sequence;
        let place = self.store(StoredFlow {
            initial_sequence,
            meter_epoch: increment.epoch,
            is_superseded: increment.superseded,
            earlier,
            ..StoredFlow::new(flow)
        });
        match (owner, near.and_then(|place| self.slots[place].as_mut())) {
            (Owner::NewBefore(_), Some(later)) => later.earlier = Some(place),
            _ => self.index_newest(&key, place),
        }
        self.note_departure(place, increment);
        place
    }

    /// Notes whether the meter has an entry of this flow after this increment.
    fn note_departure(&mut self, place: Place, increment: &Increment) {
        let Some(stored) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        self.idle.take_back(stored.departure.take());
        if increment.is_last && increment.ended.is_none() && !stored.is_ended() {
            stored.departure = Some(self.idle.push(place));
            let slots = &self.slots;
            self.idle.compact(|place, number| departure_at(slots, place) == Some(number));
        }
    }

    /// Adds a flow, which is the newest of its key.
    pub(super) fn insert(&mut self, flow: Flow) -> Place {
        let (key, earlier) = (flow.key, self.find(&flow.key));
        let place = self.store(StoredFlow { earlier, ..StoredFlow::new(flow) });
        self.index_newest(&key, place);
        place
    }

    fn store(&mut self, stored: StoredFlow) -> Place {
        self.next_serial = self.next_serial.max(stored.flow.serial.saturating_add(1));
        let stored = Some(stored);
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
        self.next = place + 1;
        place
    }

    fn index_newest(&mut self, key: &FlowKey, place: Place) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let key_at = |at: u32| slots[at as Place].as_ref().map(|stored| &stored.flow.key);
        let is_same = |at: &u32| *at as Place == place || key_at(*at) == Some(key);
        let hash_at = |at: &u32| hasher.hash_one(key_at(*at).unwrap_or(key));
        let number = u32::try_from(place).expect("a table has fewer than 2^32 flows");
        let hash = hasher.hash_one(key);
        let before = match self.index.of_mut(hash).entry(hash, is_same, hash_at) {
            hashbrown::hash_table::Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), number)),
            hashbrown::hash_table::Entry::Vacant(entry) => {
                entry.insert(number);
                None
            }
        };
        for (at, is_newest) in before.map(|at| (at as Place, false)).into_iter().chain([(place, true)]) {
            if let Some(stored) = &mut self.slots[at] {
                stored.is_newest = is_newest;
            }
        }
    }

    /// Marks a flow as ended. Returns false if it is ended already: the meter had an entry for late
    /// segments, or two for one connection.
    pub(super) fn end(&mut self, place: Place, reason: EndReason) -> bool {
        let live = self.slots.get_mut(place).and_then(Option::as_mut).filter(|stored| stored.end.is_none());
        let Some(stored) = live else { return false };
        stored.is_closed = reason == EndReason::EndOfFlow && stored.flow.is_tcp();
        stored.flow.ended = Some(reason);
        self.idle.take_back(stored.departure.take());
        stored.end = Some(self.ended.push(place));
        let slots = &self.slots;
        self.ended.compact(|place, number| end_at(slots, place) == Some(number));
        true
    }

    /// The place of the live flow that has had no entry in the meter for longest.
    pub(super) fn oldest_idle(&mut self) -> Option<Place> {
        let slots = &self.slots;
        self.idle.first(|place, number| departure_at(slots, place) == Some(number))
    }

    /// Removes the flow that ended first.
    pub(super) fn remove_oldest_ended(&mut self) -> Option<(Place, Flow)> {
        let slots = &self.slots;
        let place = self.ended.first(|place, number| end_at(slots, place) == Some(number))?;
        self.remove(place).map(|stored| (place, stored.flow))
    }

    fn remove(&mut self, place: Place) -> Option<StoredFlow> {
        let (key, earlier) = (self.get(place)?.key, self.earlier(place));
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.of_mut(hash).find_entry(hash, |at| *at as Place == place) {
            entry.remove();
            earlier.into_iter().for_each(|earlier| self.index_newest(&key, earlier));
        }
        let stored = self.slots[place].take()?;
        self.ended.take_back(stored.end);
        self.idle.take_back(stored.departure);
        self.free.push(place);
        Some(stored)
    }
}

fn end_at(slots: &Chunks<Option<StoredFlow>>, place: Place) -> Option<u64> {
    slots.get(place)?.as_ref()?.end
}

fn departure_at(slots: &Chunks<Option<StoredFlow>>, place: Place) -> Option<u64> {
    slots.get(place)?.as_ref()?.departure
}
