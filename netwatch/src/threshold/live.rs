//! Thresholds while a run lasts. Only conditions that stay crossed once they were are compared: for
//! all others the result is known at the end.

use super::over_time::longest_hold;
use super::quantity::Quantity;
use super::{Crossing, Threshold, ThresholdState};
use crate::report::{Report, Series};

/// A time that is measured in intervals of about a second may be so much longer than it seems.
const HOLD_TOLERANCE_NS: u64 = 2_000_000_000;

/// Numbers of a run in progress, to find out without a report whether it can have crossed a
/// threshold.
#[derive(Debug, Default, Clone, Copy)]
pub struct LiveNumbers {
    /// Duration of the run so far, nanoseconds.
    pub duration_ns: u64,
    /// TCP connections that are open.
    pub open: u64,
}

/// The thresholds of a run in progress.
#[derive(Debug)]
pub struct LiveThresholds(Vec<LiveThreshold>);

#[derive(Debug)]
struct LiveThreshold {
    threshold: Threshold,
    /// Since when the number of open connections has met the condition.
    since_ns: Option<u64>,
    /// The first crossing.
    crossed: Option<Crossing>,
}

impl LiveThresholds {
    /// None is crossed yet.
    pub fn new(thresholds: Vec<Threshold>) -> Self {
        let live = |threshold| LiveThreshold { threshold, since_ns: None, crossed: None };
        Self(thresholds.into_iter().map(live).collect())
    }

    /// Whether no further one can be crossed while the run lasts.
    pub fn is_empty(&self) -> bool {
        !self.0.iter().any(LiveThreshold::is_waiting)
    }

    /// Whether the series does not decide about all that can be crossed while the run lasts.
    pub fn needs_numbers(&self) -> bool {
        self.0.iter().any(|live| live.is_waiting() && !live.threshold.is_in_series())
    }

    /// Whether a report of the run so far may cross one that was not crossed before. To be called
    /// about once a second.
    pub fn needs_report(&mut self, numbers: &LiveNumbers) -> bool {
        // No short cut: each of them follows the number of open connections.
        self.waiting()
            .filter(|live| !live.threshold.is_in_series())
            .fold(false, |any, live| live.may_cross(numbers) | any)
    }

    /// Compares a report of the run so far. Returns the thresholds that were crossed since the last
    /// time.
    pub fn observe(&mut self, report: &Report) -> Vec<Crossing> {
        self.cross(|threshold| (!threshold.is_in_series()).then(|| threshold.evaluate(report)))
    }

    /// As [`LiveThresholds::observe`], for those that only need the series.
    pub fn observe_series(&mut self, series: &Series) -> Vec<Crossing> {
        self.cross(|threshold| threshold.is_in_series().then(|| threshold.evaluate_series(series)))
    }

    /// The results for the final report, which decides. Only what held for a time before stays
    /// crossed: the series has longer intervals of what happened long ago.
    pub fn conclude(&self, report: &Report) -> Vec<Crossing> {
        let result = |live: &LiveThreshold| {
            let at_the_end = live.threshold.evaluate(report);
            let held = live.crossed.clone().filter(|_| live.threshold.hold_ns.is_some());
            held.filter(|_| !at_the_end.fails()).unwrap_or(at_the_end)
        };
        self.0.iter().map(result).collect()
    }

    fn waiting(&mut self) -> impl Iterator<Item = &mut LiveThreshold> {
        self.0.iter_mut().filter(|live| live.is_waiting())
    }

    fn cross(&mut self, evaluate: impl Fn(&Threshold) -> Option<Crossing>) -> Vec<Crossing> {
        let mut crossed = Vec::new();
        for live in self.waiting() {
            live.crossed = evaluate(&live.threshold).filter(|crossing| crossing.state == ThresholdState::Crossed);
            crossed.extend(live.crossed.clone());
        }
        crossed
    }
}

impl LiveThreshold {
    fn is_waiting(&self) -> bool {
        self.crossed.is_none() && self.threshold.stays_crossed()
    }

    fn may_cross(&mut self, numbers: &LiveNumbers) -> bool {
        let Threshold { quantity, comparison, limit, hold_ns, .. } = &self.threshold;
        let holds = |number: u64| comparison.holds(number as f64, *limit);
        match quantity {
            Quantity::Open => {
                let since_ns = holds(numbers.open).then(|| self.since_ns.unwrap_or(numbers.duration_ns));
                self.since_ns = since_ns;
                let held_ns = since_ns.map(|since_ns| numbers.duration_ns - since_ns + HOLD_TOLERANCE_NS);
                held_ns.is_some_and(|held_ns| held_ns >= hold_ns.unwrap_or(0))
            }
            _ => true,
        }
    }
}

impl Threshold {
    /// Whether the condition can only become true, and not false again.
    fn stays_crossed(&self) -> bool {
        match self.quantity {
            _ if self.hold_ns.is_some() => true,
            Quantity::Open => self.comparison.is_lower_limit(),
            Quantity::Number(_) => self.comparison.is_lower_limit() && !self.quantity.can_fall(),
            Quantity::Statistic(..) => false,
        }
    }

    /// Whether only the series decides.
    fn is_in_series(&self) -> bool {
        self.hold_ns.is_some() && self.quantity != Quantity::Open
    }

    fn evaluate_series(&self, series: &Series) -> Crossing {
        let found = longest_hold(series, self.quantity, |value| self.comparison.holds(value, self.limit));
        let is_crossed = found.held_ns > 0 && self.hold_ns.is_some_and(|needed| found.held_ns >= needed);
        let state = if is_crossed { ThresholdState::Crossed } else { ThresholdState::Kept };
        Crossing {
            text: self.text.clone(),
            state,
            value: found.value,
            unit: self.quantity.unit(),
            held_ns: Some(found.held_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Interval, TimeHistogram};

    const SECOND: u64 = 1_000_000_000;

    fn live(text: &str) -> LiveThresholds {
        LiveThresholds::new(Threshold::parse_all(text).expect("read"))
    }

    /// Connect times in milliseconds, one for each second.
    fn series(connect_ms: &[u64]) -> Series {
        let interval = |(second, ms): (u64, &u64)| {
            let mut connect = TimeHistogram::default();
            connect.add(ms * 1_000_000, 10);
            Interval { start_ns: second * SECOND, length_ns: SECOND, connect, ..Interval::default() }
        };
        Series { intervals: (0..).zip(connect_ms).map(interval).collect(), ..Series::default() }
    }

    #[test]
    fn only_conditions_that_stay_crossed_are_compared() {
        for (text, is_live) in [
            ("connections > 0", true),
            // A late answer takes a failure back.
            ("failed > 0", false),
            ("dns_failed > 0", false),
            ("open >= 5", true),
            ("open < 5", false),
            ("open < 5 for 1m", true),
            ("connections < 10", false),
            ("retransmit_ratio > 1%", false),
            ("retransmit_ratio > 1% for 5s", true),
            ("p99(connect) > 50ms", false),
            ("p99(connect) > 50ms for 5s", true),
        ] {
            assert_eq!(!live(text).is_empty(), is_live, "{text}");
        }
    }

    #[test]
    fn a_condition_of_the_series_is_crossed_once_and_stays_so_when_the_series_is_combined() {
        let mut live = live("p99(connect) > 50ms for 3s");
        assert!(live.observe_series(&series(&[60, 60, 10])).is_empty());
        let crossed = live.observe_series(&series(&[60, 60, 10, 60, 60, 60]));
        assert_eq!((crossed.len(), crossed[0].held_ns), (1, Some(3 * SECOND)));
        assert!(live.observe_series(&series(&[60; 9])).is_empty(), "only once");
        assert!(live.is_empty());
    }

    #[test]
    fn a_report_is_needed_only_if_it_can_cross_something() {
        let at = |second: u64, open| LiveNumbers { duration_ns: second * SECOND, open };
        let mut open = live("open > 500 for 60s");
        assert!((0..58).all(|second| !open.needs_report(&at(second, 501))));
        assert!(open.needs_report(&at(59, 501)));
        assert!(!open.needs_report(&at(60, 500)) && !open.needs_report(&at(61, 501)), "a pause");
        // The series decides.
        let mut connect = live("p99(connect) > 50ms for 3s");
        assert!(!connect.needs_numbers() && !connect.needs_report(&at(9, 0)));
        assert!(live("failed > 0, p99(connect) > 50ms for 3s, open > 5").needs_numbers());
    }

    #[test]
    fn the_final_report_decides_unless_the_condition_held_for_a_time() {
        let crossed = |text: &str| {
            let mut live = live(text);
            let crossing = |threshold: &Threshold| {
                let kept = threshold.evaluate(&Report::empty());
                Some(Crossing { state: ThresholdState::Crossed, ..kept })
            };
            assert_eq!(live.cross(crossing).len(), 1);
            live.conclude(&Report::empty())[0].fails()
        };
        assert!(crossed("p99(connect) > 50ms for 3s"));
        assert!(!crossed("connections > 5"));
    }
}
