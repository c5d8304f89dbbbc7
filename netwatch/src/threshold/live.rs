//! Thresholds while a run lasts. Only conditions that stay crossed once they were are compared: for
//! all others the result is known at the end.

use super::over_time::longest_hold;
use super::quantity::Quantity;
use super::samples::OpenSamples;
use super::{Crossing, Threshold, ThresholdState};
use crate::flow::{Counters, PerDirection};
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
    /// TCP connections that have begun.
    pub connections: u64,
    /// Failed attempts that packets show.
    pub failed: u64,
    /// Failed attempts that no late answer takes back.
    pub failed_for_good: u64,
    /// DNS lookups that were answered with an error, which no late answer takes back.
    pub lookups_with_error: u64,
    /// Retransmitted packets.
    pub retransmitted: u64,
    /// Traffic of the target.
    pub totals: PerDirection<Counters>,
    /// Lost observations.
    pub lost: u64,
    /// CPU time of the target, nanoseconds, if it is known.
    pub cpu_ns: Option<u64>,
}

impl LiveNumbers {
    /// A number as the report will have it, or a larger one; `None` if only the report has it.
    fn at_most(&self, name: &str) -> Option<u64> {
        match name {
            "connections" => Some(self.connections + self.failed),
            "retransmitted" => Some(self.retransmitted),
            "sent" => Some(self.totals.egress.wire_bytes),
            "received" => Some(self.totals.ingress.wire_bytes),
            "packets" => Some(self.totals.both().packets),
            "lost" => Some(self.lost),
            "duration" => Some(self.duration_ns),
            "cpu" => self.cpu_ns,
            _ => None,
        }
    }

    /// What the final report has at least of a number that can fall; `None` if that is not known.
    fn at_least(&self, name: &str) -> Option<u64> {
        match name {
            "failed" => Some(self.failed_for_good),
            "dns_failed" => Some(self.lookups_with_error),
            _ => None,
        }
    }
}

/// What is known about the number of open connections where flows were folded.
#[derive(Debug, Clone, Copy)]
pub enum OpenKnowledge {
    /// It was sampled. These are the numbers at the time of the report.
    Sampled(LiveNumbers),
    /// Some connections are in no sample, because they are not tracked individually.
    Partial,
}

/// The thresholds of a run in progress.
#[derive(Debug)]
pub struct LiveThresholds(Vec<LiveThreshold>);

#[derive(Debug)]
struct LiveThreshold {
    threshold: Threshold,
    /// The number of open connections so far, if the condition is about it.
    samples: OpenSamples,
    /// The first crossing.
    crossed: Option<Crossing>,
}

impl LiveThresholds {
    /// None is crossed yet.
    pub fn new(thresholds: Vec<Threshold>) -> Self {
        let live = |threshold| LiveThreshold { threshold, samples: OpenSamples::default(), crossed: None };
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
            .filter(|live| !live.threshold.is_in_series() && !live.threshold.is_in_numbers())
            .fold(false, |any, live| live.may_cross(numbers) | any)
    }

    /// Compares a report of the run so far. Returns the thresholds that were crossed since the last
    /// time.
    pub fn observe(&mut self, report: &Report, open: OpenKnowledge) -> Vec<Crossing> {
        let needs_report = |threshold: &Threshold| !threshold.is_in_series() && !threshold.is_in_numbers();
        self.cross(|live| needs_report(&live.threshold).then(|| live.evaluate(report, open)))
    }

    /// As [`LiveThresholds::observe`], for those that only need numbers: of failures, those are
    /// compared that no late answer takes back. The final report may have more.
    pub fn observe_numbers(&mut self, numbers: &LiveNumbers) -> Vec<Crossing> {
        self.cross(|LiveThreshold { threshold, .. }| threshold.evaluate_numbers(numbers))
    }

    /// As [`LiveThresholds::observe`], for those that only need the series.
    pub fn observe_series(&mut self, series: &Series, now_ns: u64) -> Vec<Crossing> {
        self.cross(|LiveThreshold { threshold, .. }| {
            threshold.is_in_series().then(|| threshold.evaluate_series(series, now_ns))
        })
    }

    /// The results for the final report, which decides. Only what held for a time before stays
    /// crossed: the series has longer intervals of what happened long ago.
    pub fn conclude(&self, report: &Report, open: OpenKnowledge) -> Vec<Crossing> {
        let result = |live: &LiveThreshold| {
            let at_the_end = live.evaluate(report, open);
            let held = live.crossed.clone().filter(|_| live.threshold.hold_ns.is_some());
            held.filter(|_| !at_the_end.fails()).unwrap_or(at_the_end)
        };
        self.0.iter().map(result).collect()
    }

    fn waiting(&mut self) -> impl Iterator<Item = &mut LiveThreshold> {
        self.0.iter_mut().filter(|live| live.is_waiting())
    }

    fn cross(&mut self, evaluate: impl Fn(&LiveThreshold) -> Option<Crossing>) -> Vec<Crossing> {
        let mut crossed = Vec::new();
        for live in self.waiting() {
            live.crossed = evaluate(live).filter(|crossing| crossing.state == ThresholdState::Crossed);
            crossed.extend(live.crossed.clone());
        }
        crossed
    }
}

impl LiveThreshold {
    fn is_waiting(&self) -> bool {
        self.crossed.is_none() && self.threshold.stays_crossed()
    }

    fn evaluate(&self, report: &Report, open: OpenKnowledge) -> Crossing {
        let crossing = self.threshold.evaluate(report);
        match open {
            OpenKnowledge::Sampled(now) if self.threshold.quantity == Quantity::Open => {
                self.samples.decide(&self.threshold, crossing, &now)
            }
            _ => crossing,
        }
    }

    fn may_cross(&mut self, numbers: &LiveNumbers) -> bool {
        match self.threshold.quantity {
            Quantity::Open => {
                self.samples.add(*numbers, self.threshold.holds(numbers.open));
                let since_ns = self.samples.since_ns();
                let held_ns = since_ns.map(|since_ns| numbers.duration_ns - since_ns + HOLD_TOLERANCE_NS);
                held_ns.is_some_and(|held_ns| held_ns >= self.threshold.hold_ns.unwrap_or(0))
            }
            quantity => {
                let number = quantity.name().and_then(|name| numbers.at_most(name));
                number.is_none_or(|number| self.threshold.holds(number))
            }
        }
    }
}

impl Threshold {
    /// Whether the condition can only become true, and not false again.
    fn stays_crossed(&self) -> bool {
        match self.quantity {
            _ if self.hold_ns.is_some() => true,
            Quantity::Open => self.comparison.is_lower_limit(),
            Quantity::Number(_) if self.is_in_numbers() => true,
            Quantity::Number(_) => self.comparison.is_lower_limit() && !self.quantity.can_fall(),
            Quantity::Statistic(..) => false,
        }
    }

    /// Whether only the series decides.
    fn is_in_series(&self) -> bool {
        self.hold_ns.is_some() && self.quantity != Quantity::Open
    }

    /// Whether numbers of the run decide: what the final report has at least.
    fn is_in_numbers(&self) -> bool {
        let is_known = |name| LiveNumbers::default().at_least(name).is_some();
        self.comparison.is_lower_limit() && self.quantity.name().is_some_and(is_known)
    }

    fn evaluate_numbers(&self, numbers: &LiveNumbers) -> Option<Crossing> {
        let number = numbers.at_least(self.quantity.name()?)?;
        let holds = self.is_in_numbers() && self.holds(number);
        let state = if holds { ThresholdState::Crossed } else { ThresholdState::Kept };
        let (value, unit) = (Some(number as f64), self.quantity.unit());
        Some(Crossing { text: self.text.clone(), state, value, unit, held_ns: None, after_ns: None })
    }

    fn evaluate_series(&self, series: &Series, now_ns: u64) -> Crossing {
        let found = longest_hold((series, now_ns), (self.quantity, self.hold_ns.unwrap_or(0)), |value| {
            self.comparison.holds(value, self.limit)
        });
        let is_crossed = found.held_ns > 0 && self.hold_ns.is_some_and(|needed| found.held_ns >= needed);
        let state = if is_crossed { ThresholdState::Crossed } else { ThresholdState::Kept };
        Crossing {
            text: self.text.clone(),
            state,
            value: found.value,
            unit: self.quantity.unit(),
            held_ns: Some(found.held_ns),
            after_ns: None,
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
            ("failed > 0", true),
            ("dns_failed >= 1", true),
            ("failed < 1", false),
            ("dns_failed == 0", false),
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
        assert!(live.observe_series(&series(&[60, 60, 10]), 0).is_empty());
        let crossed = live.observe_series(&series(&[60, 60, 10, 60, 60, 60]), 0);
        assert_eq!((crossed.len(), crossed[0].held_ns), (1, Some(3 * SECOND)));
        assert!(live.observe_series(&series(&[60; 9]), 0).is_empty(), "only once");
        assert!(live.is_empty());
    }

    #[test]
    fn a_report_is_needed_only_if_it_can_cross_something() {
        let at = |second: u64, open| LiveNumbers { duration_ns: second * SECOND, open, ..LiveNumbers::default() };
        let mut open = live("open > 500 for 60s");
        assert!((0..58).all(|second| !open.needs_report(&at(second, 501))));
        assert!(open.needs_report(&at(59, 501)));
        assert!(!open.needs_report(&at(60, 500)) && !open.needs_report(&at(61, 501)), "a pause");
        let counted = LiveNumbers { connections: 5, failed: 1, lost: 3, duration_ns: 7 * SECOND, ..Default::default() };
        for (text, needs_report) in [
            ("connections > 6", false),
            ("connections > 5", true),
            ("lost > 3", false),
            ("lost >= 3", true),
            ("duration > 7s", false),
            ("duration > 6s", true),
            ("sent > 1kB", false),
            ("cpu > 1s", true),
            ("endpoints > 100", true),
        ] {
            assert_eq!(live(text).needs_report(&counted), needs_report, "{text}");
        }
        // The series decides.
        let mut connect = live("p99(connect) > 50ms for 3s");
        assert!(!connect.needs_numbers() && !connect.needs_report(&at(9, 0)));
        assert!(live("failed > 0, p99(connect) > 50ms for 3s, open > 5").needs_numbers());
    }

    #[test]
    fn failures_that_no_answer_takes_back_are_compared() {
        let mut live = live("failed > 1, dns_failed > 0, connections > 5");
        let mut now = LiveNumbers { failed_for_good: 1, failed: 3, ..LiveNumbers::default() };
        assert!(live.observe_numbers(&now).is_empty() && !live.needs_report(&now), "the others may be answered");
        now = LiveNumbers { failed_for_good: 2, lookups_with_error: 1, ..now };
        let crossed = live.observe_numbers(&now);
        assert_eq!(crossed.iter().map(|crossing| crossing.value).collect::<Vec<_>>(), [Some(2.0), Some(1.0)]);
        assert!(live.observe_numbers(&now).is_empty() && !live.is_empty(), "once");
        assert!(!live.conclude(&Report::empty(), OpenKnowledge::Sampled(now))[0].fails(), "the report decides");
    }

    #[test]
    fn samples_decide_where_flows_were_folded() {
        let folded = crate::flow::FoldedCounts { flows: 1, ..Default::default() };
        let report = Report { folded, ..Report::empty() };
        let mut live = live("open > 5 for 1m");
        let mut now = LiveNumbers::default();
        let mut after = |live: &mut LiveThresholds, open, seconds: u64| {
            let needs: Vec<bool> = (0..seconds)
                .map(|_| {
                    now = LiveNumbers { duration_ns: now.duration_ns + SECOND, open, ..now };
                    live.needs_report(&now)
                })
                .collect();
            (needs.into_iter().any(|needs| needs), OpenKnowledge::Sampled(now))
        };
        let (needs_report, open) = after(&mut live, 6, 50);
        assert!(!needs_report && !live.conclude(&report, open)[0].fails());
        assert_eq!(live.conclude(&report, OpenKnowledge::Partial)[0].state, ThresholdState::Uncertain);
        let (needs_report, open) = after(&mut live, 6, 20);
        let crossed = live.observe(&report, open);
        assert!(
            needs_report && crossed[0].value == Some(6.0) && crossed[0].held_ns == Some(69 * SECOND),
            "{crossed:?}"
        );
    }

    #[test]
    fn the_final_report_decides_unless_the_condition_held_for_a_time() {
        let crossed = |text: &str| {
            let mut live = live(text);
            let crossing = |live: &LiveThreshold| {
                let kept = live.threshold.evaluate(&Report::empty());
                Some(Crossing { state: ThresholdState::Crossed, ..kept })
            };
            assert_eq!(live.cross(crossing).len(), 1);
            live.conclude(&Report::empty(), OpenKnowledge::Partial)[0].fails()
        };
        assert!(crossed("p99(connect) > 50ms for 3s"));
        assert!(!crossed("connections > 5"));
    }
}
