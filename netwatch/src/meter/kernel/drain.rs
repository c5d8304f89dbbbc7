//! Turns what grew in the kernel's tables into increments. Counters there only grow; what grew is what is new.

use std::os::fd::OwnedFd;

use netwatch_common::flow::FlowValue;
use netwatch_common::remainder::{self, Remainder};

use super::flows::Flows;
use super::fronts::Fronts;
use super::memory::Region;
use crate::error::Result;
use crate::flow::Increment;
use crate::meter::abi::{self, Growth};
use crate::meter::clock::{self, Clock};

/// How far a drain has come. A large table is read in parts, so that the rings are looked at in between.
#[derive(Debug, Default, Clone, Copy)]
pub struct DrainProgress {
    step: Step,
    /// Nothing comes any more: all flows may stay.
    is_last: bool,
}

impl DrainProgress {
    /// Of the last drain, which lets no flow leave.
    pub fn last() -> Self {
        Self { is_last: true, ..Self::default() }
    }
}

#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Merge,
    /// The entries from this number on are to be looked at.
    Look(u32),
    Remainders,
    /// All was handed over; flows leave.
    Leave,
}

/// Everything that is counted, and what of it was handed over.
#[derive(Debug)]
pub(super) struct Drain {
    pub fronts: Fronts,
    pub flows: Flows,
    remainders: Region<Remainder>,
    before: Vec<Remainder>,
}

impl Drain {
    pub(super) fn new(fronts: Fronts, flows: Flows, remainders: &OwnedFd) -> Result<Self> {
        let count = remainder::COUNT as usize;
        let remainders = Region::map(remainders, "REMAINDERS", count)?;
        Ok(Self { fronts, flows, remainders, before: vec![FlowValue::EMPTY; count] })
    }

    /// Hands over a part of the growth, and when that is all, lets flows go that are over. False when nothing is left to do. After fronts that
    /// could not be merged the next part goes on all the same.
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
            Step::Merge => {
                progress.step = Step::Look(0);
                self.fronts.merge()?;
            }
            Step::Look(from) => {
                progress.step = self.flows.visit(from, &mut grown)?.map_or(Step::Remainders, Step::Look)
            }
            Step::Remainders => {
                self.visit_remainders(&mut grown);
                progress.step = Step::Leave;
            }
            Step::Leave if progress.is_last => return Ok(false),
            Step::Leave => return self.flows.retire(&self.fronts, clock::monotonic_ns(), &mut grown),
        }
        Ok(true)
    }

    fn visit_remainders(&mut self, grown: &mut impl FnMut(&Growth<'_>)) {
        for (slot, before) in (0..remainder::COUNT).zip(&mut self.before) {
            let now = self.remainders.read(slot as usize);
            if *before != now && now.first_seen_ns != 0 {
                grown(&Growth { key: &remainder::key(slot), before, now: &now, ended: None });
                *before = now;
            }
        }
    }

    /// Shows everything as it stands; the next drain hands it over all the same.
    #[cfg(test)]
    pub(super) fn look(&mut self, show: &mut impl FnMut(&Growth<'_>)) {
        let handed_over = (self.before.clone(), self.flows.forget());
        self.before.fill(FlowValue::EMPTY);
        self.fronts.flush().expect("flushed");
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.flows.visit(from, show).expect("readable");
        }
        self.visit_remainders(show);
        self.before = handed_over.0;
        self.flows.remember(handed_over.1);
    }
}
