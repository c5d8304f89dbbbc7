//! Traffic over time: totals per interval. Not a record of packets.

use std::ops::Range;

use crate::flow::{Counters, PerDirection};

/// Traffic in an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Length, nanoseconds. Intervals do not overlap; a gap between two of them means no traffic.
    pub length_ns: u64,
    /// Traffic of the target on the link.
    pub totals: PerDirection<Counters>,
    /// Flows that began.
    pub opened: u64,
    /// Flows with traffic; of merged intervals the largest number among them.
    pub active: u64,
}

impl Interval {
    /// End, nanoseconds since the Unix epoch.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }

    /// Whether there was no traffic.
    pub fn is_empty(&self) -> bool {
        self.totals == PerDirection::default() && self.opened == 0 && self.active == 0
    }

    fn merge(&mut self, later: &Self) {
        self.length_ns = later.end_ns().saturating_sub(self.start_ns);
        self.totals += later.totals;
        self.opened = self.opened.saturating_add(later.opened);
        self.active = self.active.max(later.active);
    }
}

/// Traffic of a run over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Intervals by their start: the newest are short, older ones are merged to longer ones.
    pub intervals: Vec<Interval>,
}

const SECOND: u64 = 1_000_000_000;

/// Age, and length to which older intervals are merged, both in nanoseconds. At one interval per
/// second, a week takes fewer than 3,500.
const MERGE_STEPS: [(u64, u64); 4] = [
    (600 * SECOND, 10 * SECOND),
    (3_600 * SECOND, 60 * SECOND),
    (24 * 3_600 * SECOND, 600 * SECOND),
    (7 * 24 * 3_600 * SECOND, 3_600 * SECOND),
];

impl Series {
    /// Adds the newest interval, unless it is empty, and merges intervals that have become old.
    /// Returns the start of the first interval that changed.
    pub fn push(&mut self, interval: Interval) -> Option<u64> {
        let before_ns = self.intervals.last().map_or(interval.start_ns, Interval::end_ns);
        let mut first = None;
        for (age_ns, length_ns) in MERGE_STEPS {
            let [before, now] = [before_ns, interval.end_ns()].map(|end_ns| end_ns.saturating_sub(age_ns) / length_ns);
            first = [first, self.merge(before..now, length_ns)].into_iter().flatten().min();
        }
        if interval.is_empty() {
            return first;
        }
        self.intervals.push(interval);
        first.or(Some(interval.start_ns))
    }

    /// Merges intervals that start in the same multiple of `length_ns`, for the `multiples` that
    /// have just become old. Returns the start of the first merged interval.
    fn merge(&mut self, multiples: Range<u64>, length_ns: u64) -> Option<u64> {
        let multiple = |interval: &Interval| interval.start_ns / length_ns;
        let begin = self.intervals.partition_point(|interval| multiple(interval) < multiples.start);
        let old = self.intervals[begin..].partition_point(|interval| multiple(interval) < multiples.end);
        let mut merged: Vec<Interval> = Vec::new();
        let mut first = None;
        for interval in &self.intervals[begin..begin + old] {
            match merged.last_mut() {
                Some(before) if multiple(before) == multiple(interval) => {
                    before.merge(interval);
                    first = first.or(Some(before.start_ns));
                }
                _ => merged.push(*interval),
            }
        }
        self.intervals.splice(begin..begin + old, merged);
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Consecutive intervals with the given lengths, numbers of packets and of active flows.
    fn intervals(lengths: &[(u64, u64, u64)]) -> Vec<Interval> {
        let mut start_ns = 1_767_225_600_123_456_789;
        let mut interval = |&(length_ns, skbs, active): &(u64, u64, u64)| {
            let counters = Counters { skbs, packets: skbs, bytes: 60 * skbs, wire_bytes: 60 * skbs };
            let totals = PerDirection { egress: counters, ingress: Counters::default() };
            let interval = Interval { start_ns, length_ns, totals, opened: skbs / 2, active };
            start_ns += length_ns;
            interval
        };
        lengths.iter().map(&mut interval).collect()
    }

    fn sums(intervals: &[Interval]) -> (PerDirection<Counters>, u64, u64) {
        let totals = intervals.iter().map(|one| one.totals).sum();
        let opened = intervals.iter().map(|one| one.opened).sum();
        (totals, opened, intervals.iter().map(|one| one.active).max().unwrap_or_default())
    }

    proptest! {
        #[test]
        fn merging_keeps_sums_and_order(
            lengths in prop::collection::vec((prop_oneof![9 => 900_000_000..1_100_000_000_u64, 1 => 1..4_000_000_000_000_u64], 0..3_u64, 0..5_u64), 1..400)
        ) {
            let all = intervals(&lengths);
            let mut series = Series::default();
            let mut copy: Vec<Interval> = Vec::new();
            for interval in &all {
                if let Some(from) = series.push(*interval) {
                    // As a recording replaces its rows.
                    copy.retain(|one| one.start_ns < from);
                    copy.extend(series.intervals.iter().filter(|one| one.start_ns >= from));
                }
            }
            prop_assert_eq!(sums(&series.intervals), sums(&all));
            prop_assert!(series.intervals.windows(2).all(|pair| pair[0].end_ns() <= pair[1].start_ns));
            prop_assert_eq!(copy, series.intervals);
        }
    }

    #[test]
    fn a_week_is_bounded_and_its_last_minutes_stay_fine() {
        let mut series = Series::default();
        let all = intervals(&vec![(SECOND, 1, 1); 7 * 24 * 3600]);
        for interval in &all {
            series.push(*interval);
        }
        assert_eq!(sums(&series.intervals), sums(&all));
        assert!(series.intervals.len() < 3_500, "{}", series.intervals.len());
        assert!(series.intervals.iter().rev().take(600).all(|one| one.length_ns == SECOND));
        assert!(series.intervals.iter().all(|one| one.length_ns <= 600 * SECOND));
    }

    #[test]
    fn a_year_without_traffic_takes_no_intervals() {
        let mut series = Series::default();
        assert_eq!(
            series.push(Interval { start_ns: 5, length_ns: 365 * 24 * 3600 * SECOND, ..Interval::default() }),
            None
        );
        assert_eq!(series, Series::default());
    }
}
