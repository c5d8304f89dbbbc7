//! Flows of a recording that lost their rows, because the recording has a size limit.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Result};

use crate::flow::{Endpoint, Flow, FoldedCounts, FoldedFlows, ObservationPoint};
use crate::record::fold::{self, FlowLookup};

/// Folded flows of which late packets are still assigned to their endpoint.
const MAX_RECENT: usize = 65_536;

/// The flows that were folded into their endpoints.
#[derive(Debug, Default)]
pub(super) struct FoldedRows {
    flows: FoldedFlows,
    /// Those folded last, as they were then, by serial number.
    recent: HashMap<u64, Flow>,
    order: VecDeque<u64>,
    /// Higher than the serial number of each of them.
    next_serial: u64,
    /// Updates of flows that are not among the recent ones.
    late: u64,
    /// Since the last call of [`FoldedRows::has_changed`].
    has_changed: bool,
}

impl FoldedRows {
    /// Folds flows if the recording is nearly full.
    pub(super) fn make_room(&mut self, db: &mut Connection) -> Result<()> {
        if !fold::is_full(db)? {
            return Ok(());
        }
        let transaction = db.transaction()?;
        fold::remove_oldest(&transaction, |flow| self.fold(flow))?;
        transaction.commit()
    }

    fn fold(&mut self, flow: &Flow) {
        self.flows.fold_flow(flow);
        self.has_changed = true;
        self.next_serial = self.next_serial.max(flow.serial + 1);
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
    pub(super) fn grow(&mut self, rows: &mut FlowLookup<'_>, flow: &Flow) -> Result<bool> {
        if flow.serial >= self.next_serial {
            return Ok(false);
        }
        if let Some(before) = self.recent.get(&flow.serial) {
            self.flows.add_growth(before, flow);
            self.has_changed = true;
            self.remember(flow);
            return Ok(true);
        }
        let is_folded = !rows.has(flow.serial)?;
        self.late += u64::from(is_folded);
        Ok(is_folded)
    }

    /// Whether the endpoints changed since the last call.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Numbers and counts of the folded flows.
    pub(super) fn counts(&self) -> FoldedCounts {
        self.flows.counts()
    }

    /// Their endpoints.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (ObservationPoint, Endpoint)> {
        self.flows.endpoints()
    }

    /// Updates that could not be recorded, as a loss.
    pub(super) fn lost(&self) -> Option<(&'static str, u64)> {
        (self.late > 0).then_some(("recording.late_updates", self.late))
    }
}
