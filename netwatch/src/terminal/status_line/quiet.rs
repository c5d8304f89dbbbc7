//! When the status line appears and disappears: after a time without activity on the terminal.

use std::time::{Duration, Instant};

/// Time without activity after which the line appears.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Pause in the activity in which the line disappears: not between two parts of an escape sequence.
const PAUSE: Duration = Duration::from_millis(20);
/// Activity without a pause for this time makes it disappear too.
const MAX_DELAY: Duration = Duration::from_millis(500);

/// The activity on a terminal.
#[derive(Debug)]
pub(super) struct Quiet {
    last: Instant,
    /// The first activity since the terminal was quiet.
    first: Option<Instant>,
}

impl Quiet {
    /// Nothing is known before `now`, so the terminal is not quiet.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, first: Some(now) }
    }

    /// Something was written or read.
    pub(super) fn note_activity(&mut self, now: Instant) {
        self.last = now;
        self.first.get_or_insert(now);
    }

    /// Whether the line can be shown.
    pub(super) fn is_quiet(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.last) >= QUIET_TIME {
            self.first = None;
        }
        self.first.is_none()
    }

    /// Whether a line that is shown has to disappear now.
    pub(super) fn has_to_hide(&self, now: Instant) -> bool {
        self.first.is_some_and(|first| now >= self.hides_at(first))
    }

    fn hides_at(&self, first: Instant) -> Instant {
        (self.last + PAUSE).min(first + MAX_DELAY)
    }

    /// Time until one of the answers above changes without further activity; `None` if none does.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let first = self.first?;
        let next = if self.has_to_hide(now) { self.last + QUIET_TIME } else { self.hides_at(first) };
        // A millisecond more than the rest, which poll(2) would cut off.
        Some(next.saturating_duration_since(now) + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_line_appears_after_two_seconds_and_disappears_in_a_pause() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        assert!(!quiet.is_quiet(start + 1999 * MS) && quiet.is_quiet(start + 2000 * MS));
        assert_eq!(quiet.timeout(start + 2000 * MS), None);
        let written = start + 3000 * MS;
        quiet.note_activity(written);
        assert!(!quiet.is_quiet(written) && !quiet.has_to_hide(written + 19 * MS));
        assert!(quiet.has_to_hide(written + 20 * MS) && !quiet.is_quiet(written + 1999 * MS));
        assert!(quiet.is_quiet(written + 2000 * MS) && !quiet.has_to_hide(written + 2000 * MS));
    }

    #[test]
    fn activity_without_a_pause_hides_the_line_after_half_a_second() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        assert!(quiet.is_quiet(start + 2000 * MS));
        let hidden = (0..100).find(|step| {
            let now = start + (3000 + 10 * step) * MS;
            quiet.note_activity(now);
            quiet.has_to_hide(now)
        });
        assert_eq!(hidden, Some(50));
    }

    #[test]
    fn waits_until_the_next_change() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        assert_eq!(quiet.timeout(start), Some(21 * MS));
        assert_eq!(quiet.timeout(start + 20 * MS), Some(1981 * MS));
        assert!(quiet.is_quiet(start + 2000 * MS));
        quiet.note_activity(start + 2500 * MS);
        assert_eq!(quiet.timeout(start + 2510 * MS), Some(11 * MS));
    }
}
