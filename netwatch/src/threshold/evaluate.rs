//! Whether a report crosses a threshold.

use super::Threshold;
use super::open::longest;
use super::over_time::longest_hold;
use super::quantity::{Quantity, ThresholdUnit};
use crate::report::{Report, Run};

/// The result of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdState {
    /// The condition does not hold, or the report has no value.
    Kept,
    /// The condition holds: the run fails.
    Crossed,
    /// Observations are missing that could make the condition hold: the run fails.
    Uncertain,
}

/// A threshold and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    /// The condition as it was written.
    pub text: String,
    /// The result.
    pub state: ThresholdState,
    /// The value; `None` if the report has none.
    pub value: Option<f64>,
    /// What the value is.
    pub unit: ThresholdUnit,
    /// How long the condition held, nanoseconds, if it has to hold for a time.
    pub held_ns: Option<u64>,
    /// From the start of the run to the first crossing, nanoseconds, if it is known. Of a number it
    /// is that of the interval of the series.
    pub after_ns: Option<u64>,
}

impl Crossing {
    /// Whether the run fails.
    pub fn fails(&self) -> bool {
        self.state != ThresholdState::Kept
    }
}

impl Threshold {
    /// Compares the final report of a run.
    pub fn evaluate(&self, report: &Report) -> Crossing {
        if let (None, Some((statistic, times))) = (self.hold_ns, self.quantity.of_series(report)) {
            return self.evaluate_range(statistic.range_of_histogram(&times));
        }
        let Run { started_ns, duration_ns, .. } = report.run;
        let holds = |value: f64| self.comparison.holds(value, self.limit);
        let needed_ns = self.hold_ns.unwrap_or(0);
        let (value, held_ns, crossed_ns) = match self.quantity {
            Quantity::Open => {
                let found = longest(report, needed_ns, holds);
                (Some(found.open as f64), Some(found.held_ns), found.crossed_ns)
            }
            other if self.hold_ns.is_some() => {
                let series = (&report.series, started_ns.saturating_add(duration_ns));
                let found = longest_hold(series, (other, needed_ns), holds);
                (found.value.filter(|_| found.held_ns > 0), Some(found.held_ns), found.crossed_ns)
            }
            other => {
                let can_reach = self.comparison.is_lower_limit() && !other.can_fall();
                let reached = if can_reach { other.reached(&report.series, holds) } else { None };
                (other.value(report), None, reached)
            }
        };
        let holds = value.is_some_and(holds);
        let lasts = self.hold_ns.is_none_or(|needed| held_ns.is_some_and(|held| held >= needed));
        let is_partial = self.quantity.is_partial(report, self.hold_ns.is_some());
        let state = match (holds && lasts, is_partial) {
            (true, false) => ThresholdState::Crossed,
            // More open connections than were found can only be more.
            (true, true) if self.quantity == Quantity::Open && self.comparison.is_lower_limit() => {
                ThresholdState::Crossed
            }
            (_, true) => ThresholdState::Uncertain,
            (false, false) => ThresholdState::Kept,
        };
        let held_ns = held_ns.filter(|_| self.hold_ns.is_some());
        let crossed_ns = crossed_ns.filter(|_| state == ThresholdState::Crossed);
        let after_ns = crossed_ns.map(|crossed_ns| crossed_ns.saturating_sub(started_ns));
        Crossing { text: self.text.clone(), state, value, unit: self.quantity.unit(), held_ns, after_ns }
    }

    /// Compares a value of which only the range is known. `None` if there is none.
    fn evaluate_range(&self, range: Option<(f64, f64)>) -> Crossing {
        let state = match range.map(|range| self.comparison.holds_in(range, self.limit)) {
            None | Some(Some(false)) => ThresholdState::Kept,
            Some(Some(true)) => ThresholdState::Crossed,
            Some(None) => ThresholdState::Uncertain,
        };
        let value = range.map(|(_, most)| most);
        Crossing { text: self.text.clone(), state, value, unit: self.quantity.unit(), held_ns: None, after_ns: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FoldedCounts;
    use crate::report::{Interval, Series, TimeHistogram};

    #[test]
    fn the_series_has_what_folded_flows_had() {
        let folded = FoldedCounts { flows: 1, ..FoldedCounts::default() };
        let series = Series { intervals: vec![Interval::default()], ..Series::default() };
        let without_series = Report { folded, ..Report::empty() };
        let report = Report { series, ..without_series.clone() };
        for (text, expected, without) in [
            ("p99(connect) > 5ms for 1s", ThresholdState::Kept, ThresholdState::Uncertain),
            ("mean(rtt) > 5ms for 1s", ThresholdState::Kept, ThresholdState::Uncertain),
            ("retransmit_ratio > 1% for 1s", ThresholdState::Kept, ThresholdState::Uncertain),
            ("p99(connect) > 5ms", ThresholdState::Kept, ThresholdState::Uncertain),
            ("p99(rtt) > 5ms", ThresholdState::Uncertain, ThresholdState::Uncertain),
            ("open > 5 for 1s", ThresholdState::Uncertain, ThresholdState::Uncertain),
            ("p99(dns) > 5ms", ThresholdState::Kept, ThresholdState::Kept),
        ] {
            let threshold = Threshold::parse_all(text).expect("read").remove(0);
            assert_eq!(threshold.evaluate(&report).state, expected, "{text}");
            assert_eq!(threshold.evaluate(&without_series).state, without, "{text}");
        }
    }

    /// A percentile of the series is up to 1/32 above the value itself.
    #[test]
    fn handshakes_of_folded_flows_are_uncertain_only_near_the_limit() {
        let mut connect = TimeHistogram::default();
        (1..=1_000).for_each(|us| connect.add(us * 50_000, 1));
        let mut intervals = vec![Interval::default(), Interval { connect, ..Interval::default() }];
        intervals[0].connect.add(2_000_000, 4_000);
        let series = Series { intervals, ..Series::default() };
        let folded = FoldedCounts { flows: 1, ..FoldedCounts::default() };
        let report = Report { folded, series, ..Report::empty() };
        for (text, expected) in [
            // The value is 47.5 ms.
            ("p99(connect) > 49ms", ThresholdState::Kept),
            ("p99(connect) > 47400us", ThresholdState::Uncertain),
            ("p99(connect) == 47500us", ThresholdState::Uncertain),
            ("p99(connect) > 46ms", ThresholdState::Crossed),
            ("p99(connect) < 46ms", ThresholdState::Kept),
            ("p99(connect) != 60ms", ThresholdState::Crossed),
            ("max(connect) >= 50ms", ThresholdState::Crossed),
            ("max(connect) > 50ms", ThresholdState::Kept),
            ("mean(connect) == 6605us", ThresholdState::Crossed),
        ] {
            let threshold = Threshold::parse_all(text).expect("read").remove(0);
            assert_eq!(threshold.evaluate(&report).state, expected, "{text}");
        }
    }

    #[test]
    fn a_crossing_has_the_time_after_which_it_happened() {
        const SECOND: u64 = 1_000_000_000;
        let interval = |second: u64| Interval {
            start_ns: second * SECOND,
            length_ns: SECOND,
            connections: 2,
            tcp_packets: 100,
            retransmitted: second,
            ..Interval::default()
        };
        let series = Series { intervals: (100..110).map(interval).collect(), ..Series::default() };
        let run = Run { started_ns: 100 * SECOND, duration_ns: 10 * SECOND, ..Run::default() };
        let report = Report { series, run, ..Report::empty() };
        let after = |text: &str| {
            let crossing = Threshold::parse_all(text).expect("read").remove(0).evaluate(&report);
            crossing.after_ns.map(|after_ns| after_ns / SECOND)
        };
        assert_eq!(after("retransmitted > 301"), Some(2), "100, 201, 303");
        assert_eq!(after("retransmit_ratio > 1 for 3s"), Some(4), "all but the first");
        assert_eq!(after("retransmit_ratio > 1 for 30s"), None);
        assert_eq!(after("retransmitted > 99999"), None);
        assert_eq!(after("endpoints < 5"), None);
    }
}
