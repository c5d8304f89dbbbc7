//! What rises over the run.

use super::SoakFinding;
use super::window::{Window, windows};
use crate::report::{Series, TimeHistogram};
use crate::statistics::rising;

/// The beginning of a run is no part of a trend: caches fill and pools grow.
const WARM_UP_PERCENT: u64 = 10;
/// A trend is reported if it is chance with at most this probability. A soak has five of them.
const MAX_CHANCE: f64 = 0.001;

/// A quantity that should not rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RisingQuantity {
    /// The median round trip, nanoseconds.
    RoundTrip,
    /// The median time of a TCP handshake, nanoseconds.
    Connect,
    /// Retransmitted packets of all TCP packets, parts per million.
    Retransmits,
    /// Failed attempts in a window.
    Failed,
}

/// A rise from the first third of the run to the last, without its beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Rise {
    /// The median in the first third.
    pub before: f64,
    /// The median in the last third.
    pub after: f64,
    /// The probability that values without a trend are in such an order.
    pub chance: f64,
}

/// How large a rise has to be, beside that all values of the last third exceed all of the first.
struct RiseLimits {
    factor: f64,
    difference: f64,
}

pub(super) fn findings(series: &Series, started_ns: u64, now_ns: u64) -> Vec<SoakFinding> {
    let warm_up_ns = now_ns.saturating_sub(started_ns) / 100 * WARM_UP_PERCENT;
    let windows = windows(series, started_ns + warm_up_ns, now_ns);
    let leak = leak(&windows).map(SoakFinding::Leak);
    let quantities = [
        (
            RisingQuantity::RoundTrip,
            medians(&windows, |window| &window.sum.round_trip),
            RiseLimits { factor: 1.5, difference: 500_000.0 },
        ),
        (
            RisingQuantity::Connect,
            medians(&windows, |window| &window.sum.connect),
            RiseLimits { factor: 1.5, difference: 500_000.0 },
        ),
        (RisingQuantity::Retransmits, retransmits(&windows), RiseLimits { factor: 2.0, difference: 5_000.0 }),
        (
            RisingQuantity::Failed,
            windows.iter().map(|window| window.sum.failed as f64).collect(),
            RiseLimits { factor: 2.0, difference: 10.0 },
        ),
    ];
    let rising = quantities.into_iter().filter_map(|(quantity, values, limits)| {
        rise(&values, &limits).map(|found| SoakFinding::Rising(quantity, found))
    });
    leak.into_iter().chain(rising).collect()
}

/// A rise of the number of open connections that exceeds that of the load: by Little's law, as many
/// are open as begin in the time for which each is open.
fn leak(windows: &[Window]) -> Option<Rise> {
    let floors: Vec<f64> = windows.iter().map(|window| window.open_floor as f64).collect();
    let found = rise(&floors, &RiseLimits { factor: 1.2, difference: 5.0 })?;
    let load = |of: fn(&Window) -> u64| {
        let values: Vec<f64> = windows.iter().map(|window| of(window) as f64).collect();
        let (before, after) = (first_third(&values), last_third(&values));
        if median(before) > 0.0 { median(after) / median(before) } else { 1.0 }
    };
    let load = load(|window| window.sum.connections).max(load(|window| window.sum.totals.both().packets)).max(1.0);
    let unexplained = found.after - found.before * load;
    (unexplained >= 5.0 && unexplained >= 0.2 * found.before).then_some(found)
}

/// Windows without a measurement are left out.
fn medians(windows: &[Window], of: fn(&Window) -> &TimeHistogram) -> Vec<f64> {
    windows.iter().filter_map(|window| of(window).quantile(50, 100)).map(|median| median as f64).collect()
}

/// Windows with few packets are left out, because a ratio of few is chance.
fn retransmits(windows: &[Window]) -> Vec<f64> {
    const MIN_PACKETS: u64 = 1_000;
    let enough = windows.iter().map(|window| &window.sum).filter(|sum| sum.tcp_packets >= MIN_PACKETS);
    enough.map(|sum| sum.retransmitted as f64 * 1e6 / sum.tcp_packets as f64).collect()
}

fn rise(values: &[f64], limits: &RiseLimits) -> Option<Rise> {
    /// With fewer windows, a third is too small for a statement.
    const MIN_WINDOWS: usize = 12;
    if values.len() < MIN_WINDOWS {
        return None;
    }
    let (first, last) = (first_third(values), last_third(values));
    let (before, after, chance) = (median(first), median(last), rising(values));
    let largest_before = first.iter().copied().fold(f64::MIN, f64::max);
    let smallest_after = last.iter().copied().fold(f64::MAX, f64::min);
    let is_large = after >= before * limits.factor && after - before >= limits.difference;
    (chance <= MAX_CHANCE && is_large && smallest_after > largest_before).then_some(Rise { before, after, chance })
}

fn first_third(values: &[f64]) -> &[f64] {
    &values[..values.len() / 3]
}

fn last_third(values: &[f64]) -> &[f64] {
    &values[values.len() - values.len() / 3..]
}

/// The lower one of the two in the middle; 0 without values.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
