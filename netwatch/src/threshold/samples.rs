//! Samples of the number of open connections, which a run takes about once a second. Where flows
//! were folded, a report does not have the times in which they were open.

use super::live::LiveNumbers;
use super::over_time::MAX_PAUSE_NS;
use super::{Crossing, Threshold, ThresholdState};

/// What the samples show about a condition.
#[derive(Debug, Default)]
pub(super) struct OpenSamples {
    /// The last two, the older one first.
    last: [LiveNumbers; 2],
    /// No more connections than these were open at the same time. In the series, a connection
    /// begins when it is answered, mostly in the same second as its first packet or in the next.
    most: u64,
    /// The first sample of those in which the condition has held since.
    since_ns: Option<u64>,
    /// The last sample in which it did not hold.
    not_held_ns: u64,
    /// From the first to the last sample of the longest time in which it held in each.
    held_ns: u64,
    /// The most connections in that time.
    open: u64,
    /// It did not hold longer than this: from a sample in which it did not hold to the next one.
    at_most_ns: u64,
}

impl OpenSamples {
    /// Adds a sample.
    pub fn add(&mut self, now: LiveNumbers, holds: bool) {
        self.most = self.most.max(self.possible(&now));
        let pause_ns = now.duration_ns.saturating_sub(self.last[1].duration_ns);
        if pause_ns > MAX_PAUSE_NS {
            self.since_ns = None;
        }
        self.last = [self.last[1], now];
        self.at_most_ns = self.at_most(now.duration_ns);
        if !holds {
            (self.since_ns, self.not_held_ns) = (None, now.duration_ns);
            return;
        }
        let held_ns = now.duration_ns.saturating_sub(*self.since_ns.get_or_insert(now.duration_ns));
        if held_ns >= self.held_ns {
            self.open = if held_ns == 0 { now.open } else { self.open.max(now.open) };
            self.held_ns = held_ns;
        }
    }

    /// Since when the condition has held.
    pub fn since_ns(&self) -> Option<u64> {
        self.since_ns
    }

    fn possible(&self, now: &LiveNumbers) -> u64 {
        let [before, _] = self.last;
        before.open.saturating_add(now.connections.saturating_sub(before.connections)).max(now.open)
    }

    fn at_most(&self, now_ns: u64) -> u64 {
        self.at_most_ns.max(now_ns.saturating_sub(self.not_held_ns))
    }

    /// Decides about a condition that the report leaves uncertain, if the samples do. `now` are the
    /// numbers at the time of the report.
    pub fn decide(&self, threshold: &Threshold, crossing: Crossing, now: &LiveNumbers) -> Crossing {
        if crossing.state != ThresholdState::Uncertain {
            return crossing;
        }
        match threshold.hold_ns {
            _ if threshold.comparison.is_lower_limit() && !threshold.holds(self.most.max(self.possible(now))) => {
                Crossing { state: ThresholdState::Kept, ..crossing }
            }
            Some(needed_ns) if self.held_ns >= needed_ns => {
                let (value, held_ns) = (Some(self.open as f64), Some(self.held_ns));
                Crossing { state: ThresholdState::Crossed, value, held_ns, ..crossing }
            }
            Some(needed_ns) if self.at_most(now.duration_ns) < needed_ns => {
                Crossing { state: ThresholdState::Kept, ..crossing }
            }
            _ => crossing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FoldedCounts;
    use crate::report::Report;

    const SECOND: u64 = 1_000_000_000;

    /// What the samples decide, given the connections that are open and that begin in each second.
    fn decided(text: &str, seconds: &[(u64, u64)]) -> ThresholdState {
        let threshold = Threshold::parse_all(text).expect("read").remove(0);
        let folded = FoldedCounts { flows: 1, ..FoldedCounts::default() };
        let uncertain = threshold.evaluate(&Report { folded, ..Report::empty() });
        assert_eq!(uncertain.state, ThresholdState::Uncertain, "{text}");
        let (mut samples, mut now) = (OpenSamples::default(), LiveNumbers::default());
        for (second, (open, begun)) in (1..).zip(seconds) {
            now = LiveNumbers {
                duration_ns: second * SECOND,
                open: *open,
                connections: now.connections + begun,
                ..LiveNumbers::default()
            };
            samples.add(now, threshold.holds(*open));
        }
        samples.decide(&threshold, uncertain, &now).state
    }

    #[test]
    fn samples_decide_how_long_a_condition_held() {
        let open: Vec<(u64, u64)> = [0, 6, 6, 6, 6, 2, 6, 6].map(|open| (open, 0)).to_vec();
        assert_eq!(decided("open > 5 for 3s", &open), ThresholdState::Crossed);
        // It held for 3 seconds at least, and for less than 5.
        assert_eq!(decided("open > 5 for 5s", &open), ThresholdState::Uncertain);
        assert_eq!(decided("open > 5 for 6s", &open), ThresholdState::Kept);
        assert_eq!(decided("open < 9 for 8s", &open), ThresholdState::Uncertain);
        assert_eq!(decided("open < 1 for 1s", &open), ThresholdState::Uncertain);
        assert_eq!(decided("open < 1 for 3s", &open), ThresholdState::Kept);
        assert_eq!(decided("open > 9 for 1ms", &open), ThresholdState::Kept, "never so many");
    }

    #[test]
    fn no_more_connections_are_open_than_were_and_began() {
        let seconds = [(10, 10), (12, 5), (11, 3), (4, 1)];
        // The first sample is after a second: 10 began before it, and 5 after it.
        assert_eq!(decided("open > 18", &seconds), ThresholdState::Kept);
        assert_eq!(decided("open > 17", &seconds), ThresholdState::Uncertain);
        assert_eq!(decided("open >= 18", &seconds), ThresholdState::Uncertain);
        assert_eq!(decided("open < 1", &seconds), ThresholdState::Uncertain);
    }
}
