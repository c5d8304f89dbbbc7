//! When a flow leaves the kernel's table. Leaving loses nothing: should more packets come, they get a new entry, and user space adds
//! it to the same flow. Only what the classifier remembers of it starts anew: sequence numbers, and the budget of samples.

use netwatch_common::flow::FlowValue;

/// TCP's flag bits (RFC 9293).
const FIN: u32 = 0x01;
const RST: u32 = 0x04;

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

/// Whether a flow leaves at `now_ns` of the kernel's monotonic clock.
pub(super) fn is_over(value: &FlowValue, now_ns: u64, pressure: Pressure) -> bool {
    let idle = now_ns.saturating_sub(value.last_seen_ns.max(value.first_seen_ns));
    let [egress, ingress] = value.halves;
    let closed = (egress.flags | ingress.flags) & RST != 0 || egress.flags & ingress.flags & FIN != 0;
    let patience = match (closed, pressure) {
        (true, _) => CLOSED_NS,
        (false, Pressure::High) => IDLE_UNDER_PRESSURE_NS,
        (false, Pressure::Low) => IDLE_NS,
    };
    idle >= patience
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(flags: [u32; 2]) -> FlowValue {
        let mut value = FlowValue { first_seen_ns: 5, last_seen_ns: 10 * SECOND, ..FlowValue::EMPTY };
        value.halves[0].flags = flags[0];
        value.halves[1].flags = flags[1];
        value
    }

    #[test]
    fn closed_flows_leave_soon_and_open_ones_when_they_are_idle() {
        let at = |seconds: u64| (10 + seconds) * SECOND;
        for (flags, seconds, pressure, leaves) in [
            ([FIN, FIN], 1, Pressure::High, false),
            ([FIN, FIN], 2, Pressure::Low, true),
            ([RST, 0], 2, Pressure::Low, true),
            ([FIN, 0], 299, Pressure::Low, false),
            ([0, 0], 300, Pressure::Low, true),
            ([0, 0], 10, Pressure::High, true),
            ([0, 0], 9, Pressure::High, false),
        ] {
            assert_eq!(
                is_over(&flow(flags), at(seconds), pressure),
                leaves,
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
