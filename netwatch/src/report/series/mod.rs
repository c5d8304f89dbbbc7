//! A run over time: numbers per interval, the newest of them fine. Not a record of packets.

mod interval;

use std::ops::Range;

pub use interval::Interval;

use crate::flow::{Counters, EndpointKey, PerDirection};

/// A run over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Intervals by their start: the newest are short, older ones are merged to longer ones.
    pub intervals: Vec<Interval>,
    /// The endpoints with most traffic, largest first.
    pub endpoints: Vec<EndpointSeries>,
}

const SECOND: u64 = 1_000_000_000;

const DAY: u64 = 24 * 3_600 * SECOND;

/// Age, and length to which older intervals are merged, both in nanoseconds. With intervals of
/// 100 ms, a week takes fewer than 4,000, and a year fewer than 6,000.
const MERGE_STEPS: [(u64, u64); 7] = [
    (60 * SECOND, SECOND),
    (600 * SECOND, 10 * SECOND),
    (3_600 * SECOND, 60 * SECOND),
    (DAY, 600 * SECOND),
    (7 * DAY, 3_600 * SECOND),
    (30 * DAY, 6 * 3_600 * SECOND),
    (365 * DAY, DAY),
];

/// Maximum number of intervals. Beyond it, the two oldest are merged.
pub const MAX_INTERVALS: usize = 16_384;

/// The intervals of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSeries {
    /// The endpoint.
    pub key: EndpointKey,
    /// Its traffic before the first interval, as far as it is known: it was not one of the largest
    /// endpoints then.
    pub before: PerDirection<Counters>,
    /// At most 512, with traffic, connections, failed attempts, retransmits and times.
    pub intervals: Vec<Interval>,
}

/// Maximum number of intervals of an endpoint.
const MAX_ENDPOINT_INTERVALS: usize = 512;

impl EndpointSeries {
    /// Adds the newest interval. If there are too many, each two neighbors are merged, so that
    /// older ones are longer.
    pub fn push(&mut self, interval: Interval) {
        self.intervals.push(interval);
        if self.intervals.len() > MAX_ENDPOINT_INTERVALS {
            let pairs = self.intervals.chunks(2).map(|pair| {
                let mut merged = pair[0].clone();
                pair[1..].iter().for_each(|later| merged.merge(later));
                merged
            });
            self.intervals = pairs.collect();
        }
    }

    /// Its whole traffic, as far as it is known.
    pub fn totals(&self) -> PerDirection<Counters> {
        self.intervals.iter().map(|one| one.totals).chain([self.before]).sum()
    }
}

impl Series {
    /// Adds the newest interval, unless it is empty, and merges intervals that have become old.
    /// Returns the start of the first interval that changed.
    pub fn push(&mut self, interval: Interval) -> Option<u64> {
        push_interval(&mut self.intervals, interval)
    }

    /// Whether netwatch did not run for more than `pause_ns` in an interval that is this old, for
    /// example because the machine was suspended: it is longer than intervals of its age are by
    /// merging. A pause that is shorter than the length to which they are merged, which grows with
    /// their age, can be overlooked.
    pub fn has_pause(interval: &Interval, age_ns: u64, pause_ns: u64) -> bool {
        let merged = MERGE_STEPS.iter().rev().find(|(min_age_ns, _)| *min_age_ns <= age_ns);
        interval.length_ns > pause_ns.saturating_add(merged.map_or(0, |(_, length_ns)| *length_ns))
    }

    /// Takes back failed attempts that were answered after all: those that were counted last.
    /// Returns the start of the first interval that changed.
    pub fn take_back_failed(&mut self, mut count: u64) -> Option<u64> {
        let mut first = None;
        for interval in self.intervals.iter_mut().rev().filter(|interval| interval.failed > 0) {
            let part = count.min(interval.failed);
            if part == 0 {
                break;
            }
            interval.failed -= part;
            count -= part;
            first = Some(interval.start_ns);
        }
        first
    }
}

/// Adds the newest interval, unless it is empty, and merges intervals that have become old. Returns
/// the start of the first interval that changed.
fn push_interval(intervals: &mut Vec<Interval>, interval: Interval) -> Option<u64> {
    let before_ns = intervals.last().map_or(interval.start_ns, Interval::end_ns);
    let mut first = None;
    for (age_ns, length_ns) in MERGE_STEPS {
        let [before, now] = [before_ns, interval.end_ns()].map(|end_ns| end_ns.saturating_sub(age_ns) / length_ns);
        first = [first, merge(intervals, before..now, length_ns)].into_iter().flatten().min();
    }
    if interval.is_empty() {
        return first;
    }
    first = first.or(Some(interval.start_ns));
    intervals.push(interval);
    if intervals.len() > MAX_INTERVALS {
        let second = intervals.remove(1);
        intervals[0].merge(&second);
        first = Some(intervals[0].start_ns);
    }
    first
}

/// Merges intervals that start in the same multiple of `length_ns`, for the `multiples` that
/// have just become old. Returns the start of the first merged interval.
fn merge(intervals: &mut Vec<Interval>, multiples: Range<u64>, length_ns: u64) -> Option<u64> {
    let multiple = |interval: &Interval| interval.start_ns / length_ns;
    let begin = intervals.partition_point(|interval| multiple(interval) < multiples.start);
    let old = intervals[begin..].partition_point(|interval| multiple(interval) < multiples.end);
    let mut merged: Vec<Interval> = Vec::new();
    let mut first = None;
    for interval in &intervals[begin..begin + old] {
        match merged.last_mut() {
            Some(before) if multiple(before) == multiple(interval) => {
                before.merge(interval);
                first = first.or(Some(before.start_ns));
            }
            _ => merged.push(interval.clone()),
        }
    }
    intervals.splice(begin..begin + old, merged);
    first
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
            let opened = skbs / 2;
            let interval = Interval { start_ns, length_ns, totals, opened, active, ..Interval::default() };
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
                if let Some(from) = series.push(interval.clone()) {
                    // As a recording replaces its rows.
                    copy.retain(|one| one.start_ns < from);
                    copy.extend(series.intervals.iter().filter(|one| one.start_ns >= from).cloned());
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
            series.push(interval.clone());
        }
        assert_eq!(sums(&series.intervals), sums(&all));
        assert!(series.intervals.len() < 3_500, "{}", series.intervals.len());
        assert!(series.intervals.iter().rev().take(600).all(|one| one.length_ns == SECOND));
        assert!(series.intervals.iter().all(|one| one.length_ns <= 600 * SECOND));
    }

    #[test]
    fn the_last_minute_has_tenths_of_a_second() {
        let mut series = Series::default();
        for interval in intervals(&vec![(SECOND / 10, 1, 1); 6_000]) {
            series.push(interval);
        }
        let lengths: Vec<u64> = series.intervals.iter().map(|one| one.length_ns * 10 / SECOND).collect();
        let count = |length: u64| lengths.iter().filter(|one| **one == length).count();
        assert!((590..=610).contains(&count(1)) && (530..=550).contains(&count(10)), "{lengths:?}");
    }

    #[test]
    fn the_number_of_intervals_is_bounded() {
        let mut series = Series::default();
        for interval in intervals(&vec![(DAY, 1, 1); MAX_INTERVALS + 10]) {
            series.push(interval);
        }
        assert_eq!((series.intervals.len(), series.intervals[0].length_ns), (MAX_INTERVALS, 11 * DAY));
    }

    #[test]
    fn the_intervals_of_an_endpoint_are_bounded_and_keep_their_sums() {
        let key = EndpointKey {
            remote: crate::flow::Remote::Others,
            protocol: crate::flow::Protocol::TCP,
            port: 443,
            direction: crate::flow::Direction::Egress,
            fragment: false,
        };
        let mut series = EndpointSeries { key, before: PerDirection::default(), intervals: Vec::new() };
        let all = intervals(&vec![(SECOND, 1, 1); 10_000]);
        all.iter().for_each(|interval| series.push(interval.clone()));
        assert!(series.intervals.len() <= MAX_ENDPOINT_INTERVALS);
        assert_eq!((sums(&series.intervals).0, series.totals()), (sums(&all).0, sums(&all).0));
        assert_eq!(series.intervals.last().map(|one| one.length_ns), Some(SECOND));
    }

    /// The table of `docs/thresholds.md`.
    #[test]
    fn the_shortest_pause_that_is_surely_found_grows_with_age() {
        const HOUR: u64 = 3_600;
        let limits = [(0, 10), (60, 11), (600, 20), (HOUR, 70), (24 * HOUR, 610), (7 * 24 * HOUR, HOUR + 10)];
        let oldest = [(30 * 24 * HOUR, 6 * HOUR + 10), (365 * 24 * HOUR, 24 * HOUR + 10)];
        for (age, limit) in limits.into_iter().chain(oldest) {
            let found = |length_ns| {
                let interval = Interval { length_ns, ..Interval::default() };
                Series::has_pause(&interval, age * SECOND, 10 * SECOND)
            };
            assert_eq!((found(limit * SECOND), found(limit * SECOND + 1)), (false, true), "{age} s ago");
        }
    }

    #[test]
    fn failed_attempts_are_taken_back_from_the_newest() {
        let of = |failed| Interval { failed, ..Interval::default() };
        let mut series = Series { intervals: vec![of(5), of(2), of(0), of(1)], ..Series::default() };
        series.take_back_failed(4);
        assert_eq!(series.intervals.iter().map(|one| one.failed).collect::<Vec<_>>(), [4, 0, 0, 0]);
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
