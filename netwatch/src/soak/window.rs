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
    let mut windows = vec![None; WINDOWS];
    let mut open_before = 0;
    for interval in &series.intervals {
        let middle_ns = interval.start_ns + interval.length_ns / 2;
        let Some(offset_ns) = middle_ns.checked_sub(from_ns) else {
            open_before = interval.open;
            continue;
        };
        let place = usize::try_from(offset_ns / length_ns).unwrap_or(usize::MAX);
        let Some(window) = windows.get_mut(place) else { continue };
        let window = window.get_or_insert_with(|| Window { open_floor: interval.open, ..Window::default() });
        window.open_floor = window.open_floor.min(interval.open);
        window.sum.merge(interval);
    }
    let filled = windows.into_iter().map(|window| {
        let window = window.unwrap_or_else(|| Window { open_floor: open_before, ..Window::default() });
        open_before = window.open_floor;
        window
    });
    filled.collect()
}
