//! When the rules of the host's firewall have to be checked: after a change, and at intervals where
//! iptables-legacy has tables, which reports no changes. A reload consists of many changes, so
//! there is a minimum time between two checks.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::host::firewall::{FirewallWatch, has_legacy_tables};

/// Minimum time between two checks.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two checks where iptables-legacy has tables.
const LEGACY_CHECK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct FirewallFollower {
    watch: FirewallWatch,
    last_check: Instant,
    /// The first change since the last check.
    changed: Option<Instant>,
    has_legacy: bool,
}

impl FirewallFollower {
    pub(super) fn new(watch: FirewallWatch) -> Self {
        Self { watch, last_check: Instant::now(), changed: None, has_legacy: has_legacy_tables() }
    }

    /// Time until the next check, if one is due without a further change.
    pub(super) fn timeout_ms(&self) -> Option<u16> {
        let interval = self.interval()?;
        let left = interval.saturating_sub(self.last_check.elapsed());
        // Rounded up, so that the check is due when the time has passed.
        Some(u16::try_from(left.as_millis()).unwrap_or(u16::MAX).saturating_add(1))
    }

    /// Whether the rules have to be checked now, and since when they may have been wrong. To be
    /// called whenever something was waited for.
    pub(super) fn due_check(&mut self) -> Option<Instant> {
        if self.watch.has_changed() {
            self.changed = self.changed.or_else(|| Some(Instant::now()));
        }
        self.interval().filter(|interval| self.last_check.elapsed() >= *interval)?;
        // Rules of iptables-legacy may have changed directly after they were checked.
        let has_legacy = has_legacy_tables();
        let unchecked = if has_legacy || self.has_legacy { None } else { self.changed };
        let since = unchecked.unwrap_or(self.last_check);
        (self.last_check, self.changed, self.has_legacy) = (Instant::now(), None, has_legacy);
        Some(since)
    }

    fn interval(&self) -> Option<Duration> {
        match (self.changed.is_some(), self.has_legacy) {
            (true, _) => Some(MIN_CHECK_INTERVAL),
            (false, true) => Some(LEGACY_CHECK_INTERVAL),
            (false, false) => None,
        }
    }
}

impl AsFd for FirewallFollower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
