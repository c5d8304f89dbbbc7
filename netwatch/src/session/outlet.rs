//! The backlog of one consumer. Changes of a flow are coalesced: when the consumer has room, it
//! receives the newest record, with one event for each kind of change. So the backlog is bounded by
//! the ledger, and a slow consumer delays only itself.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use super::event::{Event, EventKinds, FlowRecord};
use crate::flow::{EndReason, Flow, FoldedCounts, FoldedFlows, Place};
use crate::process::{LocalCalls, PacketCoverage, ProcessNumber};

/// Maximum backlog of events that are not coalesced; further ones are counted as missed.
const MAX_PENDING_EVENTS: usize = 4096;
/// Maximum backlog of events of evicted flows; further flows are folded into their endpoints.
pub(super) const MAX_EVICTED_EVENTS: usize = 16_384;
/// Maximum number of events of one record: opened, grew, ended.
const MAX_EVENTS_OF_RECORD: usize = 3;

/// What a consumer missed because it was too slow.
#[derive(Debug, Default)]
pub struct Missed {
    /// Events other than records of flows.
    pub events: u64,
    /// Flows without their final record, folded into their endpoints.
    pub flows: FoldedFlows,
    /// Serial numbers of the flows in `flows` of which the consumer has an earlier record. At most
    /// as many as the ledger tracked when the consumer fell behind.
    pub outdated: Vec<u64>,
}

/// What a consumer has not received of a flow.
#[derive(Debug, Default, Clone, Copy)]
struct Mark {
    /// The changes that were not delivered.
    opened: bool,
    grew: bool,
    ended: bool,
    /// It is live and the session ends.
    is_forced: bool,
    /// Its place is in [`Outlet::urgent`].
    is_in_urgent: bool,
    /// Its place is in [`Outlet::grown`].
    is_in_grown: bool,
    /// The consumer has a record of it.
    is_known: bool,
}

impl Mark {
    fn has_changes(self) -> bool {
        self.opened || self.grew || self.ended
    }

    /// Takes the changes. The place stays in its queues, so that no queue contains it twice.
    fn take(&mut self) -> Self {
        let queued = Self { is_in_urgent: self.is_in_urgent, is_in_grown: self.is_in_grown, ..Self::default() };
        std::mem::replace(self, queued)
    }
}

/// An interval that was not delivered. Several are coalesced into one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PendingInterval {
    /// Start of the first interval of the series that changed, nanoseconds since the Unix epoch.
    pub changed_from: Option<u64>,
}

/// The last delivered versions of data that an interval contains only if it changed.
#[derive(Debug, Default)]
pub(super) struct KnownParts {
    /// Number of notes.
    pub notes: usize,
    /// Number and counts of the flows that were never tracked individually.
    pub untracked: FoldedCounts,
    /// Failed calls and local sockets.
    pub calls: LocalCalls,
    /// What `calls` depended on when they were compared: changes of the trace, and the coverage.
    pub changes: Option<(u64, PacketCoverage)>,
    /// When `calls` are compared again, nanoseconds since the Unix epoch.
    pub next_calls_ns: u64,
}

/// The backlog of one consumer.
#[derive(Debug)]
pub(super) struct Outlet {
    pub wants: EventKinds,
    events: VecDeque<Event>,
    marks: Vec<Mark>,
    /// Places of flows that opened or ended, each once. They are delivered before `grown`.
    urgent: VecDeque<Place>,
    /// Places of flows that grew, each once. A flow that opened or ended later is also in `urgent`.
    grown: VecDeque<Place>,
    evicted: VecDeque<Event>,
    /// Delivered after everything else.
    finished: Option<Event>,
    /// Numbers of lookups that changed.
    pub lookups: BTreeSet<usize>,
    /// An interval ended and was not delivered.
    interval: Option<PendingInterval>,
    /// What the consumer has of the data that an interval contains only if it changed.
    pub known: KnownParts,
    /// Numbers of the processes that the consumer has received.
    pub processes: HashSet<ProcessNumber>,
    pub missed: Missed,
}

impl Outlet {
    pub(super) fn new(wants: EventKinds) -> Self {
        Self {
            wants,
            events: VecDeque::new(),
            marks: Vec::new(),
            urgent: VecDeque::new(),
            grown: VecDeque::new(),
            evicted: VecDeque::new(),
            finished: None,
            lookups: BTreeSet::new(),
            interval: None,
            known: KnownParts::default(),
            processes: HashSet::new(),
            missed: Missed::default(),
        }
    }

    /// Adds an event that is not coalesced, if the consumer wants it.
    pub(super) fn push(&mut self, event: &Event) {
        if !self.wants.has(event.kind()) {
            return;
        }
        if matches!(event, Event::Finished(_)) {
            self.finished = Some(event.clone());
            return;
        }
        if self.events.len() < MAX_PENDING_EVENTS || event.kind() == EventKinds::SESSION {
            self.events.push_back(event.clone());
        } else {
            self.missed.events += 1;
        }
    }

    /// Queues an interval. The series changed from `changed_from` on.
    pub(super) fn interval_ended(&mut self, changed_from: Option<u64>) {
        let pending = self.interval.get_or_insert_default();
        pending.changed_from = [pending.changed_from, changed_from].into_iter().flatten().min();
    }

    /// Takes the pending interval.
    pub(super) fn take_interval(&mut self) -> Option<PendingInterval> {
        self.interval.take()
    }

    /// Queues the flow that was opened at this place.
    pub(super) fn opened(&mut self, place: Place) {
        let wants = self.wants;
        let mark = self.mark(place);
        mark.take();
        mark.opened = wants.has(EventKinds::FLOW_OPENED);
        mark.grew = wants.has(EventKinds::FLOW_GREW);
        self.queue(place);
    }

    /// Takes the end of the session, if all other events were delivered.
    pub(super) fn take_finished(&mut self) -> Option<Event> {
        let is_last = self.events.is_empty() && self.pending_flows() == 0 && self.lookups.is_empty();
        if is_last && self.interval.is_none() { self.finished.take() } else { None }
    }

    /// Queues the flow at this place, which grew.
    pub(super) fn grew(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_GREW) {
            self.mark(place).grew = true;
            self.queue(place);
        }
    }

    /// Queues the flow at this place, which grew after its end. A consumer that wants ends and no
    /// growth receives the end again, or the growth if the flow is live again.
    pub(super) fn grew_after_end(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_GREW) {
            self.grew(place);
        } else if self.wants.has(EventKinds::FLOW_ENDED) {
            self.mark(place).grew = true;
            self.ended(place);
        }
    }

    /// Queues the flow at this place, which ended.
    pub(super) fn ended(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_ENDED) {
            self.mark(place).ended = true;
            self.queue(place);
        }
    }

    /// The session ends while this flow is live.
    pub(super) fn forced_end(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_ENDED) {
            self.mark(place).is_forced = true;
            self.ended(place);
        }
    }

    fn mark(&mut self, place: Place) -> &mut Mark {
        if place >= self.marks.len() {
            self.marks.resize(place + 1, Mark::default());
        }
        &mut self.marks[place]
    }

    fn queue(&mut self, place: Place) {
        let mark = &mut self.marks[place];
        if mark.opened || mark.ended {
            if !std::mem::replace(&mut mark.is_in_urgent, true) {
                self.urgent.push_back(place);
            }
        } else if mark.grew && !std::mem::replace(&mut mark.is_in_grown, true) {
            self.grown.push_back(place);
        }
    }

    /// Removes the flow at this place, which is evicted, unless it has changes that were not
    /// delivered. Returns whether it was removed.
    pub(super) fn evict_unchanged(&mut self, place: Place) -> bool {
        let Some(mark) = self.marks.get_mut(place) else { return true };
        let is_unchanged = !mark.has_changes();
        mark.is_known &= !is_unchanged;
        is_unchanged
    }

    /// Removes the flow at this place, which is evicted with changes. `record` is its last record.
    pub(super) fn evict(&mut self, place: Place, record: &Arc<FlowRecord>) {
        let mark = self.mark(place).take();
        if self.evicted.len() + MAX_EVENTS_OF_RECORD <= MAX_EVICTED_EVENTS {
            self.evicted.extend(events_of(mark, record));
        } else {
            self.miss(&record.flow, mark.is_known);
        }
    }

    fn miss(&mut self, flow: &Flow, is_known: bool) {
        self.missed.flows.fold_flow(flow);
        if is_known {
            self.missed.outdated.push(flow.serial);
        }
    }

    /// Takes the next event for which no record has to be created.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.evicted.pop_front())
    }

    /// Takes the next flow with changes: first those that opened or ended, then, with
    /// [`GrowthTiming::Now`], those that only grew.
    pub(super) fn next_changed(&mut self, growth: GrowthTiming) -> Option<Delivery> {
        while let Some(place) = self.next_place(growth) {
            // A place without changes was delivered from the other queue, or its flow was evicted.
            if self.marks[place].has_changes() {
                let mark = self.marks[place].take();
                self.marks[place].is_known = true;
                return Some(Delivery { place, mark });
            }
        }
        None
    }

    fn next_place(&mut self, growth: GrowthTiming) -> Option<Place> {
        if let Some(place) = self.urgent.pop_front() {
            self.marks[place].is_in_urgent = false;
            return Some(place);
        }
        let place = if growth == GrowthTiming::Now { self.grown.pop_front() } else { None };
        place.inspect(|place| self.marks[*place].is_in_grown = false)
    }

    /// Upper bound of the number of flows with pending changes: a flow can be in both queues.
    pub(super) fn pending_flows(&self) -> usize {
        self.urgent.len() + self.grown.len() + self.evicted.len()
    }

    /// Whether there are flows that only grew.
    pub(super) fn has_growth(&self) -> bool {
        !self.grown.is_empty()
    }

    /// Whether everything was delivered.
    pub(super) fn is_empty(&self) -> bool {
        let has_flows = self.pending_flows() > 0 || self.finished.is_some();
        self.events.is_empty() && !has_flows && self.lookups.is_empty() && self.interval.is_none()
    }
}

/// Whether flows that only grew are delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowthTiming {
    /// They are delivered now.
    Now,
    /// They stay in the backlog.
    Later,
}

/// The changes of a flow that are delivered now.
pub(super) struct Delivery {
    pub place: Place,
    mark: Mark,
}

impl Delivery {
    /// The events, with this record of the flow.
    pub(super) fn events(&self, record: &Arc<FlowRecord>) -> impl Iterator<Item = Event> {
        events_of(self.mark, record)
    }
}

/// The events for the changes of a flow. An end includes earlier growth.
fn events_of(mark: Mark, record: &Arc<FlowRecord>) -> impl Iterator<Item = Event> + use<> {
    let opened = mark.opened.then(|| Event::FlowOpened(record.clone()));
    let forced = mark.is_forced.then(|| record.flow.end_reason().unwrap_or(EndReason::ForcedEnd));
    let reason = record.flow.ended.filter(|_| mark.ended).or(forced);
    let ended = reason.map(|reason| Event::FlowEnded(record.clone(), reason));
    let grew = (mark.grew && reason.is_none()).then(|| Event::FlowGrew(record.clone()));
    opened.into_iter().chain(grew).chain(ended)
}
