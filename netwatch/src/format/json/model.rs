//! The document's shape: serde structs in the order in which keys are written, each made from its pure counterpart.

use std::net::IpAddr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::SCHEMA;
use super::flow::{Endpoints, Flows};
use super::naming::{Dns, JsonNaming};
use super::process::{self, JsonAttempt, JsonAttribution, JsonProcess, UnixSocket};
use crate::flow::{self, PerDirection, RemainderKind, State, Traffic};
use crate::format::rfc3339;
use crate::report::{self, EndedBy, Report};

#[derive(Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<Replay<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Run<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Interface<'a>>,
    dns: Dns<'a>,
    totals: Directions<Counters>,
    balance: Balance<'a>,
    lost: Lost,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Endpoints<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Flows<'a>>,
    folded: Folded,
    naming: JsonNaming,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<JsonAttempt<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribution: Option<JsonAttribution<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<JsonProcess<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix_sockets: Option<Vec<UnixSocket<'a>>>,
    other: Vec<Other>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loopback: Option<Loopback<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Replay<'a> {
    file: &'a str,
    format: &'static str,
    link_types: &'a [String],
    engine: &'static str,
    local: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    duration_ns: u64,
    cut_frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_early: Option<EndedEarly<'a>>,
}

#[derive(Serialize)]
struct EndedEarly<'a> {
    offset: u64,
    cause: &'a str,
}

#[derive(Serialize)]
struct Run<'a> {
    id: &'a str,
    command: &'a [String],
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    started: String,
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<JsonExit>,
    ended_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_signal: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    netwatch: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum JsonExit {
    Code(i32),
    Signal(i32),
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    mtu: u32,
    local: &'a [IpAddr],
    gateway: &'a [IpAddr],
    host_loopback: bool,
}

#[derive(Serialize)]
struct Directions<T> {
    egress: T,
    ingress: T,
}

#[derive(Serialize)]
pub(super) struct Counters {
    skbs: u64,
    packets: u64,
    bytes: u64,
    wire_bytes: u64,
}

#[derive(Serialize)]
struct Amount {
    skbs: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Difference {
    skbs: i64,
    bytes: i64,
}

#[derive(Serialize)]
struct Balance<'a> {
    state: &'static str,
    counted: Directions<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Directions<Amount>>,
    dropped_skbs: u64,
    flows: Directions<Amount>,
    remainders: RemainderAmounts<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Directions<Difference>>,
    unassigned: Directions<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File>,
}

#[derive(Serialize)]
struct File {
    frames: Amount,
    left_out: Amount,
    difference: Difference,
}

struct RemainderAmounts<'a>(&'a [(RemainderKind, PerDirection<flow::Amount>)]);

#[derive(Serialize)]
struct Lost {
    samples: u64,
    unreadable: u64,
    table_full: u64,
    insert_failed: u64,
    new_flows: u64,
}

#[derive(Serialize)]
struct Folded {
    flows: u64,
    at_least: bool,
    icmp_errors: u64,
    egress: Counters,
    ingress: Counters,
}

#[derive(Serialize)]
struct Other {
    kind: &'static str,
    what: String,
    egress: Counters,
    ingress: Counters,
}

#[derive(Serialize)]
struct Loopback<'a> {
    totals: Directions<Counters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Flows<'a>>,
}

impl<'a> Document<'a> {
    /// All but the lists that can be long.
    pub(super) fn without_lists(report: &'a Report) -> Self {
        let document = Self::from(report);
        Self {
            endpoints: None,
            flows: None,
            dns: document.dns.without_lookups(),
            attempts: None,
            processes: None,
            unix_sockets: None,
            loopback: document.loopback.map(|loopback| Loopback { flows: None, ..loopback }),
            ..document
        }
    }
}

impl<'a> From<&'a Report> for Document<'a> {
    fn from(report: &'a Report) -> Self {
        let is_run = report.replay.is_none();
        Self {
            schema: SCHEMA,
            complete: report.complete,
            replay: report.replay.as_ref().map(Into::into),
            run: is_run.then(|| (&report.run).into()),
            interface: is_run.then(|| (&report.interface).into()),
            dns: report.into(),
            totals: report.totals.into(),
            balance: (&report.balance).into(),
            lost: report.lost.into(),
            endpoints: Some(Endpoints(report)),
            flows: Some(Flows(&report.flows, &report.processes)),
            folded: report.folded.into(),
            naming: (&report.naming).into(),
            attempts: Some(process::attempts(report)),
            attribution: is_run.then(|| report.into()),
            processes: is_run.then(|| process::processes(report)),
            unix_sockets: is_run.then(|| process::unix_sockets(&report.processes)),
            other: others(report),
            loopback: is_run.then(|| loopback(report)),
            notes: &report.notes,
        }
    }
}

impl<'a> From<&'a report::Replay> for Replay<'a> {
    fn from(replay: &'a report::Replay) -> Self {
        Self {
            file: &replay.file,
            format: replay.format,
            link_types: &replay.link_types,
            engine: if replay.by_kernel { "kernel" } else { "host" },
            local: &replay.local,
            started: (replay.frames.skbs > 0).then(|| rfc3339(replay.started_ns)),
            duration_ns: replay.duration_ns,
            cut_frames: replay.cut_frames,
            ended_early: replay.ended_early.as_ref().map(|end| EndedEarly { offset: end.offset, cause: &end.cause }),
        }
    }
}

impl From<flow::FileBalance> for File {
    fn from(flow::FileBalance { frames, left_out, difference }: flow::FileBalance) -> Self {
        Self { frames: frames.into(), left_out: left_out.into(), difference: difference.into() }
    }
}

fn loopback(report: &Report) -> Loopback<'_> {
    let report::Loopback { totals, flows } = &report.loopback;
    Loopback { totals: (*totals).into(), flows: Some(Flows(flows, &report.processes)) }
}

impl<'a> From<&'a report::Run> for Run<'a> {
    fn from(run: &'a report::Run) -> Self {
        let (ended_by, ended_by_signal) = match run.ended_by {
            EndedBy::Command => ("command", None),
            EndedBy::Duration => ("duration", None),
            EndedBy::Signal(signal) => ("signal", Some(signal)),
        };
        Self {
            id: &run.id,
            command: &run.command,
            user: &run.user,
            pid: run.pid,
            started: rfc3339(run.started_ns),
            duration_ns: run.duration_ns,
            exit: run.exit.map(|exit| match exit {
                report::ExitStatus::Code(code) => JsonExit::Code(code),
                report::ExitStatus::Signal(signal) => JsonExit::Signal(signal),
            }),
            ended_by,
            ended_by_signal,
            kernel: &run.kernel,
            netwatch: &run.netwatch,
        }
    }
}

impl<'a> From<&'a report::Interface> for Interface<'a> {
    fn from(interface: &'a report::Interface) -> Self {
        Self {
            name: &interface.name,
            mtu: interface.mtu,
            local: &interface.local,
            gateway: &interface.gateway,
            host_loopback: interface.host_loopback,
        }
    }
}

impl<'a> From<&'a flow::Balance> for Balance<'a> {
    fn from(balance: &'a flow::Balance) -> Self {
        Self {
            state: match balance.state {
                State::Closed => "closed",
                State::Open => "open",
                State::Live => "live",
                State::Unknown => "unknown",
            },
            counted: balance.counted.into(),
            interface: balance.interface.map(Into::into),
            dropped_skbs: balance.dropped,
            flows: balance.flows.into(),
            remainders: RemainderAmounts(&balance.remainders),
            difference: balance.difference.map(Into::into),
            unassigned: balance.unassigned.into(),
            file: balance.file.map(Into::into),
        }
    }
}

impl Serialize for RemainderAmounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (kind, amounts) in self.0 {
            map.serialize_entry(kind.name(), &Directions::<Amount>::from(*amounts))?;
        }
        map.end()
    }
}

/// Remainders one by one; link housekeeping has no finer parts than `balance.remainders`.
fn others(report: &Report) -> Vec<Other> {
    let other = |(traffic, counters): (&Traffic, &PerDirection<flow::Counters>)| {
        let (kind, what) = (RemainderKind::of(traffic)?.name(), describe(traffic)?);
        Some(Other { kind, what, egress: counters.egress.into(), ingress: counters.ingress.into() })
    };
    report.remainders.details().filter_map(other).collect()
}

fn describe(traffic: &Traffic) -> Option<String> {
    match traffic {
        Traffic::NonIp(0) => Some("802.3".to_owned()),
        Traffic::NonIp(ethertype) => Some(format!("{ethertype:#06x}")),
        Traffic::Malformed(reason) => Some(reason.name().to_owned()),
        Traffic::Overflow(protocol) => Some(flow::Protocol(*protocol).to_string()),
        Traffic::Flow(_) | Traffic::Housekeeping(_) => None,
    }
}

impl<T: Into<U>, U> From<PerDirection<T>> for Directions<U> {
    fn from(both: PerDirection<T>) -> Self {
        Self { egress: both.egress.into(), ingress: both.ingress.into() }
    }
}

impl From<flow::Counters> for Counters {
    fn from(counters: flow::Counters) -> Self {
        let flow::Counters { skbs, packets, bytes, wire_bytes } = counters;
        Self { skbs, packets, bytes, wire_bytes }
    }
}

impl From<flow::Amount> for Amount {
    fn from(flow::Amount { skbs, bytes }: flow::Amount) -> Self {
        Self { skbs, bytes }
    }
}

impl From<flow::Difference> for Difference {
    fn from(flow::Difference { skbs, bytes }: flow::Difference) -> Self {
        Self { skbs, bytes }
    }
}

impl From<flow::Lost> for Lost {
    fn from(lost: flow::Lost) -> Self {
        let flow::Lost { samples, unreadable, table_full, insert_failed, new_flows } = lost;
        Self { samples, unreadable, table_full, insert_failed, new_flows }
    }
}

impl From<flow::Folded> for Folded {
    fn from(folded: flow::Folded) -> Self {
        Self {
            flows: folded.flows,
            at_least: folded.at_least,
            icmp_errors: folded.icmp_errors,
            egress: folded.counters.egress.into(),
            ingress: folded.counters.ingress.into(),
        }
    }
}
