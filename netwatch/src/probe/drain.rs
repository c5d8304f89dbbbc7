//! Turns what grew in the kernel's tables into increments. Counters there only grow; what grew is what is new.

use std::os::fd::OwnedFd;

use netwatch_common::flow::{FlowKey, FlowValue};
use netwatch_common::remainder::{self, Remainder};

use super::abi;
use super::clock::{self, Clock};
use super::flows::Flows;
use super::fronts::Fronts;
use super::memory::Region;
use crate::error::Result;
use crate::flow::Increment;

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

    /// Hands over all growth, and then lets flows go that are over.
    pub(super) fn run(&mut self, clock: Clock, sink: &mut impl FnMut(Increment)) -> Result<()> {
        let mut grown = |key: &FlowKey, before: &FlowValue, now: &FlowValue| {
            if let Some(increment) = abi::increment(key, before, now, clock) {
                sink(increment);
            }
        };
        self.visit(&mut grown)?;
        self.flows.retire(&self.fronts, clock::monotonic_ns(), &mut grown)
    }

    fn visit(&mut self, grown: &mut impl FnMut(&FlowKey, &FlowValue, &FlowValue)) -> Result<()> {
        self.fronts.flush()?;
        self.flows.visit(grown)?;
        for (slot, before) in (0..remainder::COUNT).zip(&mut self.before) {
            let now = self.remainders.read(slot as usize);
            if *before != now && now.first_seen_ns != 0 {
                grown(&remainder::key(slot), before, &now);
                *before = now;
            }
        }
        Ok(())
    }

    /// Shows everything as it stands; the next drain hands it over all the same.
    #[cfg(test)]
    pub(super) fn look(&mut self, show: &mut impl FnMut(&FlowKey, &FlowValue, &FlowValue)) {
        let handed_over = (self.before.clone(), self.flows.forget());
        self.before.fill(FlowValue::EMPTY);
        self.visit(show).expect("readable");
        self.before = handed_over.0;
        self.flows.remember(handed_over.1);
    }
}
