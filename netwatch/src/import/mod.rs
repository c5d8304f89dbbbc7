//! Reads a JSON report of netwatch back, so that runs of other machines can be listed, checked and
//! compared. What the document leaves out (TCP facts of a flow) and the numbers of the balance are
//! unknown in the result.

mod document;
mod traffic;
mod value;

use std::collections::BTreeMap;

use document::{
    AttemptObject, AttributionObject, LocalSocketObject, LookupObject, ProcessObject, ReplayObject, ReportDocument,
    RunObject,
};
use value::{Numbers, balance_state, direction, lookup_protocol, protocol, time_ns};

use crate::flow::{
    Balance, FlowTable, IcmpError, Malformed, ObservationLosses, ObservationPoint, RemainderKind, Remainders, Traffic,
};
use crate::format::json::SCHEMA;
use crate::name::{Lookup, NamesLost, ResponseTimes};
use crate::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, LocalSocket, Process, ProcessLosses, Processes,
};
use crate::report::{
    DnsForwarder, EndedEarly, ExitStatus, Interface, Loopback, Naming, Replay, Report, ResourceUsage, Run, Series,
};
use crate::wire::Name;
use crate::wire::dns::{Question, Rcode, RecordType};

/// Why a document cannot be read, without a full stop.
pub type ImportError = String;

/// Whether these bytes begin like a JSON document.
pub fn is_json(start: &[u8]) -> bool {
    start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads a report.
pub fn report(bytes: &[u8]) -> Result<Report, ImportError> {
    let schema = serde_json::from_slice::<SchemaOnly>(bytes)
        .map_err(|error| format!("not a JSON report of netwatch ({error})"))?;
    if schema.schema != SCHEMA {
        return Err(format!("the report has schema {}, this version reads {SCHEMA}", schema.schema));
    }
    let document: ReportDocument =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON report of netwatch ({error})"))?;
    convert(document)
}

#[derive(serde::Deserialize)]
struct SchemaOnly {
    schema: u32,
}

fn convert(document: ReportDocument) -> Result<Report, ImportError> {
    let numbers = Numbers::of(&document.processes);
    let unknown = Balance::new(&FlowTable::default(), None, false);
    let naming = Naming {
        lookups: document.dns.lookups.iter().map(lookup).collect::<Result<_, _>>()?,
        unused: document.dns.unused_names.iter().map(|name| Name::of_text(name)).collect(),
        contacted_without_lookup: document.dns.contacted_without_lookup,
        lost: names_lost(&document.naming.lost),
        ..Naming::default()
    };
    Ok(Report {
        run: document.run.map(run).transpose()?.unwrap_or_default(),
        replay: document.replay.map(replay).transpose()?,
        interface: Interface {
            name: document.interface.name,
            mtu: document.interface.mtu_bytes,
            local: document.interface.local_addresses,
            gateway: document.interface.gateway_addresses,
            broadcast: None,
            host_loopback: document.interface.host_loopback,
            published: document.interface.published,
        },
        dns: DnsForwarder { resolvers: document.dns.resolvers },
        complete: document.complete,
        totals: document.totals.into(),
        balance: Balance { state: balance_state(document.balance.state.as_deref())?, ..unknown },
        remainders: remainders(&document.remainders),
        lost: observation_losses(&document.lost),
        folded: document.folded.into(),
        endpoints: document
            .endpoints
            .into_iter()
            .map(|entry| traffic::endpoint(entry, &numbers))
            .collect::<Result<_, _>>()?,
        flows: traffic::flows(document.flows, ObservationPoint::Link, &numbers)?,
        loopback: Loopback {
            totals: document.loopback.totals.into(),
            flows: traffic::flows(document.loopback.flows, ObservationPoint::Loopback, &numbers)?,
        },
        naming,
        attempts: document.attempts.into_iter().map(|entry| attempt(entry, &numbers)).collect::<Result<_, _>>()?,
        processes: Processes {
            local_sockets: document.local_sockets.into_iter().map(|entry| local_socket(entry, &numbers)).collect(),
            ..processes(document.processes, document.attribution, &numbers)?
        },
        series: Series::default(),
        // Percentiles are no distribution.
        activity: Default::default(),
        notes: document.notes,
        folded_traffic: Vec::new(),
        folded_attribution: Default::default(),
    })
}

fn run(run: RunObject) -> Result<Run, ImportError> {
    let exit = run.exit_code.map(ExitStatus::Code).or(run.exit_signal.map(ExitStatus::Signal));
    Ok(Run {
        id: run.id,
        command: run.command,
        user: run.user,
        pid: run.pid,
        started_ns: time_ns(&run.started)?,
        duration_ns: run.duration_ns,
        exit,
        ended_by: None,
        kernel: run.kernel_release,
        netwatch: run.netwatch_version,
        usage: run.cpu.map(|cpu| ResourceUsage {
            user_ns: cpu.user_ns,
            system_ns: cpu.system_ns,
            memory_peak: run.memory_peak_bytes,
        }),
    })
}

fn replay(replay: ReplayObject) -> Result<Replay, ImportError> {
    let started_ns = replay.started.map_or(Ok(0), |time| time_ns(&time))?;
    let ended_early = replay.ended_early.map(|early| EndedEarly { offset: early.offset_bytes, cause: early.cause });
    let (file, duration_ns, missing) = (replay.file, replay.duration_ns, replay.missing_packets);
    Ok(Replay { file, started_ns, duration_ns, missing, ended_early, ..Replay::default() })
}

fn lookup(entry: &LookupObject) -> Result<Lookup, ImportError> {
    let kind = RecordType::of_text(&entry.r#type).ok_or_else(|| format!("unknown record type {}", entry.r#type))?;
    let outcomes = entry.response_codes.iter().filter_map(|(code, count)| Some((Rcode::of_text(code)?, *count)));
    Ok(Lookup {
        question: Question { name: Name::of_text(&entry.name), kind },
        application: lookup_protocol(&entry.protocol)?,
        queried_by: direction(&entry.direction)?,
        queries: entry.queries,
        responses: entry.responses,
        outcomes: outcomes.collect(),
        repeats: BTreeMap::new(),
        truncated: 0,
        response_times: ResponseTimes::default(),
        first_seen_ns: time_ns(&entry.first_seen)?,
        addresses: entry.addresses.clone(),
        aliases: entry.aliases.iter().map(|name| Name::of_text(name)).collect(),
    })
}

fn processes(
    entries: Vec<ProcessObject>,
    attribution: Option<AttributionObject>,
    numbers: &Numbers,
) -> Result<Processes, ImportError> {
    let (attribution, lost) = match attribution {
        None => (Attribution::Absent, ProcessLosses::default()),
        Some(entry) => {
            let state = match entry.state.as_str() {
                "on" => Attribution::On,
                "off" => Attribution::Off(entry.reason.unwrap_or_default()),
                _ => Attribution::Absent,
            };
            (state, process_losses(&entry.lost))
        }
    };
    let list = entries.into_iter().map(|entry| process(entry, numbers)).collect::<Result<_, _>>()?;
    Ok(Processes { attribution, list, local_sockets: Vec::new(), lost })
}

fn process(entry: ProcessObject, numbers: &Numbers) -> Result<Process, ImportError> {
    Ok(Process {
        number: entry.number,
        pid: entry.pid,
        start_ns: time_ns(&entry.started)?,
        ppid: entry.ppid,
        parent: entry.parent.and_then(|number| numbers.id(number)),
        comm: entry.comm,
        exe: entry.exe,
        cmdline: entry.cmdline,
        cmdline_cut: entry.cmdline_truncated,
        uid: entry.uid,
    })
}

fn local_socket(entry: LocalSocketObject, numbers: &Numbers) -> LocalSocket {
    LocalSocket {
        path: entry.path,
        connections: entry.connections,
        failed: entry.failed_connections,
        missing: entry.missing_connections,
        processes: entry.processes.into_iter().filter_map(|number| numbers.id(number)).collect(),
    }
}

fn attempt(entry: AttemptObject, numbers: &Numbers) -> Result<Attempt, ImportError> {
    let target = match (entry.path, entry.remote, entry.name) {
        (Some(path), ..) => AttemptTarget::LocalSocket(path),
        (None, Some(remote), _) => AttemptTarget::Address((remote, entry.port).into()),
        (None, None, Some(name)) => AttemptTarget::Name(name, entry.r#type.unwrap_or_default()),
        (None, None, None) => return Err("an attempt has no target".into()),
    };
    let cause = match entry.cause.as_str() {
        // Early documents of schema 2 contain the second word of each pair.
        "timeout" | "unanswered" => AttemptCause::Timeout,
        "refused" => AttemptCause::Refused,
        "reset" => AttemptCause::Reset,
        "failed_at_once" | "no_packet" => AttemptCause::NoPacket,
        "unreachable" | "icmp" => {
            let error = entry.icmp_error.ok_or("an attempt has no icmp_error")?;
            AttemptCause::Icmp(IcmpError { kind: error.r#type, code: error.code })
        }
        "dns" => AttemptCause::of_lookup(entry.response_code.unwrap_or_default()),
        _ => AttemptCause::Errno(entry.errno.unwrap_or_default()),
    };
    let first_ns = time_ns(&entry.first_seen)?;
    Ok(Attempt {
        first_ns,
        last_ns: first_ns.saturating_add(entry.duration_ns),
        count: entry.count,
        packets: entry.packets,
        target,
        protocol: entry.protocol.as_deref().map(protocol).transpose()?,
        cause,
        process: entry.process.and_then(|number| numbers.id(number)),
    })
}

/// The remainders that hide remotes, without link housekeeping.
fn remainders(entries: &[document::RemainderObject]) -> Remainders {
    let traffic = |kind: &str| match kind {
        name if name == RemainderKind::Overflow.name() => Some(Traffic::Overflow(0)),
        name if name == RemainderKind::Malformed.name() => Some(Traffic::Malformed(Malformed::IpLength)),
        name if name == RemainderKind::NonIp.name() => Some(Traffic::NonIp(0)),
        _ => None,
    };
    entries.iter().filter_map(|entry| Some((traffic(&entry.kind)?, entry.counters.into()))).collect()
}

fn observation_losses(lost: &BTreeMap<String, u64>) -> ObservationLosses {
    let of = |reason: &str| lost.get(reason).copied().unwrap_or_default();
    ObservationLosses {
        samples: of("samples"),
        unreadable: of("unreadable"),
        table_full: of("table_full"),
        insert_failed: of("insert_failed"),
        new_flows: of("new_flows"),
        unselected: of("unselected"),
    }
}

fn process_losses(lost: &BTreeMap<String, u64>) -> ProcessLosses {
    let of = |reason: &str| lost.get(reason).copied().unwrap_or_default();
    ProcessLosses {
        events: of("events"),
        sockets: of("sockets"),
        gone: of("exited"),
        unreadable: of("unreadable"),
        unknown: of("unknown_records"),
        beyond: of("over_limit"),
    }
}

fn names_lost(lost: &BTreeMap<String, u64>) -> NamesLost {
    let of = |reason: &str| lost.get(reason).copied().unwrap_or_default();
    NamesLost {
        direction_bytes: of("direction_bytes"),
        waiting_bytes: of("waiting_bytes"),
        open_flows: of("open_flows"),
        flows: of("flows"),
        addresses: of("addresses"),
        names: of("names"),
        lookups: of("lookups"),
        pending: of("pending"),
        records: of("records"),
        http2_broken: of("http2_broken"),
    }
}
