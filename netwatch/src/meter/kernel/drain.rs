//! The drain: reads the kernel's counters and hands over their growth as increments. Counters in
//! the kernel only grow.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use netwatch_common::flow::FlowValue;
use netwatch_common::remainder::{self, Remainder};

use super::fronts::FrontGroup;
use super::memory::Region;
use super::table::SharedTable;
use crate::error::Result;
use crate::flow::Increment;
use crate::meter::abi::{self, Growth};
use crate::meter::clock::Clock;

/// A part of a drain ends after this time, with the work of the ledger, however large the table is.
const MAX_PART: Duration = Duration::from_millis(4);

/// Progress of a drain. A large table is read in parts, so that the rings are polled in between.
#[derive(Debug, Default, Clone, Copy)]
pub struct DrainProgress {
    step: DrainStep,
    /// Whether no flow is retired, because the meter is about to stop.
    is_last: bool,
}

impl DrainProgress {
    /// For the last drain of a session, which retires no flow.
    pub fn last() -> Self {
        Self { is_last: true, ..Self::default() }
    }
}

#[derive(Debug, Clone, Copy)]
enum DrainStep {
    /// Merge the fronts into the table, from this group on.
    MergeFronts(FrontGroup),
    /// Read the entries from this number on, and retire finished flows.
    Entries(u32),
    /// Read the remainders.
    Remainders,
    /// Nothing is left to do.
    Done,
}

impl Default for DrainStep {
    fn default() -> Self {
        Self::MergeFronts(FrontGroup::default())
    }
}

/// All counters, and what of them was handed over.
#[derive(Debug)]
pub(super) struct Drain {
    table: SharedTable,
    remainders: Region<Remainder>,
    /// What was handed over of each remainder.
    before: Vec<Remainder>,
    /// Increments that were read at a time.
    increments: Vec<Increment>,
}

impl Drain {
    pub(super) fn new(table: SharedTable, remainders: &OwnedFd) -> Result<Self> {
        let count = remainder::COUNT as usize;
        let remainders = Region::map(remainders, "REMAINDERS", count)?;
        Ok(Self { table, remainders, before: vec![FlowValue::EMPTY; count], increments: Vec::new() })
    }

    /// Hands over a part of the growth and retires finished flows. Returns false when nothing is
    /// left to do. If merging the fronts fails, the next part continues with the entries.
    pub(super) fn part(
        &mut self,
        progress: &mut DrainProgress,
        clock: Clock,
        sink: &mut impl FnMut(Increment),
    ) -> Result<bool> {
        match progress.step {
            DrainStep::MergeFronts(from) => {
                progress.step = DrainStep::Entries(0);
                let table = self.table.lock();
                let next = match progress.is_last {
                    // Nothing flushes after the last drain, so it also waits for the packets that
                    // are being counted now.
                    true => table.fronts.merge().map(|()| None)?,
                    false => table.fronts.merge_part(from, Instant::now() + MAX_PART)?,
                };
                drop(table);
                progress.step = next.map_or(DrainStep::Entries(0), DrainStep::MergeFronts);
            }
            DrainStep::Entries(from) => {
                let next = self.read_entries(from, progress.is_last, clock, sink)?;
                progress.step = next.map_or(DrainStep::Remainders, DrainStep::Entries);
            }
            DrainStep::Remainders => {
                self.read_remainders(clock, sink);
                progress.step = DrainStep::Done;
            }
            DrainStep::Done => return Ok(false),
        }
        Ok(true)
    }

    /// Reads entries from this number on until the part has to end. The table is not locked while
    /// the session processes an increment. Returns where to continue.
    fn read_entries(
        &mut self,
        from: u32,
        is_last: bool,
        clock: Clock,
        sink: &mut impl FnMut(Increment),
    ) -> Result<Option<u32>> {
        let (started, mut next) = (Instant::now(), Some(from));
        while let Some(from) = next {
            let mut table = self.table.lock();
            let super::table::KernelTable { fronts, flows } = &mut *table;
            let read = flows.read(from, is_last, fronts, clock, &mut self.increments);
            let must_end = flows.needs_poll();
            drop(table);
            self.increments.drain(..).for_each(&mut *sink);
            next = read?;
            if must_end || started.elapsed() >= MAX_PART {
                break;
            }
        }
        Ok(next)
    }

    fn read_remainders(&mut self, clock: Clock, sink: &mut impl FnMut(Increment)) {
        for (slot, before) in (0..remainder::COUNT).zip(&mut self.before) {
            let now = self.remainders.read(slot as usize);
            if *before != now && now.first_seen_ns != 0 {
                let growth = Growth { key: &remainder::key(slot), before, now: &now, ended: None, is_last: false };
                abi::increment(&growth, clock).into_iter().for_each(&mut *sink);
                *before = now;
            }
        }
    }

    /// Passes all counters to `show`, without effect on the next drain.
    #[cfg(test)]
    pub(super) fn snapshot(&mut self, show: &mut impl FnMut(&Growth<'_>)) {
        let mut table = self.table.lock();
        table.fronts.flush().expect("flushed");
        table.flows.snapshot(show);
        for slot in 0..remainder::COUNT {
            let now = self.remainders.read(slot as usize);
            if now.first_seen_ns != 0 {
                let before = &FlowValue::EMPTY;
                show(&Growth { key: &remainder::key(slot), before, now: &now, ended: None, is_last: false });
            }
        }
    }
}
