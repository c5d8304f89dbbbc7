//! What a threshold can be about.

use crate::flow::{Direction, Flow, Protocol};
use crate::process::AttemptCause;
use crate::report::{Failure, Interval, Report, TimeHistogram, loss_reasons};

/// What the numbers of a quantity are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdUnit {
    /// A number of things.
    Count,
    /// A size in bytes.
    Bytes,
    /// A time in nanoseconds.
    Time,
    /// A part of a whole: 0.01 is 1 %.
    Ratio,
}

/// One number of a report, or a statistic of many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantity {
    /// The number of TCP connections that are open at the same time.
    Open,
    /// A number, by its place in [`NUMBERS`].
    Number(usize),
    /// A statistic of times, which are at this place in [`TIMES`].
    Statistic(Statistic, usize),
}

/// A statistic of many times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Statistic {
    /// The nearest rank of this percentage, in millionths of a percent, so that the rank is exact:
    /// 0 for the minimum, [`Statistic::MAX`] for the maximum.
    Percentile(u32),
    Mean,
}

/// Whether flows that were folded into their endpoints are missing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoldedPart {
    Included,
    /// Only the series has them.
    InSeries,
}

type Number = (&'static str, ThresholdUnit, FoldedPart, fn(&Report) -> Option<f64>);

/// The name of [`Quantity::Open`].
pub(super) const OPEN: &str = "open";
/// The name of the number that the series has for each interval.
pub(super) const RETRANSMIT_RATIO: &str = "retransmit_ratio";

/// The name of the times of handshakes.
const CONNECT: &str = "connect";

/// Numbers that can fall while a run lasts: a late answer takes an unanswered attempt back.
const FALLING: [&str; 3] = ["failed", "dns_failed", RETRANSMIT_RATIO];

/// Quantities of which a report has one number.
pub(super) const NUMBERS: [Number; 13] = [
    ("failed", ThresholdUnit::Count, FoldedPart::Included, |report| Some(failures(report, false))),
    ("dns_failed", ThresholdUnit::Count, FoldedPart::Included, |report| Some(failures(report, true))),
    ("dns_queries", ThresholdUnit::Count, FoldedPart::Included, |report| Some(queries(report))),
    ("connections", ThresholdUnit::Count, FoldedPart::Included, |report| Some(connections(report))),
    ("endpoints", ThresholdUnit::Count, FoldedPart::Included, |report| Some(report.endpoint_count() as f64)),
    ("sent", ThresholdUnit::Bytes, FoldedPart::Included, |report| Some(report.totals.egress.wire_bytes as f64)),
    ("received", ThresholdUnit::Bytes, FoldedPart::Included, |report| Some(report.totals.ingress.wire_bytes as f64)),
    ("packets", ThresholdUnit::Count, FoldedPart::Included, |report| Some(report.totals.both().packets as f64)),
    ("retransmitted", ThresholdUnit::Count, FoldedPart::InSeries, |report| Some(retransmits(report).0)),
    (RETRANSMIT_RATIO, ThresholdUnit::Ratio, FoldedPart::InSeries, retransmit_ratio),
    ("lost", ThresholdUnit::Count, FoldedPart::Included, |report| Some(lost(report))),
    ("duration", ThresholdUnit::Time, FoldedPart::Included, |report| Some(report.run.duration_ns as f64)),
    ("cpu", ThresholdUnit::Time, FoldedPart::Included, |report| {
        report.run.usage.map(|usage| usage.user_ns as f64 + usage.system_ns as f64)
    }),
];

type Times = (&'static str, fn(&Report) -> Vec<u64>);

/// Quantities of which a report has many times.
pub(super) const TIMES: [Times; 3] = [(CONNECT, connect_times), ("rtt", round_trips), ("dns", response_times)];

impl Quantity {
    pub fn unit(self) -> ThresholdUnit {
        match self {
            Self::Open => ThresholdUnit::Count,
            Self::Number(place) => NUMBERS[place].1,
            Self::Statistic(..) => ThresholdUnit::Time,
        }
    }

    /// The name of a number.
    pub fn name(self) -> Option<&'static str> {
        if let Self::Number(place) = self { Some(NUMBERS[place].0) } else { None }
    }

    /// Whether a number can fall while a run lasts.
    pub fn can_fall(self) -> bool {
        self.name().is_some_and(|name| FALLING.contains(&name))
    }

    /// Its value; `None` if the report has none.
    pub fn value(self, report: &Report) -> Option<f64> {
        match self {
            Self::Open => None,
            Self::Number(place) => NUMBERS[place].3(report),
            Self::Statistic(statistic, place) => statistic.of(TIMES[place].1(report)),
        }
    }

    /// The times of a statistic whose folded flows the whole series has, if flows were folded: of
    /// each handshake, but only one round trip of each flow.
    pub fn of_series(self, report: &Report) -> Option<(Statistic, TimeHistogram)> {
        let Self::Statistic(statistic, place) = self else { return None };
        if TIMES[place].0 != CONNECT || report.folded.flows == 0 || report.series.intervals.is_empty() {
            return None;
        }
        let mut times = TimeHistogram::default();
        report.series.intervals.iter().for_each(|interval| times.merge(&interval.connect));
        Some((statistic, times))
    }

    /// Whether folded flows are missing in the value. With `over_time`, the value is that of the
    /// series, which has them.
    pub fn is_partial(self, report: &Report, over_time: bool) -> bool {
        let has_series = !report.series.intervals.is_empty();
        let is_missing = match self {
            Self::Open => true,
            _ if over_time && has_series => false,
            Self::Number(place) => NUMBERS[place].2 == FoldedPart::InSeries && !has_series,
            // DNS times are those of lookups.
            Self::Statistic(_, place) => TIMES[place].0 != "dns",
        };
        is_missing && report.folded.flows > 0
    }
}

impl Statistic {
    /// 100 %.
    pub const MAX: u32 = 100 * Self::PERCENT;

    /// 1 %.
    const PERCENT: u32 = 1_000_000;

    /// The percentile of a number from 0 to 100, rounded to six digits after the point.
    pub fn percentile(percent: f64) -> Option<Self> {
        let percent = (0.0..=100.0).contains(&percent).then_some(percent)?;
        Some(Self::Percentile((percent * f64::from(Self::PERCENT)).round() as u32))
    }

    /// Of values of which only the distribution is known.
    pub fn of_histogram(self, times: &TimeHistogram) -> Option<f64> {
        match self {
            Self::Mean => (!times.is_empty()).then(|| times.sum() as f64 / times.count() as f64),
            Self::Percentile(percent) => times.quantile(percent.into(), Self::MAX.into()).map(|time| time as f64),
        }
    }

    /// The range of the statistic of values of which only the distribution is known: a percentile
    /// of it is at most 1/32 above the value. Sum and largest value are exact.
    pub fn range_of_histogram(self, times: &TimeHistogram) -> Option<(f64, f64)> {
        let most = self.of_histogram(times)?;
        let is_exact = matches!(self, Self::Mean | Self::Percentile(Self::MAX));
        Some((if is_exact { most } else { most * 32.0 / 33.0 }, most))
    }

    fn of(self, mut values: Vec<u64>) -> Option<f64> {
        let last = values.len().checked_sub(1)?;
        Some(match self {
            Self::Mean => values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64,
            Self::Percentile(percent) => {
                let rank = (u128::from(percent) * values.len() as u128).div_ceil(Self::MAX.into()) as usize;
                *values.select_nth_unstable(rank.saturating_sub(1).min(last)).1 as f64
            }
        })
    }
}

/// Failures as the summary counts them: a lookup of several types once, and no local sockets.
fn failures(report: &Report, of_dns: bool) -> f64 {
    let is_wanted = |failure: &&Failure<'_>| matches!(failure.attempt.cause, AttemptCause::Dns(_)) == of_dns;
    // An empty sum of floating-point numbers is -0.
    report.failures().iter().filter(is_wanted).map(|failure| failure.count).sum::<u64>() as f64
}

fn queries(report: &Report) -> f64 {
    let own = report.naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress);
    own.map(|lookup| lookup.queries as f64).sum()
}

fn connections(report: &Report) -> f64 {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint);
    endpoints.filter(|one| one.key.protocol == Protocol::TCP).map(|one| one.connections as f64).sum()
}

fn flows(report: &Report) -> impl Iterator<Item = &Flow> {
    report.flows.iter().map(|known| &known.flow)
}

/// Retransmitted packets, and all TCP packets. The series has those of folded flows too; an
/// imported report has no series.
fn retransmits(report: &Report) -> (f64, f64) {
    let intervals = &report.series.intervals;
    if !intervals.is_empty() {
        let sum = |of: fn(&Interval) -> u64| intervals.iter().map(|one| of(one) as f64).sum();
        return (sum(|one| one.retransmitted), sum(|one| one.tcp_packets));
    }
    let of_tcp = || flows(report).filter_map(|flow| Some((flow, flow.tcp?)));
    let retransmitted = of_tcp().map(|(_, tcp)| tcp.retransmitted_packets);
    let packets = of_tcp().map(|(flow, _)| flow.counters.both().packets as f64);
    (retransmitted.map(|packets| packets.egress as f64 + packets.ingress as f64).sum(), packets.sum())
}

/// Retransmitted packets of all TCP packets.
fn retransmit_ratio(report: &Report) -> Option<f64> {
    let (retransmitted, packets) = retransmits(report);
    (packets > 0.0).then(|| retransmitted / packets)
}

fn lost(report: &Report) -> f64 {
    let reasons = loss_reasons(&report.lost, &report.naming.lost, &report.processes.lost);
    reasons.iter().map(|(_, count)| *count as f64).sum()
}

/// Handshakes of the connections that the target opened.
fn connect_times(report: &Report) -> Vec<u64> {
    let opened = flows(report).filter(|flow| flow.opened_by == Direction::Egress);
    opened.filter_map(|flow| flow.tcp?.handshake_rtt_ns).collect()
}

/// The mean round trip of each connection.
fn round_trips(report: &Report) -> Vec<u64> {
    flows(report).filter_map(|flow| flow.tcp?.round_trips.mean_ns()).collect()
}

/// The mean response time of each lookup.
fn response_times(report: &Report) -> Vec<u64> {
    let own = report.naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress);
    own.filter_map(|lookup| lookup.response_times.mean_ns()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_measured_values_except_for_the_mean() {
        let values: Vec<u64> = (1..=200).rev().collect();
        for (statistic, value) in [
            (Statistic::percentile(0.0), 1.0),
            (Statistic::percentile(50.0), 100.0),
            (Statistic::percentile(99.0), 198.0),
            (Statistic::percentile(99.9), 200.0),
            (Statistic::percentile(100.0), 200.0),
            (Some(Statistic::Mean), 100.5),
        ] {
            assert_eq!(statistic.expect("a percentage").of(values.clone()), Some(value), "{statistic:?}");
        }
        assert_eq!(Statistic::Mean.of(Vec::new()), None);
        assert_eq!((Statistic::percentile(100.5), Statistic::percentile(f64::NAN)), (None, None));
    }

    /// 99.9 / 100 is not exact in binary: its product with 1,000 exceeds 999.
    #[test]
    fn the_rank_of_a_percentile_is_exact() {
        for count in [1_000, 2_000, 5_000, 10_000_u64] {
            let values: Vec<u64> = (1..=count).collect();
            for (percent, per_thousand) in [(99.9, 999), (99.5, 995), (55.0, 550), (14.0, 140), (0.1, 1)] {
                let found = Statistic::percentile(percent).expect("a percentage").of(values.clone());
                assert_eq!(found, Some((count * per_thousand / 1_000) as f64), "p{percent} of {count}");
            }
        }
    }
}
