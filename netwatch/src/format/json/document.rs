//! The document: which keys it has, in their order, and all objects that hold no lists of flows.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::balance::{self, JsonBalance, JsonFolded, JsonLost};
use super::flow::{endpoints, flows};
use super::naming::{self, JsonNaming};
use super::process::{self, JsonAttribution};
use super::series::JsonSeries;
use super::service::services;
use super::{SCHEMA, Streamed, is_zero};
use crate::flow::{Counters, Payload, PayloadGap, PerDirection, Protocol, Remote};
use crate::format::rfc3339;
use crate::process::Attribution;
use crate::report::{self, EndedBy, ExitStatus, HostService, PublishedPort, Report};

/// A report as one JSON object.
pub(super) struct Document<'a> {
    pub report: &'a Report,
    /// With the lists that grow with the traffic.
    pub with_lists: bool,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.run(&mut map)?;
        self.traffic(&mut map)?;
        self.processes(&mut map)?;
        self.rest(&mut map)?;
        map.end()
    }
}

impl Document<'_> {
    fn is_run(&self) -> bool {
        self.report.replay.is_none()
    }

    fn run<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let report = self.report;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry("complete", &report.complete)?;
        match &report.replay {
            Some(replay) => map.serialize_entry("replay", &JsonReplay::from(replay))?,
            None => {
                map.serialize_entry("run", &JsonRun::from(&report.run))?;
                map.serialize_entry("interface", &JsonInterface::from(&report.interface))?;
            }
        }
        map.serialize_entry("dns", &naming::dns(report, self.with_lists))
    }

    fn traffic<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let report = self.report;
        map.serialize_entry("totals", &JsonDirections::<JsonCounters>::from(report.totals))?;
        map.serialize_entry("payload", &JsonPayload::of(report.payload()))?;
        map.serialize_entry("balance", &JsonBalance::from(&report.balance))?;
        map.serialize_entry("lost", &JsonLost::from(report.lost))?;
        if self.with_lists {
            map.serialize_entry("endpoints", &Streamed(|| endpoints(report)))?;
        }
        map.serialize_entry("services", &Streamed(|| services(report)))?;
        if self.with_lists {
            map.serialize_entry("flows", &Streamed(|| flows(report, &report.flows)))?;
        }
        map.serialize_entry("folded", &JsonFolded::from(report.folded))?;
        map.serialize_entry("naming", &JsonNaming::from(&report.naming))
    }

    fn processes<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let report = self.report;
        if self.with_lists {
            map.serialize_entry("attempts", &Streamed(|| process::attempts(report)))?;
        }
        // The packets of a capture may have processes too.
        let has_processes = self.is_run() || report.processes.attribution == Attribution::On;
        if has_processes {
            map.serialize_entry("attribution", &JsonAttribution::from(report))?;
        }
        if has_processes && self.with_lists {
            map.serialize_entry("processes", &Streamed(|| process::processes(report)))?;
        }
        if self.is_run() && self.with_lists {
            map.serialize_entry("local_sockets", &Streamed(|| process::local_sockets(&report.processes)))?;
        }
        Ok(())
    }

    fn rest<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let report = self.report;
        map.serialize_entry("remainders", &Streamed(|| balance::remainders(report)))?;
        if self.is_run() {
            map.serialize_entry("loopback", &JsonLoopback { report, with_flows: self.with_lists })?;
        }
        if self.is_run() && self.with_lists {
            map.serialize_entry("series", &JsonSeries(&report.series))?;
        }
        map.serialize_entry("notes", &report.notes)
    }
}

/// The loopback of the namespace.
struct JsonLoopback<'a> {
    report: &'a Report,
    with_flows: bool,
}

impl Serialize for JsonLoopback<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let loopback = &self.report.loopback;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("totals", &JsonDirections::<JsonCounters>::from(loopback.totals))?;
        if self.with_flows {
            map.serialize_entry("flows", &Streamed(|| flows(self.report, &loopback.flows)))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct JsonRun<'a> {
    id: &'a str,
    command: &'a [String],
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    started: String,
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_signal: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel_release: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    netwatch_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<JsonCpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
}

#[derive(Serialize)]
struct JsonCpu {
    #[serde(skip_serializing_if = "is_zero")]
    user_ns: u64,
    #[serde(skip_serializing_if = "is_zero")]
    system_ns: u64,
}

#[derive(Serialize)]
struct JsonInterface<'a> {
    name: &'a str,
    mtu_bytes: u32,
    local_addresses: &'a [IpAddr],
    gateway_addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    host_loopback: &'a [HostService],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    published: &'a [PublishedPort],
}

#[derive(Serialize)]
struct JsonReplay<'a> {
    file: &'a str,
    format: &'static str,
    link_types: &'a [String],
    engine: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    local_networks: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    duration_ns: u64,
    #[serde(skip_serializing_if = "is_zero")]
    truncated_frames: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missing_packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_early: Option<JsonEndedEarly<'a>>,
}

#[derive(Serialize)]
struct JsonEndedEarly<'a> {
    offset_bytes: u64,
    cause: &'a str,
}

#[derive(Serialize)]
pub(super) struct JsonDirections<T> {
    egress: T,
    ingress: T,
}

#[derive(Default, PartialEq, Serialize)]
pub(super) struct JsonCounters {
    #[serde(skip_serializing_if = "is_zero")]
    skbs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    packets: u64,
    #[serde(skip_serializing_if = "is_zero")]
    bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    wire_bytes: u64,
}

impl JsonCounters {
    pub(super) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes by direction, or why they are not known.
#[derive(Serialize)]
pub(super) struct JsonPayload {
    #[serde(skip_serializing_if = "is_zero")]
    egress_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    ingress_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
}

impl JsonPayload {
    /// `None` for protocols other than TCP and UDP.
    pub fn of(payload: Payload) -> Option<Self> {
        let gap = payload.gap();
        let bytes = payload.bytes().unwrap_or_default();
        let object =
            Self { egress_bytes: bytes.egress, ingress_bytes: bytes.ingress, unknown: gap.map(PayloadGap::name) };
        (gap != Some(PayloadGap::Protocol)).then_some(object)
    }
}

/// The name of a protocol, or its number.
pub(super) fn protocol_name(protocol: Protocol) -> Cow<'static, str> {
    protocol.name().map_or_else(|| protocol.to_string().into(), Cow::Borrowed)
}

/// An address, or `others` for the remotes of a full endpoint table.
pub(super) fn remote_name(remote: &Remote) -> String {
    match remote {
        Remote::Address(address) => address.to_string(),
        Remote::Others => "others".to_owned(),
    }
}

impl<'a> From<&'a report::Run> for JsonRun<'a> {
    fn from(run: &'a report::Run) -> Self {
        let (ended_by, ended_by_signal) = match run.ended_by {
            Some(EndedBy::Command) => (Some("command"), None),
            Some(EndedBy::Duration) => (Some("duration"), None),
            Some(EndedBy::Signal(signal)) => (Some("signal"), Some(signal)),
            None => (None, None),
        };
        let (exit_code, exit_signal) = exit(run.exit);
        Self {
            id: &run.id,
            command: &run.command,
            user: &run.user,
            pid: run.pid,
            started: rfc3339(run.started_ns),
            duration_ns: run.duration_ns,
            exit_code,
            exit_signal,
            ended_by,
            ended_by_signal,
            kernel_release: &run.kernel,
            netwatch_version: &run.netwatch,
            cpu: run.usage.map(|usage| JsonCpu { user_ns: usage.user_ns, system_ns: usage.system_ns }),
            memory_peak_bytes: run.usage.and_then(|usage| usage.memory_peak),
        }
    }
}

/// Exit code and signal, of which at most one is known.
pub(in crate::format) fn exit(status: Option<ExitStatus>) -> (Option<i32>, Option<i32>) {
    match status {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

impl<'a> From<&'a report::Interface> for JsonInterface<'a> {
    fn from(interface: &'a report::Interface) -> Self {
        Self {
            name: &interface.name,
            mtu_bytes: interface.mtu,
            local_addresses: &interface.local,
            gateway_addresses: &interface.gateway,
            host_loopback: &interface.host_loopback,
            published: &interface.published,
        }
    }
}

impl<'a> From<&'a report::Replay> for JsonReplay<'a> {
    fn from(replay: &'a report::Replay) -> Self {
        let ended_early = replay.ended_early.as_ref();
        Self {
            file: &replay.file,
            format: replay.format,
            link_types: &replay.link_types,
            engine: if replay.by_kernel { "kernel" } else { "host" },
            local_networks: &replay.local,
            started: (replay.frames.skbs > 0).then(|| rfc3339(replay.started_ns)),
            duration_ns: replay.duration_ns,
            truncated_frames: replay.cut_frames,
            missing_packets: replay.missing,
            ended_early: ended_early.map(|end| JsonEndedEarly { offset_bytes: end.offset, cause: &end.cause }),
        }
    }
}

impl<T: Into<U>, U> From<PerDirection<T>> for JsonDirections<U> {
    fn from(both: PerDirection<T>) -> Self {
        Self { egress: both.egress.into(), ingress: both.ingress.into() }
    }
}

impl From<Counters> for JsonCounters {
    fn from(Counters { skbs, packets, bytes, wire_bytes }: Counters) -> Self {
        Self { skbs, packets, bytes, wire_bytes }
    }
}
