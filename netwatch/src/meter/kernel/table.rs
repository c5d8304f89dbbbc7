//! The flow table with its fronts, shared between two threads: the metering thread drains it, and
//! the reader keeps room in it, also while the metering thread is busy or waits for a CPU.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flows::FlowEntries;
use super::fronts::Fronts;
use crate::error::Error;
use crate::meter::clock::Clock;

/// The fronts and the table behind them.
#[derive(Debug)]
pub(super) struct KernelTable {
    pub fronts: Fronts,
    pub flows: FlowEntries,
}

/// The table; a clone is the same one. It is locked for at most a few milliseconds.
#[derive(Debug, Clone)]
pub(super) struct SharedTable(Arc<Mutex<KernelTable>>);

impl SharedTable {
    pub(super) fn new(fronts: Fronts, flows: FlowEntries) -> Self {
        Self(Arc::new(Mutex::new(KernelTable { fronts, flows })))
    }

    /// A panic of another thread leaves every entry either in the table or free; flows that it was
    /// retiring are retired again.
    pub(super) fn lock(&self) -> MutexGuard<'_, KernelTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps room for flows that arrive: lets the table grow, and retires finished flows when it is
    /// filling up. To be called often.
    pub(super) fn keep_room(&self, clock: Clock) {
        let mut table = self.lock();
        let KernelTable { fronts, flows } = &mut *table;
        let failed: [Option<Error>; 2] = [flows.grow_ahead().err(), flows.relieve(fronts, clock).err()];
        failed.into_iter().flatten().for_each(|error| flows.note_failure(error));
    }
}
