//! When a flow is retired from the kernel's table. No packet is lost: further packets get a new
//! entry, which user space adds to the same flow. Only the classifier's state starts over: sequence
//! numbers and the sample budget.

use netwatch_common::flow::FlowValue;

use crate::flow::EndReason;

const SECOND: u64 = 1_000_000_000;
/// Time after the last packet of a closed flow: by then, late copies of the last packets have
/// arrived.
const CLOSED_TIMEOUT_NS: u64 = 2 * SECOND;
/// Idle timeout of TCP flows. They continue when the next packet arrives, so this only bounds the
/// time for which they have an entry.
const TCP_IDLE_TIMEOUT_NS: u64 = 300 * SECOND;
/// Idle timeout while the table is more than three quarters full.
const IDLE_TIMEOUT_UNDER_PRESSURE_NS: u64 = 10 * SECOND;

/// How full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// At most three quarters of the entries are in use.
    Low,
    /// More than three quarters of the entries are in use.
    High,
}

impl Pressure {
    pub(super) fn of(live: u32, max_entries: u32) -> Self {
        if u64::from(live) * 4 > u64::from(max_entries) * 3 { Self::High } else { Self::Low }
    }
}

/// Why a flow is retired at `now_ns` of the kernel's clock; `None` if it stays.
/// `idle_timeout_ns` is that of other protocols than TCP.
pub(super) fn end_reason(
    value: &FlowValue,
    now_ns: u64,
    idle_timeout_ns: u64,
    pressure: Pressure,
) -> Option<EndReason> {
    let idle_ns = now_ns.saturating_sub(value.last_seen_ns.max(value.first_seen_ns));
    let is_tcp = value.halves.iter().any(|half| half.flags != 0);
    if value.superseded != 0 {
        Some(EndReason::EndOfFlow)
    } else if value.is_closed() {
        (idle_ns >= CLOSED_TIMEOUT_NS).then_some(EndReason::EndOfFlow)
    } else if idle_ns >= if is_tcp { TCP_IDLE_TIMEOUT_NS } else { idle_timeout_ns } {
        Some(EndReason::IdleTimeout)
    } else {
        (pressure == Pressure::High && idle_ns >= IDLE_TIMEOUT_UNDER_PRESSURE_NS).then_some(EndReason::LackOfResources)
    }
}

#[cfg(test)]
mod tests {
    use netwatch_common::tcp::{ACK, FIN, RST};

    use super::*;

    fn flow(flags: [u8; 2]) -> FlowValue {
        let mut value = FlowValue { first_seen_ns: 5, last_seen_ns: 10 * SECOND, ..FlowValue::EMPTY };
        [value.halves[0].flags, value.halves[1].flags] = flags.map(u32::from);
        value
    }

    #[test]
    fn closed_flows_are_retired_soon_and_open_ones_when_idle() {
        let at = |seconds: u64| (10 + seconds) * SECOND;
        for (flags, seconds, pressure, reason) in [
            ([FIN, FIN], 1, Pressure::High, None),
            ([FIN, FIN], 2, Pressure::Low, Some(EndReason::EndOfFlow)),
            ([RST, 0], 2, Pressure::Low, Some(EndReason::EndOfFlow)),
            ([FIN, 0], 299, Pressure::Low, None),
            ([ACK, 0], 300, Pressure::Low, Some(EndReason::IdleTimeout)),
            ([0, 0], 59, Pressure::Low, None),
            ([0, 0], 60, Pressure::Low, Some(EndReason::IdleTimeout)),
            ([0, 0], 60, Pressure::High, Some(EndReason::IdleTimeout)),
            ([0, 0], 10, Pressure::High, Some(EndReason::LackOfResources)),
            ([0, 0], 9, Pressure::High, None),
        ] {
            assert_eq!(
                end_reason(&flow(flags), at(seconds), 60 * SECOND, pressure),
                reason,
                "{flags:?} after {seconds} s, {pressure:?}"
            );
        }
    }

    #[test]
    fn an_entry_is_retired_at_once_when_the_next_connection_has_one() {
        let value = FlowValue { superseded: 1, ..flow([ACK, ACK]) };
        let reason = end_reason(&value, 10 * SECOND, u64::MAX, Pressure::Low);
        assert_eq!(reason, Some(EndReason::EndOfFlow));
    }

    #[test]
    fn pressure_begins_at_three_quarters() {
        assert_eq!(Pressure::of(96, 128), Pressure::Low);
        assert_eq!(Pressure::of(97, 128), Pressure::High);
    }
}
