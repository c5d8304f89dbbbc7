//! Converts times of the kernel's monotonic clock to times since the Unix epoch. The offset is
//! measured once, so that a step of the system clock during a session neither reorders packets nor
//! changes durations.

use nix::time::{ClockId, clock_getres, clock_gettime};

/// The offset between the monotonic clock and the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// For times that are since the Unix epoch already.
    pub(super) const UNIX: Self = Self { epoch_ns: 0 };

    /// Measures the offset three times, and uses the measurement with the shortest time between its
    /// readings.
    pub(super) fn now() -> Self {
        Self::measure(read)
    }

    fn measure(mut read: impl FnMut(ClockId) -> u64) -> Self {
        let tries = (0..3).map(|_| {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let unix = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_MONOTONIC);
            (after - before, unix.saturating_sub(before + (after - before) / 2))
        });
        Self { epoch_ns: tries.min().map_or(0, |(_, offset)| offset) }
    }

    /// Converts a time of the kernel (`bpf_ktime_get_ns`) to nanoseconds since the Unix epoch.
    pub(super) fn unix_ns(self, kernel_ns: u64) -> u64 {
        self.epoch_ns + kernel_ns
    }
}

/// The current time of the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Length of the kernel's tick in ns: the resolution of the coarse clock.
pub(super) fn tick_ns() -> u64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |step| step.tv_nsec() as u64)
}

/// Monotonic time at which the kernel's tick count would have been 0, modulo 2⁶⁴. `jiffies` reads
/// the count. The coarse clock has the time of the same tick; the loop repeats if a tick occurs in
/// between.
pub(super) fn tick_base_ns<E>(mut jiffies: impl FnMut() -> Result<u64, E>) -> Result<u64, E> {
    loop {
        let before = read(ClockId::CLOCK_MONOTONIC_COARSE);
        let count = jiffies()?;
        if before == read(ClockId::CLOCK_MONOTONIC_COARSE) {
            return Ok(before.wrapping_sub(count.wrapping_mul(tick_ns())));
        }
    }
}

/// Reads a clock. These clocks exist on every Linux; a failure would give 0.
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

    /// If the system clock is stepped during a measurement, the offset is that from before or from
    /// after the step, never one in between.
    #[test]
    fn a_step_of_the_system_clock_moves_all_times_or_none() {
        const HOUR: i64 = 3_600_000_000_000;
        const EPOCH: u64 = 1_700_000_000_000_000_000;
        for (step, at) in [HOUR, -HOUR].into_iter().flat_map(|step| (0..12).map(move |at| (step, at))) {
            let mut reads = 0;
            let clock = Clock::measure(|clock| {
                let monotonic = 1_000 + 10 * reads;
                let epoch = if reads < at { EPOCH } else { EPOCH.saturating_add_signed(step) };
                reads += 1;
                if clock == ClockId::CLOCK_REALTIME { epoch + monotonic } else { monotonic }
            });
            let offset = clock.unix_ns(0);
            let is_either =
                [EPOCH, EPOCH.saturating_add_signed(step)].into_iter().any(|epoch| epoch.abs_diff(offset) <= 10);
            assert!(is_either, "{offset}, stepped by {step} at read {at}");
            assert_eq!(clock.unix_ns(5_000_000_000), offset + 5_000_000_000, "durations do not change");
        }
    }
}
