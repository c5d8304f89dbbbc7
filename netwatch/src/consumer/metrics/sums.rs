//! What a flow adds to its series and to the histograms: the growth since its record before.

use crate::flow::{Direction, FailedAttempts, Flow, PerDirection, TcpFacts};

/// The counts of a series.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeriesSums {
    pub packets: PerDirection<u64>,
    pub wire_bytes: PerDirection<u64>,
    /// Flows, counted when they are first delivered.
    pub flows: u64,
}

impl SeriesSums {
    pub(super) fn add(&mut self, growth: &Self) {
        self.packets += growth.packets;
        self.wire_bytes += growth.wire_bytes;
        self.flows += growth.flows;
    }

    /// Bytes of both directions.
    pub(super) fn wire_bytes(&self) -> u64 {
        self.wire_bytes.both()
    }
}

/// What was counted of a flow.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedFlow {
    sums: SeriesSums,
    handshakes: u64,
    round_trips: u64,
    round_trip_ns: u64,
    retransmitted: PerDirection<u64>,
    /// Failed attempts of the target by cause, in the order of [`CAUSES`]. Added when the flow
    /// ends, because an attempt of a live flow may still be answered.
    failed: [u64; CAUSES.len()],
}

/// The causes of failed attempts, by the words of every output.
pub(super) const CAUSES: [&str; 4] = ["refused", "timeout", "reset", "unreachable"];

/// The growth of a flow.
#[derive(Debug, Default)]
pub(super) struct FlowGrowth {
    pub sums: SeriesSums,
    /// The time of a handshake that was measured, nanoseconds.
    pub handshake_ns: Option<u64>,
    /// Number of round trips that were measured, and their sum in nanoseconds.
    pub round_trips: (u64, u64),
    pub retransmitted: PerDirection<u64>,
    pub failed: [u64; CAUSES.len()],
}

impl CountedFlow {
    /// Counts the newest record of the flow, and returns what is new in it.
    pub(super) fn advance(&mut self, flow: &Flow, has_ended: bool) -> FlowGrowth {
        let before = *self;
        let tcp = flow.tcp.unwrap_or_default();
        let TcpFacts { handshake_rtt_ns, round_trips, retransmitted_packets, .. } = tcp;
        let sums = SeriesSums {
            packets: flow.counters.map(|counters| counters.packets),
            wire_bytes: flow.counters.map(|counters| counters.wire_bytes),
            flows: 1,
        };
        let is_attempt = has_ended && flow.opened_by == Direction::Egress;
        let failed = if is_attempt { causes_of(flow.failed()) } else { before.failed };
        *self = Self {
            sums,
            handshakes: u64::from(handshake_rtt_ns.is_some()).max(before.handshakes),
            round_trips: round_trips.count,
            round_trip_ns: round_trips.sum_ns,
            retransmitted: retransmitted_packets,
            failed: std::array::from_fn(|cause| failed[cause].max(before.failed[cause])),
        };
        FlowGrowth {
            sums: SeriesSums {
                packets: grown(self.sums.packets, before.sums.packets),
                wire_bytes: grown(self.sums.wire_bytes, before.sums.wire_bytes),
                flows: 1 - before.sums.flows,
            },
            handshake_ns: handshake_rtt_ns.filter(|_| before.handshakes == 0),
            round_trips: (
                self.round_trips.saturating_sub(before.round_trips),
                self.round_trip_ns.saturating_sub(before.round_trip_ns),
            ),
            retransmitted: grown(self.retransmitted, before.retransmitted),
            failed: std::array::from_fn(|cause| self.failed[cause] - before.failed[cause]),
        }
    }
}

fn grown(now: PerDirection<u64>, before: PerDirection<u64>) -> PerDirection<u64> {
    now.zip(before, u64::saturating_sub)
}

/// Failed attempts in the order of [`CAUSES`].
pub(super) fn causes_of(failed: FailedAttempts) -> [u64; CAUSES.len()] {
    [failed.refused, failed.unanswered, failed.reset, failed.unreachable]
}

/// Numbers of values up to each of some bounds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Histogram {
    /// One for each bound, without those of smaller bounds.
    buckets: [u64; BOUNDS_NS.len()],
    count: u64,
    sum_ns: u64,
}

/// Upper bounds of round trips, nanoseconds: from the same machine to the other side of the world
/// and an overloaded server.
const BOUNDS_NS: [u64; 15] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

pub(super) const SECOND_NS: f64 = 1e9;

impl Histogram {
    /// Adds `count` values with this sum. They are counted as equal.
    pub(super) fn add(&mut self, count: u64, sum_ns: u64) {
        let Some(mean_ns) = sum_ns.checked_div(count) else { return };
        if let Some(bucket) = BOUNDS_NS.iter().position(|bound| mean_ns <= *bound) {
            self.buckets[bucket] += count;
        }
        self.count += count;
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
    }

    /// Each bound in seconds, with the number of values up to it.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let up_to = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS_NS.iter().map(|bound| *bound as f64 / SECOND_NS).zip(up_to)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / SECOND_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_largest_values_are_in_none() {
        let mut times = Histogram::default();
        times.add(1, 40_000);
        times.add(2, 2_000_000);
        times.add(1, 9_000_000_000);
        times.add(0, 5);
        let buckets: Vec<(f64, u64)> = times.buckets().collect();
        assert_eq!((buckets[0], buckets[4], buckets[14]), ((0.000_05, 1), (0.001, 3), (5.0, 3)));
        assert_eq!((times.count(), times.sum_seconds()), (4, 9.002_04));
    }
}
