//! Which metrics there are, and how they follow from the model. docs/metrics.md documents each.

use super::label::OTHER;
use super::model::MetricsModel;
use super::series::LabelValues;
use super::sums::{SECOND_NS, SeriesSums};
use crate::flow::{Counters, PerDirection, RemainderKind};
use crate::format::exposition::{Exposition, ExpositionFormat, MetricFamily, MetricKind, number};
use crate::process::program_of_command;
use crate::report::Run;
use crate::session::IntervalTotals;

/// The name of the label of the direction.
const DIRECTION: &str = "direction";

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind: MetricKind::Counter, unit, help }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind: MetricKind::Gauge, unit, help }
}

const fn seconds(name: &'static str, kind: MetricKind, help: &'static str) -> MetricFamily {
    MetricFamily { name, kind, unit: "seconds", help }
}

/// Numbers of netwatch itself, beside those of the model.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OwnNumbers {
    /// Answered requests for metrics, this one included.
    pub scrapes: u64,
    /// Connections that were closed because there were too many.
    pub refused: u64,
    /// CPU time of netwatch, seconds; `None` if it cannot be read.
    pub cpu_seconds: Option<f64>,
    /// Memory of netwatch, bytes.
    pub memory_bytes: Option<u64>,
}

/// Writes every metric.
pub(super) fn write(model: &MetricsModel, own: &OwnNumbers, format: ExpositionFormat) -> String {
    let mut out = Exposition::new(format);
    identity(model.run.as_ref(), &mut out);
    if let Some(totals) = &model.totals {
        totals_of(totals, &mut out);
    }
    flows(model, &mut out);
    series(model, &mut out);
    if let Some(totals) = &model.totals {
        services(totals, &mut out);
        losses(totals, model.missed, &mut out);
    }
    own_numbers(own, &mut out);
    out.finish()
}

fn identity(run: Option<&Run>, out: &mut Exposition) {
    let build = MetricFamily { name: "netwatch_build", kind: MetricKind::Info, unit: "", help: "Version of netwatch." };
    out.metric(build);
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let Some(run) = run else { return };
    let program = program_of_command(&run.command).unwrap_or_default();
    out.metric(MetricFamily {
        name: "netwatch_run",
        kind: MetricKind::Info,
        unit: "",
        help: "The run and its command.",
    });
    out.sample(&[("run", &run.id), ("program", program), ("user", &run.user)], 1);
    out.single(
        gauge("netwatch_run_start_time_seconds", "seconds", "Start of the command, since the Unix epoch."),
        number(run.started_ns as f64 / SECOND_NS),
    );
}

fn by_direction<T: std::fmt::Display + Copy>(values: PerDirection<T>, out: &mut Exposition) {
    out.sample(&[(DIRECTION, "egress")], values.egress);
    out.sample(&[(DIRECTION, "ingress")], values.ingress);
}

/// Writes packets and bytes by direction.
fn counters([packets, bytes]: [MetricFamily; 2], values: PerDirection<Counters>, out: &mut Exposition) {
    out.metric(packets);
    by_direction(values.map(|counters| counters.packets), out);
    out.metric(bytes);
    by_direction(values.map(|counters| counters.wire_bytes), out);
}

fn totals_of(totals: &IntervalTotals, out: &mut Exposition) {
    let link = [
        counter("netwatch_packets", "", "Packets that the command sent and received on the link."),
        counter("netwatch_wire_bytes", "bytes", "Their bytes, as a wire would carry them."),
    ];
    counters(link, totals.totals, out);
    let loopback = [
        counter("netwatch_loopback_packets", "", "Packets on the loopback of the command."),
        counter("netwatch_loopback_wire_bytes", "bytes", "Their bytes, as a wire would carry them."),
    ];
    counters(loopback, totals.loopback, out);
    let untracked = [
        counter("netwatch_untracked_packets", "", "Packets of flows that are not tracked individually."),
        counter("netwatch_untracked_wire_bytes", "bytes", "Their bytes, as a wire would carry them."),
    ];
    counters(untracked, totals.untracked.counters, out);
    remainders(totals, out);
}

fn remainders(totals: &IntervalTotals, out: &mut Exposition) {
    let kinds = || RemainderKind::ALL.map(|kind| (kind.name(), totals.remainders.of(kind)));
    let mut write = |metric: MetricFamily, value: fn(Counters) -> u64| {
        out.metric(metric);
        for (kind, counters) in kinds() {
            let PerDirection { egress, ingress } = counters.map(value);
            out.sample(&[("kind", kind), (DIRECTION, "egress")], egress);
            out.sample(&[("kind", kind), (DIRECTION, "ingress")], ingress);
        }
    };
    write(counter("netwatch_remainder_packets", "", "Packets in no flow."), |counters| counters.packets);
    let bytes = counter("netwatch_remainder_wire_bytes", "bytes", "Their bytes, as a wire would carry them.");
    write(bytes, |counters| counters.wire_bytes);
}

fn flows(model: &MetricsModel, out: &mut Exposition) {
    out.single(counter("netwatch_flows", "", "Flows on the link so far."), model.activity.opened);
    let open = gauge("netwatch_open_connections", "", "TCP connections on the link that have not ended.");
    out.single(open, model.activity.open);
    let failed = counter("netwatch_failed_attempts", "", "Failed attempts of the command, of flows that have ended.");
    out.metric(failed);
    model.failed().for_each(|(cause, attempts)| out.sample(&[("cause", cause)], attempts));
    out.metric(counter("netwatch_retransmitted_packets", "", "TCP packets that repeat data, or came out of order."));
    by_direction(model.retransmitted, out);
    out.metric(seconds("netwatch_connect_seconds", MetricKind::Histogram, "Round trips of TCP handshakes."));
    out.histogram(model.connect.buckets(), model.connect.count(), model.connect.sum_seconds());
    let help = "Round trips of data on TCP connections.";
    out.metric(seconds("netwatch_round_trip_seconds", MetricKind::Histogram, help));
    out.histogram(model.round_trip.buckets(), model.round_trip.count(), model.round_trip.sum_seconds());
}

/// Writes the series of traffic.
fn series(model: &MetricsModel, out: &mut Exposition) {
    let names: Vec<&str> = model.labels.iter().map(|label| label.text()).collect();
    let other: LabelValues = names.iter().map(|_| OTHER.into()).collect();
    let mut all = model.series.sorted();
    if model.series.has_other() {
        all.push((&other, model.series.other()));
    }
    let directed = [
        (counter("netwatch_traffic_packets", "", "Packets of flows, by label."), packets as Value),
        (
            counter("netwatch_traffic_wire_bytes", "bytes", "Their bytes, as a wire would carry them."),
            wire_bytes as Value,
        ),
    ];
    for (metric, value) in directed {
        out.metric(metric);
        for (values, sums) in &all {
            let mut labels: Vec<(&str, &str)> = names.iter().copied().zip(values.iter().map(AsRef::as_ref)).collect();
            let PerDirection { egress, ingress } = value(sums);
            labels.push((DIRECTION, "egress"));
            out.sample(&labels, egress);
            labels.pop();
            labels.push((DIRECTION, "ingress"));
            out.sample(&labels, ingress);
        }
    }
    out.metric(counter("netwatch_traffic_flows", "", "Flows that are tracked individually, by label."));
    for (values, sums) in &all {
        let labels: Vec<(&str, &str)> = names.iter().copied().zip(values.iter().map(AsRef::as_ref)).collect();
        out.sample(&labels, sums.flows);
    }
}

/// Writes the exchanges of the services of the command.
fn services(totals: &IntervalTotals, out: &mut Exposition) {
    let services: Vec<_> = totals
        .activity
        .iter()
        .filter(|(_, activity)| !activity.exchanges.is_empty())
        .map(|((_, port), activity)| (port.to_string(), &activity.exchanges))
        .collect();
    if services.is_empty() {
        return;
    }
    let help = "Response times of services of the command, of sampled exchanges.";
    out.metric(seconds("netwatch_service_response_seconds", MetricKind::Summary, help));
    for (port, exchanges) in &services {
        let times = &exchanges.times;
        out.summary(&[("port", port)], times.count(), times.sum() as f64 / SECOND_NS);
    }
    out.metric(counter("netwatch_service_unmeasured_requests", "", "Sampled requests without a response time."));
    services.iter().for_each(|(port, exchanges)| out.sample(&[("port", port)], exchanges.unmeasured));
    out.metric(counter("netwatch_service_responses", "", "Sampled responses of HTTP/1 by the class of their status."));
    for (port, exchanges) in &services {
        for (class, responses) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(exchanges.statuses) {
            out.sample(&[("port", port), ("status", class)], responses);
        }
    }
}

type Value = fn(&SeriesSums) -> PerDirection<u64>;

fn packets(sums: &SeriesSums) -> PerDirection<u64> {
    sums.packets
}

fn wire_bytes(sums: &SeriesSums) -> PerDirection<u64> {
    sums.wire_bytes
}

/// Writes what was not observed, and how far the metrics are behind.
fn losses(totals: &IntervalTotals, missed_records: u64, out: &mut Exposition) {
    let help = "Observations that were lost. Packets are counted, unless their socket is unselected.";
    out.metric(counter("netwatch_lost_observations", "", help));
    for (reason, count) in totals.losses.by_reason() {
        out.sample(&[("reason", reason)], count);
    }
    let flows = counter("netwatch_untracked_flows", "", "Flows that are not tracked individually.");
    out.single(flows, totals.untracked.flows);
    out.single(gauge("netwatch_waiting_flows", "", "Flows with changes that these metrics lack."), totals.waiting);
    let missed =
        counter("netwatch_missed_events", "", "Events that these metrics missed: too slow, or too many flows.");
    out.single(missed, totals.missed + missed_records);
    out.metric(seconds("netwatch_drain_seconds", MetricKind::Summary, "Time to read the counters of the kernel."));
    out.summary(&[], totals.drains.count, totals.drains.sum_ns as f64 / SECOND_NS);
}

fn own_numbers(own: &OwnNumbers, out: &mut Exposition) {
    out.single(counter("netwatch_scrapes", "", "Requests for these metrics, this one included."), own.scrapes);
    let refused = counter("netwatch_refused_connections", "", "Connections to the metrics beyond the limit.");
    out.single(refused, own.refused);
    if let Some(cpu) = own.cpu_seconds {
        let metric = seconds("process_cpu_seconds", MetricKind::Counter, "CPU time of netwatch.");
        out.single(metric, number(cpu));
    }
    if let Some(memory) = own.memory_bytes {
        out.single(gauge("process_resident_memory_bytes", "bytes", "Memory of netwatch."), memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_what_a_wrapper_runs() {
        let command = ["timeout", "5", "/opt/shop"].map(str::to_owned).to_vec();
        let mut out = Exposition::new(ExpositionFormat::OpenMetrics);
        identity(Some(&Run { command, ..Run::default() }), &mut out);
        let text = out.finish();
        assert!(text.contains("program=\"shop\""), "{text}");
    }
}
