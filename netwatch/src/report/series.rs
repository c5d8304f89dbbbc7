//! Traffic over time: the sums of steps, not of packets.

use std::ops::Range;

use crate::flow::{Counters, PerDirection};

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Its start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Its length, nanoseconds. Steps do not overlap; between two of them there may be a gap in which nothing was counted.
    pub length_ns: u64,
    /// What the target sent and received on the link.
    pub totals: PerDirection<Counters>,
    /// Flows that began.
    pub opened: u64,
    /// Flows that carried something; of folded steps the most that one of them had.
    pub active: u64,
}

impl Step {
    /// Its end, nanoseconds since the Unix epoch.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.totals == PerDirection::default() && self.opened == 0 && self.active == 0
    }

    fn absorb(&mut self, later: &Self) {
        self.length_ns = later.end_ns().saturating_sub(self.start_ns);
        self.totals += later.totals;
        self.opened = self.opened.saturating_add(later.opened);
        self.active = self.active.max(later.active);
    }
}

/// A run's traffic over time, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// The steps: fine ones at the end, older ones may have been folded.
    pub steps: Vec<Step>,
}

const SECOND: u64 = 1_000_000_000;

/// How fine steps of an age are: older than the first, they are folded to the second, nanoseconds. With a step a second, a week are fewer than
/// 3,500 of them.
const FOLDS: [(u64, u64); 4] = [
    (600 * SECOND, 10 * SECOND),
    (3_600 * SECOND, 60 * SECOND),
    (24 * 3_600 * SECOND, 600 * SECOND),
    (7 * 24 * 3_600 * SECOND, 3_600 * SECOND),
];

impl Series {
    /// Adds the newest step, unless nothing was counted in it, and folds what has become old. Gives back where the first step that is not as it
    /// was before begins.
    pub fn push(&mut self, step: Step) -> Option<u64> {
        let before_ns = self.steps.last().map_or(step.start_ns, Step::end_ns);
        let mut first = None;
        for (age_ns, length_ns) in FOLDS {
            let [before, now] = [before_ns, step.end_ns()].map(|end_ns| end_ns.saturating_sub(age_ns) / length_ns);
            first = [first, self.fold(before..now, length_ns)].into_iter().flatten().min();
        }
        if step.is_empty() {
            return first;
        }
        self.steps.push(step);
        first.or(Some(step.start_ns))
    }

    /// Folds those that begin in one of these lengths of the clock, which have just become old. Where the first fold begins.
    fn fold(&mut self, lengths: Range<u64>, length_ns: u64) -> Option<u64> {
        let length = |step: &Step| step.start_ns / length_ns;
        let begin = self.steps.partition_point(|step| length(step) < lengths.start);
        let old = self.steps[begin..].partition_point(|step| length(step) < lengths.end);
        let mut kept: Vec<Step> = Vec::new();
        let mut first = None;
        for step in &self.steps[begin..begin + old] {
            match kept.last_mut() {
                Some(before) if length(before) == length(step) => {
                    before.absorb(step);
                    first = first.or(Some(before.start_ns));
                }
                _ => kept.push(*step),
            }
        }
        self.steps.splice(begin..begin + old, kept);
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the clock of a run ticks: nearly a second each, sometimes much later.
    fn steps(lengths: &[(u64, u64, u64)]) -> Vec<Step> {
        let mut start_ns = 1_767_225_600_123_456_789;
        let mut step = |&(length_ns, skbs, active): &(u64, u64, u64)| {
            let counters = Counters { skbs, packets: skbs, bytes: 60 * skbs, wire_bytes: 60 * skbs };
            let totals = PerDirection { egress: counters, ingress: Counters::default() };
            let step = Step { start_ns, length_ns, totals, opened: skbs / 2, active };
            start_ns += length_ns;
            step
        };
        lengths.iter().map(&mut step).collect()
    }

    fn sums(steps: &[Step]) -> (PerDirection<Counters>, u64, u64) {
        let totals = steps.iter().map(|step| step.totals).sum();
        let opened = steps.iter().map(|step| step.opened).sum();
        (totals, opened, steps.iter().map(|step| step.active).max().unwrap_or_default())
    }

    proptest! {
        #[test]
        fn folding_keeps_sums_and_order(
            lengths in prop::collection::vec((prop_oneof![9 => 900_000_000..1_100_000_000_u64, 1 => 1..4_000_000_000_000_u64], 0..3_u64, 0..5_u64), 1..400)
        ) {
            let all = steps(&lengths);
            let mut series = Series::default();
            let mut copy: Vec<Step> = Vec::new();
            for step in &all {
                if let Some(from) = series.push(*step) {
                    // What a recording does with it.
                    copy.retain(|step| step.start_ns < from);
                    copy.extend(series.steps.iter().filter(|step| step.start_ns >= from));
                }
            }
            prop_assert_eq!(sums(&series.steps), sums(&all));
            prop_assert!(series.steps.windows(2).all(|pair| pair[0].end_ns() <= pair[1].start_ns));
            prop_assert_eq!(copy, series.steps);
        }
    }

    #[test]
    fn a_week_of_seconds_fits_and_the_newest_are_fine() {
        let mut series = Series::default();
        let all = steps(&vec![(SECOND, 1, 1); 7 * 24 * 3600]);
        for step in &all {
            series.push(*step);
        }
        assert_eq!(sums(&series.steps), sums(&all));
        assert!(series.steps.len() < 3_500, "{}", series.steps.len());
        assert!(series.steps.iter().rev().take(600).all(|step| step.length_ns == SECOND));
        assert!(series.steps.iter().all(|step| step.length_ns <= 600 * SECOND));
    }

    #[test]
    fn a_year_of_idling_is_nothing() {
        let mut series = Series::default();
        assert_eq!(series.push(Step { start_ns: 5, length_ns: 365 * 24 * 3600 * SECOND, ..Step::default() }), None);
        assert_eq!(series, Series::default());
    }
}
