//! The keys of a JSON report that are read back. docs/json.md describes them; a missing counter is
//! 0, and unknown keys are ignored.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::report::{HostService, PublishedPort};

#[derive(Deserialize)]
pub(super) struct ReportDocument {
    pub complete: bool,
    pub run: Option<RunObject>,
    pub replay: Option<ReplayObject>,
    #[serde(default)]
    pub balance: BalanceObject,
    #[serde(default)]
    pub interface: InterfaceObject,
    pub dns: DnsObject,
    #[serde(default)]
    pub totals: Directions,
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    pub endpoints: Vec<EndpointObject>,
    pub flows: Vec<FlowObject>,
    #[serde(default)]
    pub loopback: LoopbackObject,
    #[serde(default)]
    pub folded: FoldedObject,
    #[serde(default)]
    pub naming: NamingObject,
    #[serde(default)]
    pub attempts: Vec<AttemptObject>,
    #[serde(default)]
    pub attribution: Option<AttributionObject>,
    #[serde(default)]
    pub processes: Vec<ProcessObject>,
    #[serde(default)]
    pub local_sockets: Vec<LocalSocketObject>,
    #[serde(default)]
    pub remainders: Vec<RemainderObject>,
    #[serde(default)]
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct RunObject {
    pub id: String,
    pub command: Vec<String>,
    #[serde(default)]
    pub user: String,
    pub pid: Option<u32>,
    pub started: String,
    #[serde(default)]
    pub duration_ns: u64,
    pub exit_code: Option<i32>,
    pub exit_signal: Option<i32>,
    #[serde(default)]
    pub kernel_release: String,
    #[serde(default)]
    pub netwatch_version: String,
    pub cpu: Option<CpuObject>,
    pub memory_peak_bytes: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct CpuObject {
    #[serde(default)]
    pub user_ns: u64,
    #[serde(default)]
    pub system_ns: u64,
}

#[derive(Deserialize)]
pub(super) struct ReplayObject {
    pub file: String,
    pub started: Option<String>,
    #[serde(default)]
    pub duration_ns: u64,
    #[serde(default)]
    pub missing_packets: u64,
    pub ended_early: Option<EndedEarlyObject>,
}

#[derive(Deserialize)]
pub(super) struct EndedEarlyObject {
    pub offset_bytes: u64,
    pub cause: String,
}

#[derive(Deserialize, Default)]
pub(super) struct BalanceObject {
    pub state: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct InterfaceObject {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub mtu_bytes: u32,
    #[serde(default)]
    pub local_addresses: Vec<IpAddr>,
    #[serde(default)]
    pub gateway_addresses: Vec<IpAddr>,
    #[serde(default)]
    pub host_loopback: Vec<HostService>,
    #[serde(default)]
    pub published: Vec<PublishedPort>,
}

#[derive(Deserialize, Default)]
pub(super) struct DnsObject {
    #[serde(default)]
    pub resolvers: Vec<SocketAddr>,
    #[serde(default)]
    pub lookups: Vec<LookupObject>,
    #[serde(default)]
    pub unused_names: Vec<String>,
    #[serde(default)]
    pub contacted_without_lookup: Vec<IpAddr>,
}

#[derive(Deserialize)]
pub(super) struct LookupObject {
    pub name: String,
    pub r#type: String,
    pub protocol: String,
    pub direction: String,
    #[serde(default)]
    pub queries: u64,
    #[serde(default)]
    pub responses: u64,
    #[serde(default)]
    pub response_codes: BTreeMap<String, u64>,
    #[serde(default)]
    pub first_seen: String,
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub aliases: Vec<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
pub(super) struct Directions {
    pub egress: CountersObject,
    pub ingress: CountersObject,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
pub(super) struct CountersObject {
    pub skbs: u64,
    pub packets: u64,
    pub bytes: u64,
    pub wire_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NamesObject {
    pub name: Option<String>,
    pub name_source: Option<String>,
    pub names: Vec<NameObject>,
    pub hidden: Vec<String>,
    pub application: Option<String>,
    pub application_evidence: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NameObject {
    pub name: String,
    pub source: String,
    pub queried_name: Option<String>,
    #[serde(default)]
    pub first_seen: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FailedObject {
    pub refused: u64,
    #[serde(alias = "unanswered")]
    pub timeout: u64,
    #[serde(alias = "unanswered_syns")]
    pub timeout_syns: u64,
    pub handshake_resets: u64,
    pub unreachable: u64,
}

#[derive(Deserialize)]
pub(super) struct EndpointObject {
    pub remote: String,
    pub port: u16,
    pub protocol: String,
    pub direction: String,
    #[serde(default)]
    pub fragment: bool,
    #[serde(default)]
    pub flows: u64,
    #[serde(default)]
    pub connections: u64,
    #[serde(flatten)]
    pub counters: Directions,
    pub payload: Option<PayloadObject>,
    pub handshake_rtt_ns: Option<u64>,
    #[serde(flatten)]
    pub failed: FailedObject,
    #[serde(flatten)]
    pub names: NamesObject,
    #[serde(default)]
    pub processes: Vec<u32>,
}

#[derive(Deserialize)]
pub(super) struct FlowObject {
    pub protocol: String,
    pub local: IpAddr,
    #[serde(default)]
    pub local_port: u16,
    pub remote: IpAddr,
    #[serde(default)]
    pub remote_port: u16,
    /// `out` if it is left out.
    pub direction: Option<String>,
    #[serde(default)]
    pub epoch: u32,
    #[serde(default)]
    pub fragment: bool,
    pub first_seen: String,
    #[serde(default)]
    pub duration_ns: u64,
    #[serde(default)]
    pub egress: BriefCounters,
    #[serde(default)]
    pub ingress: BriefCounters,
    pub payload: Option<PayloadObject>,
    /// Of TCP, 1 if it is left out.
    pub connections: Option<u64>,
    #[serde(flatten)]
    pub names: NamesObject,
    #[serde(default)]
    pub processes: UsersObject,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct LoopbackObject {
    pub totals: Directions,
    pub flows: Vec<FlowObject>,
}

/// Counters of a flow: those that repeat another are left out.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct BriefCounters {
    pub skbs: Option<u64>,
    pub packets: u64,
    pub bytes: Option<u64>,
    pub wire_bytes: u64,
}

/// Absent for protocols without payload.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PayloadObject {
    pub egress_bytes: u64,
    pub ingress_bytes: u64,
    pub unknown: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct UsersObject {
    pub socket: Vec<u32>,
    pub tuple: Vec<u32>,
    pub netns: Vec<u32>,
    pub inherited: Vec<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct FoldedObject {
    pub flows: u64,
    pub at_least: bool,
    pub icmp_errors: u64,
    #[serde(flatten)]
    pub counters: Directions,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NamingObject {
    pub lost: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(super) struct AttemptObject {
    pub remote: Option<IpAddr>,
    #[serde(default)]
    pub port: u16,
    pub name: Option<String>,
    pub r#type: Option<String>,
    pub path: Option<String>,
    pub protocol: Option<String>,
    pub cause: String,
    pub errno: Option<i32>,
    pub icmp_error: Option<IcmpObject>,
    pub response_code: Option<String>,
    #[serde(default)]
    pub count: u64,
    #[serde(default)]
    pub packets: u64,
    #[serde(default)]
    pub first_seen: String,
    #[serde(default)]
    pub duration_ns: u64,
    pub process: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct IcmpObject {
    pub r#type: u8,
    pub code: u8,
}

#[derive(Deserialize)]
pub(super) struct AttributionObject {
    pub state: String,
    pub reason: Option<String>,
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(super) struct ProcessObject {
    pub number: u32,
    pub pid: u32,
    #[serde(default)]
    pub started: String,
    #[serde(default)]
    pub ppid: u32,
    pub parent: Option<u32>,
    pub comm: String,
    pub exe: Option<String>,
    pub cmdline: Option<Vec<String>>,
    #[serde(default)]
    pub cmdline_truncated: bool,
    pub uid: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct LocalSocketObject {
    pub path: String,
    #[serde(default)]
    pub connections: u64,
    #[serde(default)]
    pub failed_connections: u64,
    #[serde(default)]
    pub missing_connections: u64,
    #[serde(default)]
    pub processes: Vec<u32>,
}

#[derive(Deserialize)]
pub(super) struct RemainderObject {
    pub kind: String,
    #[serde(flatten)]
    pub counters: Directions,
}
