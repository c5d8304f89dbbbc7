//! How many connections are open at the same time, from the flows of a report.

use crate::flow::Flow;
use crate::report::Report;

/// The state of a condition about the number of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Longest {
    /// The longest time without a pause in which it held, nanoseconds.
    pub held_ns: u64,
    /// The largest number of open connections in that time, or at all if it never held.
    pub open: u64,
    /// When it had held for as long as needed for the first time, nanoseconds since the Unix epoch.
    pub crossed_ns: Option<u64>,
}

/// The longest time in which a condition about the number of open connections held, which has to
/// hold for `needed_ns`. A connection is open from its first packet to the packet that closed it,
/// or to the end of the run.
pub(super) fn longest(report: &Report, needed_ns: u64, holds: impl Fn(f64) -> bool) -> Longest {
    let (start_ns, end_ns) = match &report.replay {
        Some(replay) => (replay.started_ns, replay.started_ns.saturating_add(replay.duration_ns)),
        None => (report.run.started_ns, report.run.started_ns.saturating_add(report.run.duration_ns)),
    };
    let spans = report.flows.iter().map(|known| &known.flow).filter(|flow| is_connection(flow));
    longest_of(spans.map(|flow| span(flow, end_ns)), (start_ns, end_ns), needed_ns, holds)
}

/// A failed attempt was never open.
fn is_connection(flow: &Flow) -> bool {
    flow.tcp.is_some() && flow.failed().attempts() == 0
}

fn span(flow: &Flow, end_ns: u64) -> (u64, u64) {
    let end_ns = if flow.end_reason().is_some() { flow.last_seen_ns } else { end_ns.max(flow.last_seen_ns) };
    (flow.first_seen_ns, end_ns.max(flow.first_seen_ns))
}

fn longest_of(
    spans: impl Iterator<Item = (u64, u64)>,
    (start_ns, end_ns): (u64, u64),
    needed_ns: u64,
    holds: impl Fn(f64) -> bool,
) -> Longest {
    let mut events: Vec<(u64, bool)> = spans.flat_map(|(from, to)| [(from, true), (to, false)]).collect();
    // Of events at the same time those that open come first: a connection is open at its last
    // packet.
    events.sort_by_key(|(time, opens)| (*time, !opens));
    let mut longest = Longest { held_ns: 0, open: 0, crossed_ns: None };
    let (mut open, mut peak) = (0_u64, 0_u64);
    let mut since = holds(0.0).then_some((start_ns, 0));
    let mut has_held = since.is_some();
    for (time, opens) in events {
        open = if opens { open + 1 } else { open - 1 };
        peak = peak.max(open);
        match (since, holds(open as f64)) {
            (None, true) => since = Some((time, open)),
            (Some((from, largest)), true) => since = Some((from, largest.max(open))),
            (Some(before), false) => {
                longest = longer(longest, before, time, needed_ns);
                since = None;
            }
            (None, false) => {}
        }
        has_held |= since.is_some();
    }
    if let Some(before) = since {
        longest = longer(longest, before, end_ns, needed_ns);
    }
    if has_held { longest } else { Longest { open: peak, ..longest } }
}

fn longer(longest: Longest, (from, open): (u64, u64), to: u64, needed_ns: u64) -> Longest {
    let held_ns = to.saturating_sub(from);
    let crossed_ns = longest.crossed_ns.or((held_ns >= needed_ns).then_some(from.saturating_add(needed_ns)));
    if held_ns > longest.held_ns || (held_ns == longest.held_ns && open > longest.open) {
        Longest { held_ns, open, crossed_ns }
    } else {
        Longest { crossed_ns, ..longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(limit: f64, spans: &[(u64, u64)]) -> Longest {
        longest_of(spans.iter().copied(), (0, 100), 0, |open| open > limit)
    }

    #[test]
    fn a_condition_holds_while_enough_connections_overlap() {
        let spans = [(0, 50), (10, 60), (20, 30), (70, 90), (75, 100)];
        assert_eq!(above(0.0, &spans), Longest { held_ns: 60, open: 3, crossed_ns: Some(0) });
        assert_eq!(above(1.0, &spans), Longest { held_ns: 40, open: 3, crossed_ns: Some(10) });
        assert_eq!(above(2.0, &spans), Longest { held_ns: 10, open: 3, crossed_ns: Some(20) });
        assert_eq!(above(3.0, &spans), Longest { held_ns: 0, open: 3, crossed_ns: None }, "it never holds");
        assert_eq!(above(0.0, &[]), Longest { held_ns: 0, open: 0, crossed_ns: None });
    }

    #[test]
    fn connections_that_follow_each_other_at_once_leave_no_pause() {
        assert_eq!(above(0.0, &[(0, 40), (40, 80)]), Longest { held_ns: 80, open: 2, crossed_ns: Some(0) });
    }

    #[test]
    fn a_condition_about_few_connections_holds_without_any() {
        let found = longest_of([(40, 60)].into_iter(), (0, 100), 50, |open| open < 1.0);
        assert_eq!(found, Longest { held_ns: 40, open: 0, crossed_ns: None });
        let spans = [(10, 40), (60, 100)];
        let found = longest_of(spans.into_iter(), (0, 100), 20, |open| open > 0.0);
        assert_eq!(found, Longest { held_ns: 40, open: 1, crossed_ns: Some(30) }, "the first time is not the longest");
    }
}
