//! When a flow leaves the kernel's table. Leaving loses nothing: should more packets come, they get a new entry, and user space adds
//! it to the same flow. Only what the classifier remembers of it starts anew: sequence numbers, and the budget of samples.

use netwatch_common::flow::FlowValue;

use crate::flow::EndReason;

const SECOND: u64 = 1_000_000_000;
/// After FIN from both sides or RST: late copies of the last packets are over by then.
const CLOSED_NS: u64 = 2 * SECOND;
/// Nothing was said for so long.
const IDLE_NS: u64 = 300 * SECOND;
/// As above, while the table is more than three quarters full.
const IDLE_UNDER_PRESSURE_NS: u64 = 10 * SECOND;

/// How full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// There is room.
    Low,
    /// More than three quarters of the entries are taken.
    High,
}

impl Pressure {
    pub(super) fn of(live: u32, max_entries: u32) -> Self {
        if u64::from(live) * 4 > u64::from(max_entries) * 3 { Self::High } else { Self::Low }
    }
}

/// Why a flow leaves the table at `now_ns` of the kernel's monotonic clock; `None` if it stays.
pub(super) fn end_reason(value: &FlowValue, now_ns: u64, pressure: Pressure) -> Option<EndReason> {
    let idle_ns = now_ns.saturating_sub(value.last_seen_ns.max(value.first_seen_ns));
    if value.is_closed() {
        (idle_ns >= CLOSED_NS).then_some(EndReason::EndOfFlow)
    } else if idle_ns >= IDLE_NS {
        Some(EndReason::IdleTimeout)
    } else {
        (pressure == Pressure::High && idle_ns >= IDLE_UNDER_PRESSURE_NS).then_some(EndReason::LackOfResources)
    }
}

#[cfg(test)]
mod tests {
    use netwatch_common::tcp::{FIN, RST};

    use super::*;

    fn flow(flags: [u8; 2]) -> FlowValue {
        let mut value = FlowValue { first_seen_ns: 5, last_seen_ns: 10 * SECOND, ..FlowValue::EMPTY };
        [value.halves[0].flags, value.halves[1].flags] = flags.map(u32::from);
        value
    }

    #[test]
    fn closed_flows_leave_soon_and_open_ones_when_they_are_idle() {
        let at = |seconds: u64| (10 + seconds) * SECOND;
        for (flags, seconds, pressure, reason) in [
            ([FIN, FIN], 1, Pressure::High, None),
            ([FIN, FIN], 2, Pressure::Low, Some(EndReason::EndOfFlow)),
            ([RST, 0], 2, Pressure::Low, Some(EndReason::EndOfFlow)),
            ([FIN, 0], 299, Pressure::Low, None),
            ([0, 0], 300, Pressure::Low, Some(EndReason::IdleTimeout)),
            ([0, 0], 300, Pressure::High, Some(EndReason::IdleTimeout)),
            ([0, 0], 10, Pressure::High, Some(EndReason::LackOfResources)),
            ([0, 0], 9, Pressure::High, None),
        ] {
            assert_eq!(
                end_reason(&flow(flags), at(seconds), pressure),
                reason,
                "{flags:?} after {seconds} s, {pressure:?}"
            );
        }
    }

    #[test]
    fn pressure_begins_at_three_quarters() {
        assert_eq!(Pressure::of(96, 128), Pressure::Low);
        assert_eq!(Pressure::of(97, 128), Pressure::High);
    }
}
