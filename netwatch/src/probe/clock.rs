//! The kernel's monotonic clock, as the classifier reads it, in nanoseconds since the Unix epoch.

use nix::time::{ClockId, clock_gettime};

/// The distance between the two clocks at one moment. Taken anew at each drain, so that a stepped clock shifts what follows and not what was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    offset_ns: i128,
}

impl Clock {
    pub(super) fn now() -> Self {
        let read = |clock| {
            clock_gettime(clock)
                .map_or(0, |time| i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
        };
        Self { offset_ns: read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_MONOTONIC) }
    }

    /// Unix nanoseconds.
    pub(super) fn unix_ns(self, monotonic_ns: u64) -> u64 {
        u64::try_from(i128::from(monotonic_ns) + self.offset_ns).unwrap_or(0)
    }
}
