//! `--fail-if` while the run lasts: the first crossing is printed and noted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::format::threshold;
use crate::report::{Interval, Report};
use crate::session::{IsolatedScope, Session};
use crate::settings::{EventStyle, SessionSettings};
use crate::terminal::print_message;
use crate::threshold::{Crossing, LiveNumbers, LiveThresholds, OpenKnowledge};

/// Time between two searches in the series, and minimum time between two reports.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two reports, as a multiple of the time that the last one took: with many flows, a
/// report takes long, and the rings are not read meanwhile.
const MIN_REPORT_SPACING: u32 = 100;

/// Why a run fails, when it has ended: shared by the metering thread and the control loop.
#[derive(Debug, Default, Clone)]
pub(in crate::commands) struct FailReasons(Arc<Mutex<Vec<String>>>);

impl FailReasons {
    fn set(&self, reasons: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reasons;
    }

    /// All of them; none before the end of the run.
    pub(in crate::commands) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The thresholds of a run.
#[derive(Debug)]
pub(in crate::commands) struct ThresholdWatch {
    live: LiveThresholds,
    /// Whether crossings are printed when they happen.
    prints: bool,
    next_search: Instant,
    next_report: Instant,
    reasons: FailReasons,
}

impl ThresholdWatch {
    pub(in crate::commands) fn new(settings: &SessionSettings) -> Self {
        // Lines of JSON have the note.
        let is_of_json = settings.events == Some(EventStyle::Json);
        Self {
            live: LiveThresholds::new(settings.fail_if.clone()),
            prints: settings.prints_messages() && !is_of_json,
            next_search: Instant::now() + SEARCH_INTERVAL,
            next_report: Instant::now(),
            reasons: FailReasons::default(),
        }
    }

    /// Where the reasons will be.
    pub(super) fn reasons(&self) -> FailReasons {
        self.reasons.clone()
    }

    /// To be called after each interval.
    pub(super) fn tick(&mut self, session: &mut Session<IsolatedScope>, duration_ns: u64) {
        if self.live.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut crossed = Vec::new();
        if now >= self.next_search {
            self.next_search = now + SEARCH_INTERVAL;
            crossed.extend(self.live.observe_series(session.series(), session.now_ns()));
        }
        // Status looks at every flow.
        if self.live.needs_numbers() {
            let numbers = numbers(session, duration_ns);
            crossed.extend(self.live.observe_numbers(&numbers));
            if self.live.needs_report(&numbers) && now >= self.next_report {
                crossed.extend(self.live.observe(&session.report(duration_ns, None), knowledge(session, numbers)));
                self.next_report = now + SEARCH_INTERVAL.max(MIN_REPORT_SPACING * now.elapsed());
            }
        }
        crossed.iter().for_each(|crossing| self.announce(crossing, session, duration_ns));
    }

    fn announce(&self, crossing: &Crossing, session: &mut Session<IsolatedScope>, duration_ns: u64) {
        let Some(text) = threshold::first_crossing(crossing, duration_ns) else { return };
        if self.prints {
            print_message(&text);
        }
        session.note(text);
    }

    /// Compares the final report. Returns why the run fails.
    pub(super) fn conclude(&self, session: &mut Session<IsolatedScope>, report: &Report) -> Vec<String> {
        let now = numbers(session, report.run.duration_ns);
        let open = knowledge(session, now);
        let reasons: Vec<String> = self.live.conclude(report, open).iter().filter_map(threshold::reason).collect();
        self.reasons.set(reasons.clone());
        reasons
    }
}

fn numbers(session: &mut Session<IsolatedScope>, duration_ns: u64) -> LiveNumbers {
    let status = session.status();
    let sum = |of: fn(&Interval) -> u64| -> u64 { session.series().intervals.iter().map(of).sum() };
    LiveNumbers {
        duration_ns,
        open: status.flows.open,
        connections: sum(|interval| interval.connections),
        failed: sum(|interval| interval.failed),
        failed_for_good: status.failed_for_good,
        lookups_with_error: status.lookups_with_error,
        retransmitted: sum(|interval| interval.retransmitted),
        totals: status.totals,
        lost: status.lost,
        cpu_ns: status.usage.map(|usage| usage.user_ns + usage.system_ns),
    }
}

fn knowledge(session: &Session<IsolatedScope>, now: LiveNumbers) -> OpenKnowledge {
    if session.untracked_flows() == 0 { OpenKnowledge::Sampled(now) } else { OpenKnowledge::Partial }
}
