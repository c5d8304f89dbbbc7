//! Flows of a recording that lost their rows, because the recording has a size limit.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Result};

use super::processes::RemovedProcesses;
use super::serials::Serials;
use crate::flow::{Endpoint, Flow, FoldedCounts, FoldedFlows, ObservationPoint};
use crate::record::fold;

/// Folded flows of which late packets are still assigned to their endpoint.
const MAX_RECENT: usize = 65_536;

/// The flows that were folded into their endpoints.
#[derive(Debug, Default)]
pub(super) struct FoldedRows {
    flows: FoldedFlows,
    /// Their serial numbers.
    serials: Serials,
    /// Those folded last, with what their endpoints have of them, by serial number.
    recent: HashMap<u64, Flow>,
    order: VecDeque<u64>,
    /// Updates of flows that are not among the recent ones.
    late: u64,
    /// Since the last call of [`FoldedRows::has_changed`].
    has_changed: bool,
}

impl FoldedRows {
    /// Folds flows if the recording is nearly full.
    pub(super) fn make_room(&mut self, db: &mut Connection, processes: &mut RemovedProcesses) -> Result<()> {
        if !fold::is_full(db)? {
            return Ok(());
        }
        let transaction = db.transaction()?;
        let removed = |process, parent| processes.add(process, parent);
        fold::remove_oldest(&transaction, |flow| self.fold(flow), removed)?;
        transaction.commit()
    }

    fn fold(&mut self, flow: &Flow) {
        self.flows.fold_flow(flow);
        self.has_changed = true;
        self.serials.insert(flow.serial);
        self.remember(flow);
        if self.order.len() > MAX_RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    fn remember(&mut self, flow: &Flow) {
        if self.recent.insert(flow.serial, flow.clone()).is_none() {
            self.order.push_back(flow.serial);
        }
    }

    /// Adds what a flow grew by since it was folded. Returns false if it was not folded.
    pub(super) fn grow(&mut self, flow: &Flow) -> bool {
        if !self.serials.contains(flow.serial) {
            return false;
        }
        match self.recent.get(&flow.serial) {
            Some(before) => {
                self.flows.add_growth(before, flow);
                self.has_changed = true;
                self.remember(flow);
            }
            None => self.late += 1,
        }
        true
    }

    /// Whether the endpoints changed since the last call.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Numbers and counts of the folded flows.
    pub(super) fn counts(&self) -> FoldedCounts {
        self.flows.counts()
    }

    /// Numbers and counts of the folded flows, without those that are counted elsewhere by now. Of
    /// a flow that is not among the recent ones, only the number is known: what was counted of it
    /// is an update that comes too late.
    pub(super) fn retract(&mut self, serials: &[u64]) -> FoldedCounts {
        let (recent, old): (Vec<u64>, Vec<u64>) = (serials.iter().filter(|serial| self.serials.contains(**serial)))
            .partition(|serial| self.recent.contains_key(serial));
        self.late += old.len() as u64;
        let counts = self.flows.counts_without(recent.iter().filter_map(|serial| self.recent.get(serial)));
        FoldedCounts { flows: counts.flows.saturating_sub(old.len() as u64), ..counts }
    }

    /// Their endpoints.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (ObservationPoint, Endpoint)> {
        self.flows.endpoints()
    }

    /// Updates that could not be recorded, as a loss.
    pub(super) fn lost(&self) -> Option<(&'static str, u64)> {
        (self.late > 0).then_some((fold::LATE_UPDATES, self.late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{
        Counters, Direction, FlowKey, Increment, PayloadGrowth, PerDirection, Traffic, TransportAddress,
    };

    fn flow(serial: u64, skbs: u64) -> Flow {
        let end = |port| TransportAddress { addr: [10, 0, 0, 2].into(), port };
        let key = FlowKey {
            point: ObservationPoint::Link,
            protocol: 17,
            fragment: false,
            local: end(serial as u16),
            remote: end(53),
        };
        let egress = Counters { skbs, packets: skbs, bytes: 60 * skbs, wire_bytes: 60 * skbs };
        let increment = Increment {
            traffic: Traffic::Flow(key),
            point: ObservationPoint::Link,
            counters: PerDirection { egress, ingress: Counters::default() },
            payload: PayloadGrowth::default(),
            first_seen_ns: serial,
            last_seen_ns: serial,
            opened_by: Direction::Egress,
            connections: 0,
            initial_sequence: None,
            epoch: 0,
            superseded: false,
            is_last: false,
            ended: None,
            tcp: None,
        };
        let mut table = crate::flow::FlowTable::default();
        table.apply(increment);
        let flow = table.iter().next().expect("a flow").clone();
        Flow { serial, ..flow }
    }

    fn folded(serials: &[u64]) -> FoldedRows {
        let mut rows = FoldedRows::default();
        serials.iter().for_each(|serial| rows.fold(&flow(*serial, 1)));
        rows
    }

    #[test]
    fn a_live_flow_that_is_first_delivered_later_is_not_folded() {
        let mut rows = folded(&[0, 1, 3]);
        assert!(!rows.grow(&flow(2, 1)));
        assert!(rows.grow(&flow(3, 5)));
        assert_eq!((rows.counts().flows, rows.counts().counters.egress.skbs, rows.lost()), (3, 7, None));
    }

    #[test]
    fn a_folded_flow_that_is_counted_elsewhere_is_counted_once() {
        let mut rows = folded(&[0, 1, 3]);
        rows.grow(&flow(3, 5));
        let counts = rows.retract(&[2, 3, 9]);
        assert_eq!((counts.flows, counts.counters.egress.skbs, rows.lost()), (2, 2, None));
        rows.recent.remove(&1);
        assert_eq!((rows.retract(&[1]).flows, rows.lost()), (2, Some((fold::LATE_UPDATES, 1))));
    }
}
