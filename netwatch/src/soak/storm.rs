//! Reconnect storms and idle periods: what happens within a minute.

use super::SECOND;
use crate::report::{Interval, Series};

/// Attempts are compared over times of this length.
pub(super) const SLOT_NS: u64 = 30 * SECOND;
/// The beginning of a run is no storm.
pub(super) const WARM_UP_NS: u64 = 60 * SECOND;
/// A shorter time without packets is no finding.
pub(super) const MIN_IDLE_NS: u64 = 60 * SECOND;
/// A storm has at least so many attempts, and so many times those that are usual.
const MIN_ATTEMPTS: u64 = 50;
const MIN_FACTOR: u64 = 8;
/// Of its attempts at least this part fails, or the open connections fell to half before.
const MIN_FAILED_PERCENT: u64 = 20;
/// A fall of fewer connections is none.
const MIN_POPULATION: u64 = 10;

/// Connections that are opened again at once, after they were closed or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconnectStorm {
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Length, nanoseconds.
    pub length_ns: u64,
    /// Connections and failed attempts in it.
    pub attempts: u64,
    /// Failed attempts among them.
    pub failed: u64,
}

impl ReconnectStorm {
    /// Whether `next` follows without a pause.
    pub(super) fn continues(&self, next: &Self) -> bool {
        next.start_ns <= self.start_ns.saturating_add(self.length_ns).saturating_add(SLOT_NS)
    }

    pub(super) fn extend(&mut self, next: &Self) {
        self.length_ns = next.start_ns.saturating_add(next.length_ns).saturating_sub(self.start_ns);
        self.attempts += next.attempts;
        self.failed += next.failed;
    }
}

/// A time without packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdlePeriod {
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Length, nanoseconds.
    pub length_ns: u64,
}

impl IdlePeriod {
    pub(super) fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.length_ns)
    }
}

/// Consecutive intervals of about [`SLOT_NS`].
#[derive(Debug, Clone, Copy)]
struct StormSlot {
    start_ns: u64,
    end_ns: u64,
    attempts: u64,
    failed: u64,
    most_open: u64,
    least_open: u64,
}

impl StormSlot {
    fn of(interval: &Interval) -> Self {
        Self {
            start_ns: interval.start_ns,
            end_ns: interval.end_ns(),
            attempts: interval.connections + interval.failed,
            failed: interval.failed,
            most_open: interval.open,
            least_open: interval.open,
        }
    }

    fn add(&mut self, next: &Self) {
        self.end_ns = next.end_ns;
        self.attempts += next.attempts;
        self.failed += next.failed;
        self.most_open = self.most_open.max(next.most_open);
        self.least_open = self.least_open.min(next.least_open);
    }

    fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }
}

/// Divides the series by multiples of [`SLOT_NS`], so that the slots stay the same when intervals
/// in them are merged: each is searched once.
fn slots(series: &Series) -> Vec<StormSlot> {
    let mut slots: Vec<StormSlot> = Vec::new();
    for next in series.intervals.iter().map(StormSlot::of) {
        match slots.last_mut() {
            Some(slot) if next.start_ns / SLOT_NS == slot.start_ns / SLOT_NS => slot.add(&next),
            _ => slots.push(next),
        }
    }
    slots
}

/// The storms in slots that begin between these times.
pub(super) fn storms(series: &Series, from_ns: u64, until_ns: u64) -> Vec<ReconnectStorm> {
    let slots = slots(series);
    let Some(first) = slots.first() else { return Vec::new() };
    let usual = usual_attempts(&slots, until_ns.saturating_sub(first.start_ns));
    let found = slots.windows(2).filter(|pair| (from_ns..until_ns).contains(&pair[1].start_ns)).filter(|pair| {
        let [before, slot] = pair else { return false };
        let attempts = slot.attempts;
        // Usual attempts in a time of the same length.
        let length_ns = u128::from(slot.length_ns().max(SLOT_NS));
        let usual = u128::from(usual) * length_ns / u128::from(SLOT_NS);
        let is_unusual = attempts >= MIN_ATTEMPTS && u128::from(attempts) >= usual * u128::from(MIN_FACTOR);
        let fails = slot.failed * 100 >= attempts * MIN_FAILED_PERCENT;
        let population = before.most_open;
        let falls = population >= MIN_POPULATION
            && slot.least_open.min(before.least_open) <= population / 2
            && attempts >= population / 2;
        is_unusual && (fails || falls)
    });
    let storm = |pair: &[StormSlot]| ReconnectStorm {
        start_ns: pair[1].start_ns,
        length_ns: pair[1].length_ns(),
        attempts: pair[1].attempts,
        failed: pair[1].failed,
    };
    found.map(storm).collect()
}

/// The attempts in a slot that nine tenths of the time do not exceed. Time without an interval has
/// none.
fn usual_attempts(slots: &[StormSlot], length_ns: u64) -> u64 {
    let in_slot = |slot: &StormSlot| {
        let length_ns = slot.length_ns().max(SLOT_NS);
        let share = u128::from(slot.attempts) * u128::from(SLOT_NS) / u128::from(length_ns);
        (u64::try_from(share).unwrap_or(u64::MAX), length_ns)
    };
    let mut rates: Vec<(u64, u64)> = slots.iter().map(in_slot).collect();
    rates.sort_unstable_by_key(|(attempts, _)| std::cmp::Reverse(*attempts));
    let mut above_ns = 0_u64;
    let reached = rates.iter().find(|(_, time_ns)| {
        above_ns = above_ns.saturating_add(*time_ns);
        above_ns > length_ns / 10
    });
    reached.map_or(0, |(attempts, _)| *attempts)
}

/// The times without packets between these times, if they are long enough.
pub(super) fn idle_periods(series: &Series, from_ns: u64, until_ns: u64) -> Vec<IdlePeriod> {
    let busy = series.intervals.iter().filter(|one| one.totals.both().packets > 0);
    let mut periods = Vec::new();
    let mut end_ns = series.intervals.first().map_or(from_ns, |first| first.start_ns);
    for (start, end) in busy.map(|one| (one.start_ns, one.end_ns())).chain([(until_ns, until_ns)]) {
        let start = start.min(until_ns);
        let length_ns = start.saturating_sub(end_ns);
        // It was found before unless it reaches into this time.
        if length_ns >= MIN_IDLE_NS && start > from_ns {
            periods.push(IdlePeriod { start_ns: end_ns, length_ns });
        }
        end_ns = end_ns.max(end);
    }
    periods
}
