//! What one consumer has not received yet. Flows are coalesced: however often one changes, the
//! consumer receives its newest record, and each of its openings and ends, when it has room. So
//! the backlog is bounded by the ledger, and a slow consumer delays only itself.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use super::event::{Event, EventKinds, FlowRecord};
use crate::flow::{Flow, FoldedCounts, FoldedFlows, Place};
use crate::process::{LocalCalls, ProcessNumber};

/// Events that are not coalesced and wait at most; further ones are counted as missed.
const MAX_WAITING_EVENTS: usize = 4096;
/// Events of evicted flows that wait at most; further ones are folded into their endpoints.
pub(super) const MAX_EVICTED_EVENTS: usize = 16_384;
/// Events that one record becomes: opened, grew or ended.
const MAX_EVENTS_OF_RECORD: usize = 3;

/// What a consumer missed because it was too slow.
#[derive(Debug, Default)]
pub struct Missed {
    /// Events other than records of flows.
    pub events: u64,
    /// Flows whose final record was missed, folded into their endpoints.
    pub flows: FoldedFlows,
    /// Serial numbers of those of them of which the consumer has an earlier record. At most as
    /// many as the ledger tracked when the consumer fell behind.
    pub outdated: Vec<u64>,
}

/// The state of a flow towards one consumer.
#[derive(Debug, Default, Clone, Copy)]
struct Mark {
    /// Which changes have not been delivered.
    opened: bool,
    grew: bool,
    ended: bool,
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

    /// Takes the changes. The place stays in its queues until it is taken from them.
    fn take(&mut self) -> Self {
        let queued = Self { is_in_urgent: self.is_in_urgent, is_in_grown: self.is_in_grown, ..Self::default() };
        std::mem::replace(self, queued)
    }
}

/// An interval that has not been delivered. Several are coalesced into the latest.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PendingInterval {
    /// Where the first step begins that changed, nanoseconds since the Unix epoch.
    pub steps_from: Option<u64>,
}

/// The parts of an interval that are delivered only when they changed, as the consumer has them.
#[derive(Debug, Default)]
pub(super) struct KnownParts {
    /// How many notes.
    pub notes: usize,
    /// How many untracked flows, and what they carried.
    pub untracked: FoldedCounts,
    /// Failed calls and local sockets.
    pub calls: LocalCalls,
    /// When they are looked at again, nanoseconds since the Unix epoch.
    pub next_calls_ns: u64,
}

/// The backlog of one consumer.
#[derive(Debug)]
pub(super) struct Outlet {
    pub wants: EventKinds,
    events: VecDeque<Event>,
    marks: Vec<Mark>,
    /// Places of flows that opened or ended, each once.
    urgent: VecDeque<Place>,
    /// Places of flows that carried more packets, each once. A flow that opened or ended later is
    /// also in `urgent`.
    grown: VecDeque<Place>,
    evicted: VecDeque<Event>,
    /// Delivered after everything else.
    finished: Option<Event>,
    /// Places of lookups that changed.
    pub lookups: BTreeSet<usize>,
    /// An interval ended; set once it is delivered.
    interval: Option<PendingInterval>,
    pub known: KnownParts,
    /// Numbers of the processes of which the consumer has a record.
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
        if self.events.len() < MAX_WAITING_EVENTS || event.kind() == EventKinds::SESSION {
            self.events.push_back(event.clone());
        } else {
            self.missed.events += 1;
        }
    }

    /// An interval ended; the series changed from here on.
    pub(super) fn interval_ended(&mut self, steps_from: Option<u64>) {
        let pending = self.interval.get_or_insert_default();
        pending.steps_from = [pending.steps_from, steps_from].into_iter().flatten().min();
    }

    /// Takes the interval that is to be delivered.
    pub(super) fn take_interval(&mut self) -> Option<PendingInterval> {
        self.interval.take()
    }

    /// A flow at this place was opened.
    pub(super) fn opened(&mut self, place: Place) {
        let wants = self.wants;
        let mark = self.mark(place);
        mark.take();
        mark.opened = wants.has(EventKinds::FLOW_OPENED);
        mark.grew = wants.has(EventKinds::FLOW_GREW);
        self.queue(place);
    }

    /// Takes the end of the session, if there is nothing else to deliver.
    pub(super) fn take_finished(&mut self) -> Option<Event> {
        let is_last = self.events.is_empty() && self.waiting() == 0 && self.lookups.is_empty();
        if is_last && self.interval.is_none() { self.finished.take() } else { None }
    }

    /// A flow carried more packets.
    pub(super) fn grew(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_GREW) {
            self.mark(place).grew = true;
            self.queue(place);
        }
    }

    /// A flow ended.
    pub(super) fn ended(&mut self, place: Place) {
        if self.wants.has(EventKinds::FLOW_ENDED) {
            self.mark(place).ended = true;
            self.queue(place);
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

    /// The flow at this place is evicted; `record` is its last.
    pub(super) fn evict(&mut self, place: Place, record: &Arc<FlowRecord>) {
        let mark = self.mark(place).take();
        if !mark.has_changes() {
            return;
        }
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

    /// Takes the next event that needs no record, if there is one.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.evicted.pop_front())
    }

    /// Takes the next flow with changes: those that opened or ended first. Those that only carried
    /// more packets can wait.
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

    /// An upper bound of the number of flows with changes: a flow can be in both queues.
    pub(super) fn waiting(&self) -> usize {
        self.urgent.len() + self.grown.len() + self.evicted.len()
    }

    /// Whether flows wait that only carried more packets.
    pub(super) fn has_growth(&self) -> bool {
        !self.grown.is_empty()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let has_flows = self.waiting() > 0 || self.finished.is_some();
        self.events.is_empty() && !has_flows && self.lookups.is_empty() && self.interval.is_none()
    }
}

/// Whether flows that only carried more packets are delivered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowthTiming {
    /// They are.
    Now,
    /// They wait.
    Later,
}

/// Changes of a flow that are to be delivered now.
pub(super) struct Delivery {
    pub place: Place,
    mark: Mark,
}

impl Delivery {
    /// The events for this record.
    pub(super) fn events(&self, record: &Arc<FlowRecord>) -> impl Iterator<Item = Event> {
        events_of(self.mark, record)
    }
}

/// The final record of a flow stands for its growth too.
fn events_of(mark: Mark, record: &Arc<FlowRecord>) -> impl Iterator<Item = Event> + use<> {
    let opened = mark.opened.then(|| Event::FlowOpened(record.clone()));
    let reason = record.flow.ended.filter(|_| mark.ended);
    let ended = reason.map(|reason| Event::FlowEnded(record.clone(), reason));
    let grew = (mark.grew && reason.is_none()).then(|| Event::FlowGrew(record.clone()));
    opened.into_iter().chain(grew).chain(ended)
}
