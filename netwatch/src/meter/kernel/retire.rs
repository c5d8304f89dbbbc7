//! When a flow is retired from the kernel's table. No packet is lost: further packets get a new
//! entry, which user space adds to the same flow. Only the classifier's state starts over: sequence
//! numbers and the sample budget.

use netwatch_common::flow::FlowValue;

use crate::flow::EndReason;

const SECOND: u64 = 1_000_000_000;
/// Time after the last packet of a closed flow: by then, late copies of the last packets have
/// arrived.
const CLOSED_TIMEOUT_NS: u64 = 2 * SECOND;
/// The same while the table is more than three quarters full: longer than the first repetition of a
/// FIN takes (200 ms on Linux).
const CLOSED_TIMEOUT_UNDER_PRESSURE_NS: u64 = SECOND / 4;
/// Idle timeout of TCP flows. Open connections continue when the next packet arrives, so this only
/// bounds the time for which they have an entry.
const TCP_IDLE_TIMEOUT_NS: u64 = 300 * SECOND;
/// Idle timeout while the table is more than three quarters full.
const IDLE_TIMEOUT_UNDER_PRESSURE_NS: u64 = 10 * SECOND;

/// How full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// At most half of the entries are in use.
    Low,
    /// More than half of the entries are in use.
    Medium,
    /// More than three quarters of the entries are in use.
    High,
}

impl Fill {
    pub(super) fn of(in_use: u32, max_entries: u32) -> Self {
        let [in_use, whole] = [in_use, max_entries].map(u64::from);
        match in_use * 4 {
            of_four if of_four > 3 * whole => Self::High,
            of_four if of_four > 2 * whole => Self::Medium,
            _ => Self::Low,
        }
    }
}

/// Why an entry leaves the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retirement {
    /// The flow has ended.
    Ended(EndReason),
    /// An open TCP connection is idle. In user space it stays open, as it is for its two ends.
    Idle,
}

impl Retirement {
    /// Why the flow has ended; `None` if it has not. `last` is the entry after it left the table:
    /// packets can have closed the connection since this was decided.
    pub(super) fn end_reason(self, last: &FlowValue) -> Option<EndReason> {
        match self {
            _ if last.is_closed() => Some(EndReason::EndOfFlow),
            Self::Ended(reason) => Some(reason),
            Self::Idle => None,
        }
    }
}

/// What decides whether an entry leaves the table, beside the entry. Times are those of the
/// kernel's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetireMoment {
    pub now_ns: u64,
    /// The last poll: records about packets until then were handed over.
    pub polled_ns: u64,
    /// Idle timeout of other protocols than TCP.
    pub idle_timeout_ns: u64,
    pub fill: Fill,
}

impl RetireMoment {
    /// Why an entry is retired; `None` if it stays.
    pub(super) fn retirement(&self, value: &FlowValue) -> Option<Retirement> {
        let last_ns = value.last_seen_ns.max(value.first_seen_ns);
        let idle_ns = self.now_ns.saturating_sub(last_ns);
        if value.superseded != 0 {
            return Some(Retirement::Ended(EndReason::EndOfFlow));
        }
        if value.is_closed() {
            let polled_ns = self.polled_ns.min(self.now_ns).saturating_sub(last_ns);
            let is_due = polled_ns >= self.closed_timeout_ns();
            return is_due.then_some(Retirement::Ended(EndReason::EndOfFlow));
        }
        let is_tcp = value.halves.iter().any(|half| half.flags != 0);
        let reason = if idle_ns >= if is_tcp { TCP_IDLE_TIMEOUT_NS } else { self.idle_timeout_ns } {
            EndReason::IdleTimeout
        } else if self.fill == Fill::High && idle_ns >= IDLE_TIMEOUT_UNDER_PRESSURE_NS {
            EndReason::LackOfResources
        } else {
            return None;
        };
        Some(if value.is_open() { Retirement::Idle } else { Retirement::Ended(reason) })
    }

    /// The time for which a closed flow stays after its last packet.
    fn closed_timeout_ns(&self) -> u64 {
        match self.fill {
            Fill::High => CLOSED_TIMEOUT_UNDER_PRESSURE_NS,
            Fill::Medium | Fill::Low => CLOSED_TIMEOUT_NS,
        }
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

    fn at(seconds: u64, fill: Fill) -> RetireMoment {
        let now_ns = (10 + seconds) * SECOND;
        RetireMoment { now_ns, polled_ns: now_ns, idle_timeout_ns: 60 * SECOND, fill }
    }

    #[test]
    fn closed_flows_end_soon_idle_ones_later_and_open_connections_do_not() {
        let ended = |reason| Some(Retirement::Ended(reason));
        for (flags, seconds, fill, retirement) in [
            ([FIN, FIN], 1, Fill::Medium, None),
            ([FIN, FIN], 1, Fill::High, ended(EndReason::EndOfFlow)),
            ([FIN, FIN], 0, Fill::High, None),
            ([FIN, FIN], 2, Fill::Low, ended(EndReason::EndOfFlow)),
            ([RST, 0], 2, Fill::Low, ended(EndReason::EndOfFlow)),
            ([FIN, 0], 299, Fill::Low, None),
            ([ACK, 0], 300, Fill::Low, ended(EndReason::IdleTimeout)),
            ([FIN | ACK, ACK], 300, Fill::Low, ended(EndReason::IdleTimeout)),
            ([ACK, ACK], 299, Fill::Low, None),
            ([ACK, ACK], 300, Fill::Low, Some(Retirement::Idle)),
            ([ACK, ACK], 10, Fill::High, Some(Retirement::Idle)),
            ([0, 0], 59, Fill::Low, None),
            ([0, 0], 60, Fill::Low, ended(EndReason::IdleTimeout)),
            ([0, 0], 60, Fill::High, ended(EndReason::IdleTimeout)),
            ([0, 0], 10, Fill::High, ended(EndReason::LackOfResources)),
            ([0, 0], 10, Fill::Medium, None),
            ([0, 0], 9, Fill::High, None),
        ] {
            let found = at(seconds, fill).retirement(&flow(flags));
            assert_eq!(found, retirement, "{flags:?} after {seconds} s, {fill:?}");
        }
    }

    #[test]
    fn a_closed_flow_stays_until_its_records_were_polled() {
        let moment = RetireMoment { polled_ns: 11 * SECOND, ..at(60, Fill::Low) };
        assert_eq!(moment.retirement(&flow([FIN, FIN])), None);
        let moment = RetireMoment { polled_ns: 12 * SECOND, ..moment };
        assert_eq!(moment.retirement(&flow([FIN, FIN])), Some(Retirement::Ended(EndReason::EndOfFlow)));
    }

    #[test]
    fn an_entry_is_retired_at_once_when_the_next_connection_has_one() {
        let value = FlowValue { superseded: 1, ..flow([ACK, ACK]) };
        assert_eq!(at(0, Fill::Low).retirement(&value), Some(Retirement::Ended(EndReason::EndOfFlow)));
    }

    #[test]
    fn a_connection_that_closes_while_it_is_retired_has_ended() {
        let (idle, half_open) = (Retirement::Idle, Retirement::Ended(EndReason::IdleTimeout));
        assert_eq!(idle.end_reason(&flow([ACK, ACK])), None);
        assert_eq!(half_open.end_reason(&flow([ACK, 0])), Some(EndReason::IdleTimeout));
        for retirement in [idle, half_open] {
            for flags in [[FIN | ACK, FIN | ACK], [ACK, RST]] {
                assert_eq!(retirement.end_reason(&flow(flags)), Some(EndReason::EndOfFlow), "{flags:?}");
            }
        }
    }

    #[test]
    fn the_fill_level_changes_at_a_half_and_at_three_quarters() {
        let levels = [64, 65, 96, 97, 128].map(|in_use| Fill::of(in_use, 128));
        assert_eq!(levels, [Fill::Low, Fill::Medium, Fill::Medium, Fill::High, Fill::High]);
    }
}
