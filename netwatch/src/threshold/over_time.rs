//! How long a condition holds in the series of a run, and what the series has of folded flows.

use super::quantity::{Quantity, RETRANSMIT_RATIO};
use crate::report::{Interval, Series};

/// Values are compared over at least this time: percentiles of a tenth of a second are of few
/// measurements.
const MIN_LENGTH_NS: u64 = 1_000_000_000;

/// After a longer interval it is not known that a condition held all the time: netwatch, which
/// reads its counters every second, was stopped, or the machine was suspended. In merged intervals
/// the limit is higher ([`Series::has_pause`]).
pub(super) const MAX_PAUSE_NS: u64 = 10_000_000_000;

/// The longest time without a pause in which a condition held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LongestHold {
    /// Its length, nanoseconds.
    pub held_ns: u64,
    /// The last value in it, or the last one at all if it never held; `None` without a value.
    pub value: Option<f64>,
    /// When it had held for as long as needed for the first time, nanoseconds since the Unix epoch.
    pub crossed_ns: Option<u64>,
}

impl Quantity {
    /// What an interval adds to a number that only grows; `None` if the series does not have it.
    fn part_of(self, interval: &Interval) -> Option<u64> {
        Some(match self.name()? {
            "connections" => interval.connections,
            "sent" => interval.totals.egress.wire_bytes,
            "received" => interval.totals.ingress.wire_bytes,
            "packets" => interval.totals.both().packets,
            "retransmitted" => interval.retransmitted,
            "lost" => interval.lost,
            "cpu" => interval.cpu_ns,
            _ => return None,
        })
    }

    /// The start of the interval in which a number began to meet a condition.
    pub fn reached(self, series: &Series, holds: impl Fn(f64) -> bool) -> Option<u64> {
        let mut sum = 0_u64;
        let reached = series.intervals.iter().find(|interval| {
            sum = sum.saturating_add(self.part_of(interval).unwrap_or(0));
            sum > 0 && holds(sum as f64)
        });
        reached.map(|interval| interval.start_ns)
    }

    /// Whether it has a value at each time of a run, and not only for the whole of it.
    pub fn is_over_time(self) -> bool {
        match self {
            Self::Open | Self::Statistic(..) => true,
            Self::Number(_) => self.name() == Some(RETRANSMIT_RATIO),
        }
    }

    /// Its value in an interval; `None` without a measurement.
    fn value_in(self, interval: &Interval) -> Option<f64> {
        match self {
            Self::Open => Some(interval.open as f64),
            Self::Statistic(statistic, place) => {
                let times = [&interval.connect, &interval.round_trip, &interval.dns][place];
                statistic.of_histogram(times)
            }
            Self::Number(_) if self.name() == Some(RETRANSMIT_RATIO) => {
                (interval.tcp_packets > 0).then(|| interval.retransmitted as f64 / interval.tcp_packets as f64)
            }
            Self::Number(_) => None,
        }
    }
}

/// The longest time in which a condition held. An interval without a measurement, and a gap between
/// two of them, change nothing; a pause of netwatch ends it. `now_ns` is the time up to which the
/// series goes.
pub(super) fn longest_hold(
    (series, now_ns): (&Series, u64),
    (quantity, needed_ns): (Quantity, u64),
    holds: impl Fn(f64) -> bool,
) -> LongestHold {
    let mut longest = LongestHold { held_ns: 0, value: None, crossed_ns: None };
    // Start, end and last value of the current time.
    let mut current: Option<(u64, u64, f64)> = None;
    for interval in whole_seconds(&series.intervals) {
        if Series::has_pause(&interval, now_ns.saturating_sub(interval.end_ns()), MAX_PAUSE_NS) {
            current = None;
            continue;
        }
        let Some(value) = quantity.value_in(&interval) else { continue };
        match (&mut current, holds(value)) {
            (Some((_, end_ns, last)), true) => (*end_ns, *last) = (interval.end_ns(), value),
            (None, true) => current = Some((interval.start_ns, interval.end_ns(), value)),
            (_, false) => current = None,
        }
        let (held_ns, value) = current.map_or((0, value), |(start_ns, end_ns, last)| (end_ns - start_ns, last));
        if held_ns > longest.held_ns || longest.held_ns == 0 {
            longest = LongestHold { held_ns, value: Some(value), ..longest };
        }
        let crossed = current.filter(|_| held_ns >= needed_ns).map(|(start_ns, ..)| start_ns.saturating_add(needed_ns));
        longest.crossed_ns = longest.crossed_ns.or(crossed);
    }
    longest
}

/// Merges intervals until each is about a second long.
fn whole_seconds(intervals: &[Interval]) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for interval in intervals {
        match merged.last_mut() {
            Some(last) if interval.end_ns().saturating_sub(last.start_ns) <= MIN_LENGTH_NS => last.merge(interval),
            _ => merged.push(interval.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::TimeHistogram;
    use crate::threshold::Threshold;

    const SECOND: u64 = 1_000_000_000;

    fn times(time_ns: u64) -> TimeHistogram {
        let mut times = TimeHistogram::default();
        times.add(time_ns, 100);
        times
    }

    /// The state of a condition, given the connect time in milliseconds of each second; 0 for none.
    fn held(text: &str, connect_ms: &[u64]) -> (bool, u64) {
        let intervals = (0..).zip(connect_ms).map(|(second, ms)| Interval {
            start_ns: second * SECOND,
            length_ns: SECOND,
            connect: if *ms > 0 { times(ms * 1_000_000) } else { TimeHistogram::default() },
            open: *ms,
            tcp_packets: 1_000,
            retransmitted: *ms,
            ..Interval::default()
        });
        let series = Series { intervals: intervals.collect(), ..Series::default() };
        let Threshold { quantity, comparison, limit, hold_ns, .. } =
            Threshold::parse_all(text).expect("read").remove(0);
        let found = longest_hold((&series, 60 * SECOND), (quantity, hold_ns.unwrap_or(0)), |value| {
            comparison.holds(value, limit)
        });
        (hold_ns.is_some_and(|needed| found.held_ns >= needed), found.held_ns / SECOND)
    }

    #[test]
    fn a_condition_holds_as_long_as_every_measurement_of_the_series() {
        let connect = [10, 60, 70, 0, 80, 10, 90];
        assert_eq!(held("p99(connect) > 50ms for 4s", &connect), (true, 4), "a second without a measurement");
        assert_eq!(held("p99(connect) > 50ms for 5s", &connect), (false, 4));
        assert_eq!(held("retransmit_ratio > 5% for 2s", &connect), (true, 2));
        assert_eq!(held("max(connect) < 5ms for 1s", &connect), (false, 0));
    }

    #[test]
    fn a_pause_of_netwatch_ends_a_hold_and_merged_intervals_do_not() {
        let mut series = Series::default();
        let mut start_ns = 0;
        let mut held = |lengths_ns: &[u64]| {
            for length_ns in lengths_ns {
                let interval = Interval { start_ns, length_ns: *length_ns, opened: 1, open: 9, ..Interval::default() };
                series.push(interval);
                start_ns += length_ns;
            }
            longest_hold((&series, start_ns), (Quantity::Open, 0), |open| open > 5.0).held_ns / SECOND
        };
        // The oldest of them are merged to minutes.
        assert_eq!(held(&[SECOND; 7_200]), 7_200);
        assert_eq!(held(&[8 * 3_600 * SECOND]), 7_200, "the machine was suspended");
        assert_eq!(held(&[SECOND; 7_000]), 7_200);
        assert_eq!(held(&[SECOND; 1_000]), 8_000);
    }

    /// How long `open > 5` held, given the lengths of the intervals in which it did.
    fn held_in(lengths_ns: impl Iterator<Item = u64>) -> u64 {
        let (mut series, mut start_ns) = (Series::default(), 0);
        for length_ns in lengths_ns {
            series.push(Interval { start_ns, length_ns, opened: 1, open: 9, ..Interval::default() });
            start_ns += length_ns;
        }
        longest_hold((&series, start_ns), (Quantity::Open, 0), |open| open > 5.0).held_ns / SECOND
    }

    #[test]
    fn a_pause_ends_a_hold_while_it_is_longer_than_its_age_needs() {
        let held = |pause: u64, later: usize| {
            let before = [SECOND; 600].into_iter();
            held_in(before.chain([pause * SECOND]).chain(std::iter::repeat_n(SECOND, later)))
        };
        assert_eq!(held(50, 3_000), 3_000, "less than an hour ago");
        assert_eq!(held(50, 4_000), 600 + 50 + 4_000, "it is within a merged minute");
        assert_eq!(held(71, 4_000), 4_000);
    }

    #[test]
    fn tenths_of_a_second_are_compared_together() {
        let tenth = |at: u64| Interval {
            start_ns: at * SECOND / 10,
            length_ns: SECOND / 10,
            connect: times(if at.is_multiple_of(10) { 90_000_000 } else { 1_000_000 }),
            ..Interval::default()
        };
        let merged = whole_seconds(&(0..30).map(tenth).collect::<Vec<_>>());
        assert_eq!(
            merged.iter().map(|one| (one.length_ns, one.connect.count())).collect::<Vec<_>>(),
            [(SECOND, 1_000); 3]
        );
    }
}
