//! The clock of a run: time since the Unix epoch as CLOCK_BOOTTIME counts it, the clock that the
//! programs in the kernel read. It also advances while the machine is suspended. Its offset to the
//! Unix epoch is measured once, so that a step of the system clock neither reorders packets nor
//! changes durations.
//!
//! In a time namespace, the clock that a process reads differs from the kernel's by a constant.

use std::sync::OnceLock;

use nix::time::{ClockId, clock_getres, clock_gettime};

/// The offset between the kernel's clock and the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// For times that are since the Unix epoch already.
    pub(super) const UNIX: Self = Self { epoch_ns: 0 };

    /// The clock of this process. All parts of a run have the same, so that their times can be
    /// compared.
    pub(super) fn of_process() -> Self {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(|| Self::measure(read, namespace_offset_ns()))
    }

    /// Measures the offset. `namespace_ns` is by how much this process reads a later time than the
    /// kernel.
    fn measure(read: impl FnMut(ClockId) -> u64, namespace_ns: i64) -> Self {
        let epoch_ns = distance(ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_REALTIME, read);
        Self { epoch_ns: epoch_ns.wrapping_add_signed(namespace_ns) }
    }

    /// Converts a time of the kernel (`bpf_ktime_get_boot_ns`) to nanoseconds since the Unix epoch.
    pub(super) fn unix_ns(self, kernel_ns: u64) -> u64 {
        self.epoch_ns.wrapping_add(kernel_ns)
    }
}

/// The current time of the clock of this process, nanoseconds since the Unix epoch. It differs from
/// the system clock if that was stepped during the run.
pub fn unix_now_ns() -> u64 {
    Clock::of_process().unix_ns(kernel_ns())
}

/// The CPU time of this thread, nanoseconds. Unlike the time that passes, it does not depend on
/// what else runs.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The current time of the clock of `bpf_ktime_get_boot_ns`.
pub(super) fn kernel_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME).wrapping_add_signed(-namespace_offset_ns())
}

/// Converts a time since the boot that /proc shows to the clock of `bpf_ktime_get_boot_ns`.
pub(super) fn kernel_ns_of_proc(boot_ns: u64) -> u64 {
    boot_ns.wrapping_add_signed(-namespace_offset_ns())
}

/// By how much CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC for this process, in ns. It grows by the
/// time for which the machine is suspended. Before that it is 0, and may be measured as less.
pub(super) fn ahead_of_monotonic_ns() -> i64 {
    distance(ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME, read) as i64
}

/// Length of the kernel's tick in ns: the resolution of the coarse clock.
pub(super) fn tick_ns() -> u64 {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |step| step.tv_nsec() as u64)
}

/// Time of the kernel in ns, modulo 2⁶⁴, at which its tick count would have been 0. It is valid
/// until the machine is suspended, because the count does not advance meanwhile. `jiffies` reads
/// the count. The coarse clock has the time of the same tick; the loop repeats if a tick occurs in
/// between.
pub(super) fn tick_base_ns<E>(mut jiffies: impl FnMut() -> Result<u64, E>) -> Result<u64, E> {
    let to_kernel = ahead_of_monotonic_ns() - namespace_offset_ns();
    loop {
        let before = read(ClockId::CLOCK_MONOTONIC_COARSE);
        let count = jiffies()?;
        if before == read(ClockId::CLOCK_MONOTONIC_COARSE) {
            return Ok(before.wrapping_add_signed(to_kernel).wrapping_sub(count.wrapping_mul(tick_ns())));
        }
    }
}

/// By how many ns the clock `to` is ahead of the clock `from`, modulo 2⁶⁴. It is measured three
/// times; the measurement with the shortest time between its readings is used.
fn distance(from: ClockId, to: ClockId, mut read: impl FnMut(ClockId) -> u64) -> u64 {
    let measured = (0..3).map(|_| {
        let before = read(from);
        let between = read(to);
        let after = read(from);
        (after - before, between.wrapping_sub(before + (after - before) / 2))
    });
    measured.min_by_key(|&(took, _)| took).map_or(0, |(_, distance)| distance)
}

/// Reads a clock. These clocks exist on every Linux; a failure would give 0.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// By how much CLOCK_BOOTTIME of this process is ahead of the kernel's, because of its time
/// namespace. 0 for a kernel without time namespaces.
fn namespace_offset_ns() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    let offsets = || std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    *OFFSET.get_or_init(|| boot_time_offset_ns(&offsets()).unwrap_or(0))
}

/// Reads lines of a clock, seconds and nanoseconds: `boottime 3600 0`.
fn boot_time_offset_ns(offsets: &str) -> Option<i64> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace().map(|number| number.parse::<i64>().ok());
    let (seconds, ns) = (numbers.next()??, numbers.next()??);
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    #[test]
    fn kernel_time_becomes_unix_time() {
        let expected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let unix = Clock::measure(read, namespace_offset_ns()).unix_ns(kernel_ns());
        assert!(expected.abs_diff(unix) < 50_000_000, "{unix} instead of {expected}");
        let now = unix_now_ns();
        assert!(now <= unix_now_ns() && now >= Clock::of_process().unix_ns(0));
    }

    /// If the system clock is stepped during a measurement, the offset is that from before or from
    /// after the step, never one in between.
    #[test]
    fn a_step_of_the_system_clock_moves_all_times_or_none() {
        const EPOCH: u64 = 1_700_000_000_000_000_000;
        for (step, at) in [HOUR, -HOUR].into_iter().flat_map(|step| (0..12).map(move |at| (step, at))) {
            let mut reads = 0;
            let stepped = |clock| {
                let boot = 1_000 + 10 * reads;
                let epoch = if reads < at { EPOCH } else { EPOCH.saturating_add_signed(step) };
                reads += 1;
                if clock == ClockId::CLOCK_REALTIME { epoch + boot } else { boot }
            };
            let clock = Clock::measure(stepped, 0);
            let offset = clock.unix_ns(0);
            let is_either =
                [EPOCH, EPOCH.saturating_add_signed(step)].into_iter().any(|epoch| epoch.abs_diff(offset) <= 10);
            assert!(is_either, "{offset}, stepped by {step} at read {at}");
            assert_eq!(clock.unix_ns(5_000_000_000), offset + 5_000_000_000, "durations do not change");
        }
    }

    /// A process in a time namespace reads a boot time that differs from the kernel's. What the
    /// kernel recorded is converted to the same time as outside the namespace.
    #[test]
    fn a_time_namespace_does_not_change_converted_times() {
        for offset in [0, HOUR, -HOUR] {
            let kernel_now = 7_200_000_000_000_u64;
            let unix_now = 1_700_000_000_000_000_000_u64;
            let read = |clock| match clock {
                ClockId::CLOCK_REALTIME => unix_now,
                _ => kernel_now.wrapping_add_signed(offset),
            };
            assert_eq!(Clock::measure(read, offset).unix_ns(kernel_now), unix_now, "{offset}");
        }
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let text = |seconds: &str| format!("monotonic           5         0\nboottime {seconds:>12} 500000000\n");
        assert_eq!(boot_time_offset_ns(&text("3600")), Some(HOUR + 500_000_000));
        assert_eq!(boot_time_offset_ns(&text("-3600")), Some(-HOUR + 500_000_000));
        assert_eq!(boot_time_offset_ns(""), None);
        assert_eq!(boot_time_offset_ns("boottime 1"), None);
    }

    /// Two measurements differ by little, also if the clocks are equal.
    #[test]
    fn the_distance_of_equal_clocks_is_close_to_zero() {
        let mut time = 1_000_000;
        let distance = distance(ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME, |clock| {
            time += if clock == ClockId::CLOCK_BOOTTIME { 10 } else { 50 };
            time
        });
        assert_eq!(distance as i64, -20);
        assert!(ahead_of_monotonic_ns().abs_diff(ahead_of_monotonic_ns()) < 1_000_000_000);
    }

    /// The base follows the tick count: count and base together are the time of the last tick.
    #[test]
    fn the_tick_base_leads_to_the_time_of_the_last_tick() {
        let count = 1_000;
        let earliest = kernel_ns();
        let base = tick_base_ns(|| Ok::<_, std::convert::Infallible>(count)).expect("never fails");
        let tick = base.wrapping_add(count * tick_ns());
        // A busy machine may handle several ticks late.
        assert!(tick <= kernel_ns() && tick + 100 * tick_ns() >= earliest, "{tick}, after {earliest}");
    }
}
