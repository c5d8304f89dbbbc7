//! The metrics of a run.

use crate::flow::{Direction, PerDirection, Protocol};
use crate::name::Lookup;
use crate::report::Report;

/// What the numbers of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A time.
    Nanoseconds,
    /// A size.
    Bytes,
    /// A number of things.
    Count,
}

impl Unit {
    /// The name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Bytes => "bytes",
            Self::Count => "count",
        }
    }
}

/// One number about a run or an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The key in JSON and CSV.
    pub key: &'static str,
    /// The name for people.
    pub label: &'static str,
    /// What it is a number of.
    pub unit: Unit,
}

/// The keys of the metrics of a run that are decided on their own: few enough for five runs.
const HEADLINE: [&str; 6] =
    ["duration_ns", "cpu_user_ns", "cpu_system_ns", "egress_wire_bytes", "ingress_wire_bytes", "connections"];

impl Metric {
    /// Whether the metric of a run is one of those that state its cost in short.
    pub(super) fn is_headline(&self) -> bool {
        HEADLINE.contains(&self.key)
    }
}

const fn metric(key: &'static str, label: &'static str, unit: Unit) -> Metric {
    Metric { key, label, unit }
}

/// A metric of a run, and how its report gives it; `None` if it does not, or not exactly.
type RunMetric = (Metric, fn(&Report) -> Option<f64>);

/// Every metric of a run, in the order of the outputs.
pub const METRICS: [RunMetric; 27] = [
    (metric("duration_ns", "duration", Unit::Nanoseconds), duration),
    (metric("cpu_user_ns", "user CPU", Unit::Nanoseconds), |report| Some(report.run.usage?.user_ns as f64)),
    (metric("cpu_system_ns", "system CPU", Unit::Nanoseconds), |report| Some(report.run.usage?.system_ns as f64)),
    (metric("memory_peak_bytes", "peak memory", Unit::Bytes), |report| Some(report.run.usage?.memory_peak? as f64)),
    (metric("egress_wire_bytes", "sent", Unit::Bytes), |report| Some(report.totals.egress.wire_bytes as f64)),
    (metric("ingress_wire_bytes", "received", Unit::Bytes), |report| Some(report.totals.ingress.wire_bytes as f64)),
    (metric("egress_payload_bytes", "payload sent", Unit::Bytes), |report| payload(report, |bytes| bytes.egress)),
    (metric("ingress_payload_bytes", "payload received", Unit::Bytes), |report| payload(report, |bytes| bytes.ingress)),
    (metric("egress_overhead_bytes", "overhead sent", Unit::Bytes), |report| overhead(report, Direction::Egress)),
    (metric("ingress_overhead_bytes", "overhead received", Unit::Bytes), |report| overhead(report, Direction::Ingress)),
    (metric("egress_packets", "packets sent", Unit::Count), |report| Some(report.totals.egress.packets as f64)),
    (metric("ingress_packets", "packets received", Unit::Count), |report| Some(report.totals.ingress.packets as f64)),
    (metric("connections", "TCP connections", Unit::Count), connections),
    (metric("failed_attempts", "failed attempts", Unit::Count), failed),
    (metric("retransmitted_packets", "retransmitted packets", Unit::Count), retransmitted_packets),
    (metric("retransmitted_bytes", "retransmitted bytes", Unit::Bytes), retransmitted_bytes),
    (metric("connect_p50_ns", "connect p50", Unit::Nanoseconds), |report| percentile(connect_times(report)?, 50)),
    (metric("connect_p90_ns", "connect p90", Unit::Nanoseconds), |report| percentile(connect_times(report)?, 90)),
    (metric("connect_p99_ns", "connect p99", Unit::Nanoseconds), |report| percentile(connect_times(report)?, 99)),
    (metric("connect_max_ns", "connect max", Unit::Nanoseconds), |report| percentile(connect_times(report)?, 100)),
    (metric("rtt_p50_ns", "RTT p50", Unit::Nanoseconds), |report| percentile(round_trips(report)?, 50)),
    (metric("rtt_p90_ns", "RTT p90", Unit::Nanoseconds), |report| percentile(round_trips(report)?, 90)),
    (metric("rtt_p99_ns", "RTT p99", Unit::Nanoseconds), |report| percentile(round_trips(report)?, 99)),
    (metric("rtt_max_ns", "RTT max", Unit::Nanoseconds), |report| percentile(round_trips(report)?, 100)),
    (metric("dns_queries", "DNS queries", Unit::Count), |report| Some(dns(report, |lookup| lookup.queries))),
    (metric("dns_time_ns", "DNS time", Unit::Nanoseconds), dns_time),
    (metric("dns_max_ns", "DNS max", Unit::Nanoseconds), dns_max),
];

/// The metrics of an endpoint.
pub(super) const ENDPOINT_METRICS: [Metric; 3] = [
    metric("wire_bytes", "bytes", Unit::Bytes),
    metric("connections", "connections", Unit::Count),
    metric("connect_p50_ns", "connect p50", Unit::Nanoseconds),
];

fn duration(report: &Report) -> Option<f64> {
    Some(report.replay.as_ref().map_or(report.run.duration_ns, |replay| replay.duration_ns) as f64)
}

/// TCP connections: those of other protocols are flows.
fn connections(report: &Report) -> Option<f64> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint);
    Some(endpoints.filter(|one| one.key.protocol == Protocol::TCP).map(|one| one.connections as f64).sum())
}

/// Those of the target: an attempt of a remote on a service is no failure of it.
fn failed(report: &Report) -> Option<f64> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint);
    let own = endpoints.filter(|one| one.key.direction == Direction::Egress);
    Some(own.map(|one| one.failed.attempts() as f64).sum())
}

/// The flows of the link; `None` if some were folded into their endpoints, which keep less.
fn flows(report: &Report) -> Option<impl Iterator<Item = &crate::flow::Flow>> {
    (report.folded.flows == 0).then(|| report.flows.iter().map(|known| &known.flow))
}

/// What applications sent and received; `None` if it is not known exactly.
fn payload(report: &Report, of: fn(PerDirection<u64>) -> u64) -> Option<f64> {
    Some(of(report.payload().bytes()?) as f64)
}

/// What the wire carried beyond the payload: headers, acknowledgments, retransmits, and packets of
/// other protocols than TCP and UDP.
fn overhead(report: &Report, direction: Direction) -> Option<f64> {
    let payload = *report.payload().bytes()?.of(direction);
    Some(report.totals.of(direction).wire_bytes as f64 - payload as f64)
}

fn retransmitted_packets(report: &Report) -> Option<f64> {
    let of_flow = |flow: &crate::flow::Flow| Some(both(flow.tcp?.retransmitted_packets));
    Some(flows(report)?.filter_map(of_flow).sum())
}

fn retransmitted_bytes(report: &Report) -> Option<f64> {
    let of_flow = |flow: &crate::flow::Flow| Some(both(flow.tcp?.retransmitted_bytes));
    Some(flows(report)?.filter_map(of_flow).sum())
}

fn both(counts: PerDirection<u64>) -> f64 {
    counts.egress as f64 + counts.ingress as f64
}

/// Handshake times of the connections that the target opened.
fn connect_times(report: &Report) -> Option<Vec<u64>> {
    let opened = flows(report)?.filter(|flow| flow.opened_by == Direction::Egress);
    Some(opened.filter_map(|flow| flow.tcp?.handshake_rtt_ns).collect())
}

/// The mean round-trip time of each connection that has one.
fn round_trips(report: &Report) -> Option<Vec<u64>> {
    Some(flows(report)?.filter_map(|flow| flow.tcp?.round_trips.mean_ns()).collect())
}

/// A percentile by the nearest rank, so that it was measured; `None` without values.
pub(super) fn percentile(mut values: Vec<u64>, percent: usize) -> Option<f64> {
    let rank = (values.len() * percent).div_ceil(100).checked_sub(1)?;
    Some(*values.select_nth_unstable(rank).1 as f64)
}

fn lookups(report: &Report) -> impl Iterator<Item = &Lookup> {
    report.naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress)
}

fn dns(report: &Report, number: fn(&Lookup) -> u64) -> f64 {
    lookups(report).map(|lookup| number(lookup) as f64).sum()
}

/// Without a measurement there is no time, which is not a time of 0.
fn dns_time(report: &Report) -> Option<f64> {
    let count = dns(report, |lookup| lookup.response_times.count);
    (count > 0.0).then(|| dns(report, |lookup| lookup.response_times.sum_ns))
}

fn dns_max(report: &Report) -> Option<f64> {
    let measured = lookups(report).filter(|lookup| lookup.response_times.count > 0);
    measured.map(|lookup| lookup.response_times.max_ns as f64).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Endpoint, EndpointKey, FailedAttempts, Payload, Remote};
    use crate::report::ReportEndpoint;

    #[test]
    fn attempts_of_remotes_are_no_failures_of_the_target() {
        let endpoint = |direction, refused| ReportEndpoint {
            endpoint: Endpoint {
                key: EndpointKey {
                    remote: Remote::Others,
                    protocol: Protocol::TCP,
                    port: 1,
                    direction,
                    fragment: false,
                },
                flows: 1,
                connections: 1,
                counters: PerDirection::default(),
                payload: Payload::default(),
                handshake_rtt_ns: None,
                failed: FailedAttempts { refused, ..FailedAttempts::default() },
            },
            display_name: None,
            application: None,
            names: Vec::new(),
            processes: Vec::new(),
        };
        let endpoints = vec![endpoint(Direction::Egress, 2), endpoint(Direction::Ingress, 5)];
        assert_eq!(failed(&Report { endpoints, ..Report::empty() }), Some(2.0));
    }

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<u64> = (1..=200).rev().collect();
        let found = [50, 90, 99, 100].map(|percent| percentile(values.clone(), percent));
        assert_eq!(found, [Some(100.0), Some(180.0), Some(198.0), Some(200.0)]);
        assert_eq!(percentile(vec![7], 50), Some(7.0));
        assert_eq!(percentile(vec![], 50), None);
    }

    #[test]
    fn keys_are_unique_and_name_their_unit() {
        let mut keys: Vec<&str> = METRICS.iter().map(|(metric, _)| metric.key).collect();
        for (metric, _) in METRICS {
            let has_unit = [("_ns", Unit::Nanoseconds), ("_bytes", Unit::Bytes)].into_iter();
            let unit = has_unit.filter(|(end, _)| metric.key.ends_with(end)).map(|(_, unit)| unit).next();
            assert_eq!(metric.unit, unit.unwrap_or(Unit::Count), "{}", metric.key);
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), METRICS.len());
    }
}
