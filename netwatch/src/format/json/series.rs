//! The run over time: one object per interval.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::document::{JsonCounters, JsonDirections, protocol_name, remote_name};
use super::{Streamed, is_zero};
use crate::flow::PerDirection;
use crate::format::rfc3339;
use crate::report::{EndpointSeries, Interval, Series, TimeHistogram};

/// The series as an object of the document.
pub(super) struct JsonSeries<'a>(pub &'a Series);

impl Serialize for JsonSeries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("intervals", &Streamed(|| intervals(self.0)))?;
        map.serialize_entry("endpoints", &Streamed(|| endpoints(self.0)))?;
        map.end()
    }
}

/// The intervals of an endpoint.
pub(super) struct JsonEndpointSeries<'a>(&'a EndpointSeries);

impl Serialize for JsonEndpointSeries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let EndpointSeries { key, before, intervals } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("direction", key.direction.of_flow())?;
        map.serialize_entry("protocol", &protocol_name(key.protocol))?;
        map.serialize_entry("remote", &remote_name(&key.remote))?;
        if key.protocol.has_ports() {
            map.serialize_entry("port", &key.port)?;
        }
        if *before != PerDirection::default() {
            map.serialize_entry("before", &JsonDirections::<JsonCounters>::from(*before))?;
        }
        map.serialize_entry("intervals", &Streamed(|| intervals.iter().map(JsonInterval::from)))?;
        map.end()
    }
}

/// The intervals, by their start.
pub(super) fn intervals(series: &Series) -> impl Iterator<Item = JsonInterval> + '_ {
    series.intervals.iter().map(JsonInterval::from)
}

/// The endpoints with most traffic, largest first.
pub(super) fn endpoints(series: &Series) -> impl Iterator<Item = JsonEndpointSeries<'_>> {
    series.endpoints.iter().map(JsonEndpointSeries)
}

#[derive(Serialize)]
pub(super) struct JsonInterval {
    started: String,
    duration_ns: u64,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    ingress: JsonCounters,
    #[serde(skip_serializing_if = "is_zero")]
    opened_flows: u64,
    #[serde(skip_serializing_if = "is_zero")]
    active_flows: u64,
    #[serde(skip_serializing_if = "is_zero")]
    opened_connections: u64,
    #[serde(skip_serializing_if = "is_zero")]
    closed_connections: u64,
    #[serde(skip_serializing_if = "is_zero")]
    open_connections: u64,
    #[serde(skip_serializing_if = "is_zero")]
    failed_attempts: u64,
    #[serde(skip_serializing_if = "is_zero")]
    tcp_packets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    retransmitted_packets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dns_failed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cpu_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<JsonTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip: Option<JsonTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<JsonTimes>,
}

/// Percentiles of times.
#[derive(Serialize)]
pub(super) struct JsonTimes {
    count: u64,
    sum_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

impl JsonTimes {
    pub fn of(times: &TimeHistogram) -> Option<Self> {
        let percentile = |percent| times.quantile(percent, 100);
        Some(Self {
            count: times.count(),
            sum_ns: times.sum(),
            p50_ns: percentile(50)?,
            p90_ns: percentile(90)?,
            p99_ns: percentile(99)?,
            max_ns: times.max(),
        })
    }
}

impl From<&Interval> for JsonInterval {
    fn from(interval: &Interval) -> Self {
        Self {
            started: rfc3339(interval.start_ns),
            duration_ns: interval.length_ns,
            egress: interval.totals.egress.into(),
            ingress: interval.totals.ingress.into(),
            opened_flows: interval.opened,
            active_flows: interval.active,
            opened_connections: interval.connections,
            closed_connections: interval.closed,
            open_connections: interval.open,
            failed_attempts: interval.failed,
            tcp_packets: interval.tcp_packets,
            retransmitted_packets: interval.retransmitted,
            dns_failed: interval.dns_failed,
            lost: interval.lost,
            cpu_ns: interval.cpu_ns,
            memory_bytes: interval.memory,
            connect: JsonTimes::of(&interval.connect),
            round_trip: JsonTimes::of(&interval.round_trip),
            dns: JsonTimes::of(&interval.dns),
        }
    }
}
