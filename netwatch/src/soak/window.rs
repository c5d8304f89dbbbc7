//! A run divided into windows of the same length.

use crate::report::{Interval, Series};

/// Number of windows: enough for a trend, and few enough that each is longer than the intervals
/// that are combined in it.
pub(super) const WINDOWS: usize = 24;

/// The sums of a window.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    pub sum: Interval,
    /// The smallest number of connections that were open at the end of an interval.
    pub open_floor: u64,
}

/// The windows from one time to another, nanoseconds since the Unix epoch. In one without an
/// interval, as many connections are open as before it.
pub(super) fn windows(series: &Series, from_ns: u64, to_ns: u64) -> Vec<Window> {
    let length_ns = (to_ns.saturating_sub(from_ns) / WINDOWS as u64).max(1);
    // Each with the connections that were open at its end.
    let mut windows: Vec<Option<(Window, u64)>> = vec![None; WINDOWS];
    let mut open_before = 0;
    for interval in &series.intervals {
        let middle_ns = interval.start_ns + interval.length_ns / 2;
        let Some(offset_ns) = middle_ns.checked_sub(from_ns) else {
            open_before = interval.open;
            continue;
        };
        let place = usize::try_from(offset_ns / length_ns).unwrap_or(usize::MAX);
        let Some(window) = windows.get_mut(place) else { continue };
        let new = || (Window { open_floor: interval.open, ..Window::default() }, 0);
        let (window, open_at_end) = window.get_or_insert_with(new);
        *open_at_end = interval.open;
        window.open_floor = window.open_floor.min(interval.open);
        window.sum.merge(interval);
    }
    let filled = windows.into_iter().map(|window| {
        let unchanged = || (Window { open_floor: open_before, ..Window::default() }, open_before);
        let (window, open_at_end) = window.unwrap_or_else(unchanged);
        open_before = open_at_end;
        window
    });
    filled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_open_in_an_empty_window_as_at_the_end_of_the_one_before() {
        let interval = |start_ns, open| Interval { start_ns, length_ns: 1, open, ..Interval::default() };
        let intervals = vec![interval(0, 7), interval(100, 2), interval(150, 9), interval(450, 4)];
        let series = Series { intervals, ..Series::default() };
        let floors: Vec<u64> =
            windows(&series, 100, 100 + 100 * WINDOWS as u64).iter().map(|window| window.open_floor).collect();
        assert_eq!(floors[..5], [2, 9, 9, 4, 4]);
    }
}
