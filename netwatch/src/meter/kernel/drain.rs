//! The drain: reads the kernel's counters and hands over their growth as increments. Counters in
//! the kernel only grow.

use std::os::fd::OwnedFd;

use netwatch_common::flow::FlowValue;
use netwatch_common::remainder::{self, Remainder};

use super::flows::FlowEntries;
use super::fronts::Fronts;
use super::memory::Region;
use crate::error::Result;
use crate::flow::Increment;
use crate::meter::abi::{self, Growth};
use crate::meter::clock::{self, Clock};

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

#[derive(Debug, Default, Clone, Copy)]
enum DrainStep {
    /// Merge the fronts into the table.
    #[default]
    MergeFronts,
    /// Read the entries from this number on.
    Entries(u32),
    /// Read the remainders.
    Remainders,
    /// All growth was handed over; retire finished flows among the entries from this number on.
    Retire(u32),
}

/// All counters, and what of them was handed over.
#[derive(Debug)]
pub(super) struct Drain {
    pub fronts: Fronts,
    pub flows: FlowEntries,
    remainders: Region<Remainder>,
    /// What was handed over of each remainder.
    before: Vec<Remainder>,
}

impl Drain {
    pub(super) fn new(fronts: Fronts, flows: FlowEntries, remainders: &OwnedFd) -> Result<Self> {
        let count = remainder::COUNT as usize;
        let remainders = Region::map(remainders, "REMAINDERS", count)?;
        Ok(Self { fronts, flows, remainders, before: vec![FlowValue::EMPTY; count] })
    }

    /// Hands over a part of the growth and finally retires finished flows. Returns false when
    /// nothing is left to do. If merging the fronts fails, the next part continues with the
    /// entries.
    pub(super) fn part(
        &mut self,
        progress: &mut DrainProgress,
        clock: Clock,
        sink: &mut impl FnMut(Increment),
    ) -> Result<bool> {
        let mut grown = |growth: &Growth<'_>| {
            if let Some(increment) = abi::increment(growth, clock) {
                sink(increment);
            }
        };
        match progress.step {
            DrainStep::MergeFronts => {
                progress.step = DrainStep::Entries(0);
                self.fronts.merge()?;
            }
            DrainStep::Entries(from) => {
                progress.step =
                    self.flows.read_part(from, &mut grown)?.map_or(DrainStep::Remainders, DrainStep::Entries)
            }
            DrainStep::Remainders => {
                self.read_remainders(&mut grown);
                progress.step = DrainStep::Retire(0);
            }
            DrainStep::Retire(_) if progress.is_last => return Ok(false),
            DrainStep::Retire(from) => {
                let next = self.flows.retire(from, &self.fronts, clock::kernel_ns(), &mut grown)?;
                progress.step = DrainStep::Retire(next.unwrap_or(from));
                return Ok(next.is_some());
            }
        }
        Ok(true)
    }

    fn read_remainders(&mut self, grown: &mut impl FnMut(&Growth<'_>)) {
        for (slot, before) in (0..remainder::COUNT).zip(&mut self.before) {
            let now = self.remainders.read(slot as usize);
            if *before != now && now.first_seen_ns != 0 {
                grown(&Growth { key: &remainder::key(slot), before, now: &now, ended: None });
                *before = now;
            }
        }
    }

    /// Passes all counters to `show`, without effect on the next drain.
    #[cfg(test)]
    pub(super) fn snapshot(&mut self, show: &mut impl FnMut(&Growth<'_>)) {
        let handed_over = (self.before.clone(), self.flows.take_handed_over());
        self.before.fill(FlowValue::EMPTY);
        self.fronts.flush().expect("flushed");
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.flows.read_part(from, show).expect("readable");
        }
        self.read_remainders(show);
        self.before = handed_over.0;
        self.flows.restore_handed_over(handed_over.1);
    }
}
