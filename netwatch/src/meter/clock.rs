//! Times of the kernel's monotonic clock as times of the Unix epoch. The distance is taken once: a clock that is stepped
//! meanwhile neither reorders packets nor stretches durations.

use nix::time::{ClockId, clock_getres, clock_gettime};

/// Nanoseconds between the Unix epoch and the monotonic clock's zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// For times that count from the Unix epoch already.
    pub(super) const UNIX: Self = Self { epoch_ns: 0 };

    /// The distance now. Of three tries the one in which the two readings lay closest together.
    pub(super) fn now() -> Self {
        Self::by(read)
    }

    fn by(mut read: impl FnMut(ClockId) -> u64) -> Self {
        let tries = (0..3).map(|_| {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let unix = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_MONOTONIC);
            (after - before, unix.saturating_sub(before + (after - before) / 2))
        });
        Self { epoch_ns: tries.min().map_or(0, |(_, distance)| distance) }
    }

    /// A time of the kernel's (`bpf_ktime_get_ns`) in nanoseconds since the Unix epoch.
    pub(super) fn unix_ns(self, kernel_ns: u64) -> u64 {
        self.epoch_ns + kernel_ns
    }
}

/// Now, by the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The kernel's tick in ns: what the coarse clock goes by.
pub(super) fn tick_ns() -> u64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |step| step.tv_nsec() as u64)
}

/// Monotonic time at which the kernel's count of ticks would have been 0, modulo 2⁶⁴. `jiffies` reads the count; the coarse clock shows the
/// time of the same tick, unless there was another one between.
pub(super) fn tick_base_ns<E>(mut jiffies: impl FnMut() -> Result<u64, E>) -> Result<u64, E> {
    loop {
        let before = read(ClockId::CLOCK_MONOTONIC_COARSE);
        let count = jiffies()?;
        if before == read(ClockId::CLOCK_MONOTONIC_COARSE) {
            return Ok(before.wrapping_sub(count.wrapping_mul(tick_ns())));
        }
    }
}

/// Both clocks exist on every Linux; a failure would read as the epoch.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn kernel_time_becomes_unix_time() {
        let unix = Clock::now().unix_ns(read(ClockId::CLOCK_MONOTONIC));
        let expected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(expected.abs_diff(unix) < 50_000_000, "{unix} instead of {expected}");
    }

    /// Whenever the clock of the day is stepped, times are of before or of after it, never between, and all by the same distance from the kernel's.
    #[test]
    fn a_clock_that_is_stepped_moves_all_times_or_none() {
        const HOUR: i64 = 3_600_000_000_000;
        const EPOCH: u64 = 1_700_000_000_000_000_000;
        for (step, at) in [HOUR, -HOUR].into_iter().flat_map(|step| (0..12).map(move |at| (step, at))) {
            let mut reads = 0;
            let clock = Clock::by(|clock| {
                let monotonic = 1_000 + 10 * reads;
                let epoch = if reads < at { EPOCH } else { EPOCH.saturating_add_signed(step) };
                reads += 1;
                if clock == ClockId::CLOCK_REALTIME { epoch + monotonic } else { monotonic }
            });
            let distance = clock.unix_ns(0);
            let of_either =
                [EPOCH, EPOCH.saturating_add_signed(step)].into_iter().any(|epoch| epoch.abs_diff(distance) <= 10);
            assert!(of_either, "{distance}, stepped by {step} at read {at}");
            assert_eq!(clock.unix_ns(5_000_000_000), distance + 5_000_000_000, "durations are the kernel's");
        }
    }
}
