//! The requests: a log record for each finished connection, and the sums of a run. Names follow the
//! semantic conventions of OpenTelemetry; those without one begin with `netwatch.`. docs/otlp.md
//! lists all of them.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::EndedConnection;
use crate::consumer::finished::FlowProcess;
use crate::flow::{Direction, PerDirection, Protocol, TransportAddress};
use crate::process::program_of_command;
use crate::report::Run;
use crate::session::{FlowRecord, IntervalTotals};

/// What kind of event a log record is.
const EVENT: &str = "netwatch.connection";

/// A request with these log records.
pub(super) fn logs(run: &Run, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() }];
    let resource = Some(resource(run));
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }] }
}

/// A request with the sums of a run so far.
pub(super) fn metrics(totals: &IntervalTotals) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics: sums(totals), ..ScopeMetrics::default() }];
    let resource = Some(resource(&totals.run));
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "netwatch".to_owned(), version, ..InstrumentationScope::default() }
}

/// What was metered: the command of a run.
fn resource(run: &Run) -> Resource {
    let program = program_of_command(&run.command).unwrap_or_default();
    let mut attributes = vec![
        text("service.name", if program.is_empty() { "netwatch" } else { program }),
        text("service.instance.id", &run.id),
    ];
    attributes.extend((!run.user.is_empty()).then(|| text("process.owner", &run.user)));
    attributes.extend(run.pid.map(|pid| number("process.pid", pid.into())));
    Resource { attributes, ..Resource::default() }
}

/// The log record of a connection that has ended.
pub(super) fn connection(ended: &EndedConnection) -> LogRecord {
    let EndedConnection { record, process, observed_ns, .. } = ended;
    let mut attributes = ends(record);
    attributes.extend(counts(ended));
    if let Some(FlowProcess { pid, program }) = process {
        attributes.extend([number("process.pid", (*pid).into()), text("process.executable.name", program)]);
    }
    LogRecord {
        time_unix_nano: record.flow.last_seen_ns,
        observed_time_unix_nano: *observed_ns,
        severity_number: SeverityNumber::Info.into(),
        event_name: EVENT.to_owned(),
        attributes,
        ..LogRecord::default()
    }
}

/// Addresses, ports, names and protocols.
fn ends(record: &FlowRecord) -> Vec<KeyValue> {
    let flow = &record.flow;
    let naming = record.naming.as_deref();
    let name = naming.and_then(|naming| naming.display_name.as_ref()).map(|display| display.name.as_str());
    // The remote has a name, the target has none.
    let address = |end: TransportAddress| match name {
        Some(name) if end == flow.key.remote => name.to_owned(),
        _ => end.addr.to_string(),
    };
    let (client, server) = match flow.opened_by {
        Direction::Egress => (flow.key.local, flow.key.remote),
        Direction::Ingress => (flow.key.remote, flow.key.local),
    };
    let mut attributes = vec![
        text("network.transport", &Protocol(flow.key.protocol).to_string()),
        text("network.type", if server.addr.is_ipv4() { "ipv4" } else { "ipv6" }),
        text("client.address", &address(client)),
        number("client.port", client.port.into()),
        text("server.address", &address(server)),
        number("server.port", server.port.into()),
        text("network.local.address", &flow.key.local.addr.to_string()),
        number("network.local.port", flow.key.local.port.into()),
        text("network.peer.address", &flow.key.remote.addr.to_string()),
        number("network.peer.port", flow.key.remote.port.into()),
    ];
    let application = naming.and_then(|naming| naming.application.as_ref());
    attributes.extend(application.map(|proven| text("network.protocol.name", &proven.name)));
    attributes
}

/// Counters, times, and how the connection ended.
fn counts(ended: &EndedConnection) -> Vec<KeyValue> {
    let EndedConnection { record, counters, retransmitted, failure, reason, .. } = ended;
    let flow = &record.flow;
    let tcp = flow.tcp.unwrap_or_default();
    let mut attributes = vec![
        number("netwatch.flow.id", flow.serial),
        text("netwatch.direction", flow.opened_by.of_flow()),
        text("netwatch.end_reason", reason.name()),
        number("netwatch.duration_ns", flow.last_seen_ns.saturating_sub(flow.first_seen_ns)),
        number("netwatch.egress.packets", counters.egress.packets),
        number("netwatch.egress.wire_bytes", counters.egress.wire_bytes),
        number("netwatch.egress.retransmitted_packets", retransmitted.egress),
        number("netwatch.ingress.packets", counters.ingress.packets),
        number("netwatch.ingress.wire_bytes", counters.ingress.wire_bytes),
        number("netwatch.ingress.retransmitted_packets", retransmitted.ingress),
    ];
    attributes.extend(tcp.handshake_rtt_ns.map(|rtt| number("netwatch.handshake_rtt_ns", rtt)));
    attributes.extend(failure.map(|cause| text("error.type", cause)));
    attributes
}

/// The sums since the start of the run.
fn sums(totals: &IntervalTotals) -> Vec<Metric> {
    let by_direction = |values: PerDirection<u64>| {
        let direction = |direction| vec![text("network.io.direction", direction)];
        vec![(direction("transmit"), values.egress), (direction("receive"), values.ingress)]
    };
    let lost = totals.losses.by_reason().into_iter();
    let lost = lost.map(|(reason, count)| (vec![text("netwatch.reason", reason)], count)).collect();
    let values = [
        ("netwatch.network.io", "By", by_direction(totals.totals.map(|counters| counters.wire_bytes))),
        ("netwatch.network.packets", "{packet}", by_direction(totals.totals.map(|counters| counters.packets))),
        ("netwatch.lost_observations", "{observation}", lost),
    ];
    values.map(|(name, unit, points)| sum(name, unit, points, (totals.run.started_ns, totals.end_ns))).into()
}

fn sum(name: &str, unit: &str, points: Vec<(Vec<KeyValue>, u64)>, (start, end): (u64, u64)) -> Metric {
    let point = |(attributes, value): (Vec<KeyValue>, u64)| NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: end,
        value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    };
    let data = metric::Data::Sum(Sum {
        data_points: points.into_iter().map(point).collect(),
        aggregation_temporality: AggregationTemporality::Cumulative.into(),
        is_monotonic: true,
    });
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_what_a_wrapper_runs() {
        let service = |command: &[&str]| {
            let run = Run { command: command.iter().map(|&word| word.to_owned()).collect(), ..Run::default() };
            resource(&run).attributes.into_iter().find(|attribute| attribute.key == "service.name")
        };
        assert_eq!(
            service(&["/usr/bin/env", "A=1", "timeout", "5", "/opt/shop", "-v"]),
            Some(text("service.name", "shop"))
        );
        assert_eq!(service(&["/bin/sh", "-c", "python3 shop.py"]), Some(text("service.name", "shop.py")));
        assert_eq!(service(&[]), Some(text("service.name", "netwatch")));
    }
}
