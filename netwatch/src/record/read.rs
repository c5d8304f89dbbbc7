//! Reads the tables as a report.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::cell::{Count, Cursor, Wrong};
use super::cells::{hidden_of, take_exit};
use super::processes::{self, ProcessIds};
use super::remainder;
use super::table::{read, read_first, read_one, read_parts};
use crate::flow::{
    Amount, Balance, Counters, Difference, Endpoint, Flow, FoldedCounts, ObservationLosses, ObservationPoint,
    PerDirection, Protocol, RemainderKind,
};
use crate::name::{self, Lookup, ServiceExchanges};
use crate::process::{self, Attempt, AttemptCause, AttemptTarget, Attribution};
use crate::report::{
    DnsForwarder, EndpointSeries, FlowNaming, HostService, Interface, Interval, Loopback, Naming, PeakRates, Replay,
    Report, ReportEndpoint, ReportFlow, ResourceUsage, Run, Series, ServiceActivity,
};
use crate::wire::Name;
use crate::wire::dns::Rcode;

type Result<T> = std::result::Result<T, Wrong>;

/// Names by the number of the flow or endpoint that has them.
type NamesByRow = HashMap<u64, Vec<name::SourcedName>>;

/// Reads a complete report.
pub(super) fn report(db: &Connection) -> Result<Report> {
    let head = head(db)?;
    let totals = totals(db)?;
    let total = |part: &str| totals.get(part).copied().ok_or_else(|| Wrong::Value(format!("total lacks {part}")));
    let lost = LossCounts::read(db)?;
    let processes = processes::take(db, head.attribution, lost.processes())?;
    let ids = ProcessIds::new(&processes.list);
    let (flows, loopback) = flows(db, &ids)?;
    Ok(Report {
        run: head.run,
        interface: head.interface,
        dns: head.dns,
        complete: head.is_final,
        totals: total("run")?,
        balance: balance(db)?,
        remainders: remainder::take(db)?,
        lost: lost.counts(),
        folded: folded(db, total("folded")?)?,
        endpoints: endpoints(db, &ids)?,
        flows,
        loopback: Loopback { totals: total("loopback")?, flows: loopback },
        naming: naming(db, lost.names())?,
        processes,
        attempts: attempts(db, &ids)?,
        series: series(db)?,
        activity: activity(db)?,
        notes: notes(db)?,
        replay: replayed(db)?,
        folded_traffic: Vec::new(),
        folded_attribution: crate::report::AttributionCounts::default(),
    })
}

/// Reads traffic over time.
pub(super) fn series(db: &Connection) -> Result<Series> {
    let mut steps = endpoint_steps(db)?;
    let endpoints = read(db, "endpoint_series", "number", |row| {
        let number: u64 = row.take()?;
        let (key, before) = (row.take()?, row.take()?);
        Ok(EndpointSeries { key, before, intervals: steps.remove(&number).unwrap_or_default() })
    })?;
    Ok(Series { intervals: read(db, "step", "start_ns", |row| row.take())?, endpoints })
}

/// Reads exchanges and peaks of services.
pub(super) fn activity(db: &Connection) -> Result<BTreeMap<(Protocol, u16), ServiceActivity>> {
    let services = read(db, "service_activity", "protocol, port", |row| {
        let key = (row.take()?, row.take()?);
        let unmeasured = row.take::<Count>()?.into();
        let mut statuses = [0; 5];
        for status in &mut statuses {
            *status = row.take::<Count>()?.into();
        }
        let (request_bytes, times) = (row.take::<Count>()?.into(), row.take()?);
        let peaks: (Option<u64>, Option<u64>) = (row.take()?, row.take()?);
        let peak = peaks.0.zip(peaks.1).map(|(connections, wire_bytes)| PeakRates { connections, wire_bytes });
        let exchanges = ServiceExchanges { times, unmeasured, statuses, request_bytes };
        Ok((key, ServiceActivity { exchanges, peak }))
    })?;
    Ok(services.into_iter().collect())
}

/// The intervals of endpoints by the number of their series.
fn endpoint_steps(db: &Connection) -> Result<HashMap<u64, Vec<Interval>>> {
    let mut steps: HashMap<u64, Vec<Interval>> = HashMap::new();
    for (series, interval) in read(db, "endpoint_step", "series, start_ns", |row| Ok((row.take()?, row.take()?)))? {
        steps.entry(series).or_default().push(interval);
    }
    Ok(steps)
}

/// The row of table `run`.
pub(super) struct RunRow {
    pub run: Run,
    pub interface: Interface,
    pub dns: DnsForwarder,
    pub is_final: bool,
    pub attribution: Attribution,
}

/// Reads the row of table `run`.
pub(super) fn head(db: &Connection) -> Result<RunRow> {
    read_one(db, "run", |row| {
        let mut head = RunRow {
            run: Run {
                kernel: String::new(),
                netwatch: String::new(),
                id: row.take()?,
                command: row.take()?,
                user: row.take()?,
                pid: row.take()?,
                started_ns: row.take()?,
                duration_ns: row.take()?,
                exit: take_exit(row)?,
                ended_by: row.take()?,
                usage: None,
            },
            interface: Interface {
                name: row.take()?,
                mtu: row.take()?,
                local: row.take()?,
                gateway: row.take()?,
                broadcast: None,
                host_loopback: host_services(row)?,
                published: Vec::new(),
            },
            dns: DnsForwarder { resolvers: row.take()? },
            is_final: row.take()?,
            attribution: attribution(row)?,
        };
        (head.run.kernel, head.run.netwatch) = (row.take()?, row.take()?);
        head.run.usage = usage(row)?;
        head.interface.published = row.take()?;
        // Schema 1 has the word `command` while the command runs.
        head.run.ended_by = head.run.exit.and(head.run.ended_by);
        Ok(head)
    })
}

/// Before schema 3 nothing was recorded.
fn usage(row: &mut Cursor<'_>) -> Result<Option<ResourceUsage>> {
    let (user_ns, system_ns, memory_peak): (Option<u64>, Option<u64>, Option<u64>) =
        (row.take()?, row.take()?, row.take()?);
    Ok(user_ns.zip(system_ns).map(|(user_ns, system_ns)| ResourceUsage { user_ns, system_ns, memory_peak }))
}

/// Schema 1 has a flag, without the services.
fn host_services(row: &mut Cursor<'_>) -> Result<Vec<HostService>> {
    if row.is_number()? { row.take::<bool>().map(|_| Vec::new()) } else { row.take() }
}

fn attribution(row: &mut Cursor<'_>) -> Result<Attribution> {
    let (word, why): (String, Option<String>) = (row.take()?, row.take()?);
    match (word.as_str(), why) {
        ("on", None) => Ok(Attribution::On),
        ("absent", None) => Ok(Attribution::Absent),
        ("off", Some(why)) => Ok(Attribution::Off(why)),
        _ => Err(unknown("attribution", &word)),
    }
}

/// Reads the capture, if one was replayed.
pub(super) fn replayed(db: &Connection) -> Result<Option<Replay>> {
    read_first(db, "replay", replay)
}

fn replay(row: &mut Cursor<'_>) -> Result<Replay> {
    Ok(Replay {
        file: row.take()?,
        format: match row.take::<String>()?.as_str() {
            "pcap" => "pcap",
            "pcapng" => "pcapng",
            other => return Err(unknown("format", other)),
        },
        link_types: row.take()?,
        by_kernel: row.take()?,
        local: row.take()?,
        started_ns: row.take()?,
        duration_ns: row.take()?,
        frames: row.take()?,
        cut_frames: row.take::<Count>()?.into(),
        left_out: row.take()?,
        ended_early: row.take()?,
        missing: row.take::<Count>()?.into(),
    })
}

/// Reads the totals by their part.
pub(super) fn totals(db: &Connection) -> Result<HashMap<String, PerDirection<Counters>>> {
    Ok(read(db, "total", "part", |row| Ok((row.take()?, row.take()?)))?.into_iter().collect())
}

/// Reads what was folded.
pub(super) fn folded(db: &Connection, counters: PerDirection<Counters>) -> Result<FoldedCounts> {
    read_one(db, "folded", |row| {
        Ok(FoldedCounts {
            flows: row.take::<Count>()?.into(),
            at_least: row.take()?,
            icmp_errors: row.take::<Count>()?.into(),
            counters,
        })
    })
}

fn balance(db: &Connection) -> Result<Balance> {
    let parts = read(db, "balance", "part", |row| Ok((row.take()?, row.take::<PerDirection<Difference>>()?)))?;
    let parts: HashMap<String, PerDirection<Difference>> = parts.into_iter().collect();
    let part = |name: &str| parts.get(name).copied();
    let amount = |name: &str| part(name).map(|signed| as_amounts(name, signed)).transpose();
    let needed = |name: &str| amount(name)?.ok_or_else(|| Wrong::Value(format!("balance lacks {name}")));
    let remainder = |kind: RemainderKind| Ok((kind, needed(kind.name())?));
    let (state, dropped, file) =
        read_one(db, "balance_state", |row| Ok((row.take()?, row.take::<Count>()?.into(), row.take()?)))?;
    Ok(Balance {
        counted: needed("counted")?,
        interface: amount("interface")?,
        dropped,
        flows: needed("flows")?,
        remainders: RemainderKind::ALL.into_iter().map(remainder).collect::<Result<_>>()?,
        difference: part("difference"),
        unassigned: part("unassigned").ok_or_else(|| Wrong::Value("balance lacks unassigned".into()))?,
        state,
        file,
    })
}

fn as_amounts(part: &str, signed: PerDirection<Difference>) -> Result<PerDirection<Amount>> {
    let unsigned = |number: i64| {
        u64::try_from(number).map_err(|_| Wrong::Value(format!("in table balance, {part} cannot be {number}")))
    };
    let amount = |signed: Difference| -> Result<Amount> {
        Ok(Amount { skbs: unsigned(signed.skbs)?, bytes: unsigned(signed.bytes)? })
    };
    Ok(PerDirection { egress: amount(signed.egress)?, ingress: amount(signed.ingress)? })
}

/// Losses by reason.
pub(super) struct LossCounts(HashMap<String, u64>);

impl LossCounts {
    pub fn read(db: &Connection) -> Result<Self> {
        Ok(Self(
            read(db, "lost", "reason", |row| Ok((row.take()?, row.take::<Count>()?.into())))?.into_iter().collect(),
        ))
    }

    fn of(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// Updates of folded flows that came too late.
    pub fn late_updates(&self) -> u64 {
        self.of(super::fold::LATE_UPDATES)
    }

    pub fn counts(&self) -> ObservationLosses {
        ObservationLosses {
            samples: self.of("samples"),
            unreadable: self.of("unreadable"),
            table_full: self.of("table_full"),
            insert_failed: self.of("insert_failed"),
            new_flows: self.of("new_flows"),
            unselected: self.of("unselected"),
        }
    }

    pub fn names(&self) -> name::NamesLost {
        name::NamesLost {
            direction_bytes: self.of("names.direction_bytes"),
            waiting_bytes: self.of("names.waiting_bytes"),
            open_flows: self.of("names.open_flows"),
            flows: self.of("names.flows"),
            addresses: self.of("names.addresses"),
            names: self.of("names.names"),
            lookups: self.of("names.lookups"),
            pending: self.of("names.pending"),
            records: self.of("names.records"),
            http2_broken: self.of("names.http2_broken"),
        }
    }

    pub fn processes(&self) -> process::ProcessLosses {
        process::ProcessLosses {
            events: self.of("processes.events"),
            sockets: self.of("processes.sockets"),
            gone: self.of("processes.exited"),
            unreadable: self.of("processes.unreadable"),
            unknown: self.of("processes.unknown_records"),
            beyond: self.of("processes.over_limit"),
        }
    }
}

/// Reads the flows of the link and of the loopback, ordered by number.
pub(super) fn flows(db: &Connection, ids: &ProcessIds) -> Result<(Vec<ReportFlow>, Vec<ReportFlow>)> {
    let (mut names, mut users) = (read_parts(db, "flow_name")?, processes::take_users(db, ids)?);
    let mut all = read(db, "flow", "number", |row| {
        let number: u64 = row.take()?;
        let flow = Flow { serial: number, ..row.take()? };
        let naming = naming_of(row, number, &mut names)?;
        let flow = Flow { payload: row.take()?, ..flow };
        let naming = (naming != FlowNaming::default()).then(|| Box::new(naming));
        Ok(ReportFlow { flow, naming, users: users.remove(&number).unwrap_or_default() })
    })?;
    all.sort_by_key(|known| (known.flow.first_seen_ns, known.flow.id()));
    Ok(all.into_iter().partition(|known| known.flow.key.point == ObservationPoint::Link))
}

fn naming_of(row: &mut Cursor<'_>, number: u64, names: &mut NamesByRow) -> Result<FlowNaming> {
    let (display_name, application) = (row.take()?, row.take()?);
    let hidden: Option<Vec<String>> = row.take()?;
    let hidden = hidden.unwrap_or_default().iter().map(|name| hidden_of(name)).collect::<Result<_>>()?;
    Ok(FlowNaming {
        display_name,
        application,
        hidden,
        tls: row.take()?,
        names: names.remove(&number).unwrap_or_default(),
    })
}

fn endpoints(db: &Connection, ids: &ProcessIds) -> Result<Vec<ReportEndpoint>> {
    let mut names: NamesByRow = read_parts(db, "endpoint_name")?;
    let mut processes = processes::take_of_endpoints(db, ids)?;
    read(db, "endpoint", "number", |row| {
        let number: u64 = row.take()?;
        let (endpoint, display_name, application): (Endpoint, _, _) = (row.take()?, row.take()?, row.take()?);
        Ok(ReportEndpoint {
            endpoint: Endpoint { payload: row.take()?, ..endpoint },
            display_name,
            application,
            names: names.remove(&number).unwrap_or_default(),
            processes: processes.remove(&number).unwrap_or_default(),
        })
    })
}

/// Reads DNS lookups.
pub(super) fn lookups(db: &Connection) -> Result<Vec<Lookup>> {
    let mut outcomes: HashMap<u64, BTreeMap<Rcode, u64>> = HashMap::new();
    for (lookup, rcode, count) in
        read(db, "lookup_outcome", "1", |row| Ok((row.take::<u64>()?, row.take::<u8>()?, row.take::<Count>()?)))?
    {
        outcomes.entry(lookup).or_default().insert(Rcode(rcode), count.into());
    }
    read(db, "lookup", "number", |row| {
        let number: u64 = row.take()?;
        Ok(Lookup {
            question: row.take()?,
            application: row.take()?,
            queried_by: row.take()?,
            queries: row.take::<Count>()?.into(),
            responses: row.take::<Count>()?.into(),
            outcomes: outcomes.remove(&number).unwrap_or_default(),
            repeats: BTreeMap::new(),
            truncated: row.take::<Count>()?.into(),
            response_times: row.take()?,
            first_seen_ns: row.take()?,
            addresses: row.take()?,
            aliases: names(row)?,
        })
    })
}

fn names(row: &mut Cursor<'_>) -> Result<Vec<Name>> {
    Ok(row.take::<Vec<String>>()?.iter().map(|text| Name::of_text(text)).collect())
}

fn naming(db: &Connection, lost: name::NamesLost) -> Result<Naming> {
    let hidden = read(db, "hidden", "position", |row| {
        let _position: u64 = row.take()?;
        Ok((hidden_of(&row.take::<String>()?)?, row.take()?))
    })?;
    let lookups = lookups(db)?;
    read_one(db, "naming", |row| {
        Ok(Naming {
            lookups: lookups.clone(),
            flows: row.take()?,
            unnamed: row.take()?,
            hidden: hidden.clone(),
            unused: names(row)?,
            contacted_without_lookup: row.take()?,
            lost,
        })
    })
}

/// Reads failed attempts.
pub(super) fn attempts(db: &Connection, ids: &ProcessIds) -> Result<Vec<Attempt>> {
    read(db, "attempt", "position", |row| {
        let _position: u64 = row.take()?;
        Ok(Attempt {
            first_ns: row.take()?,
            last_ns: row.take()?,
            count: row.take::<Count>()?.into(),
            packets: row.take::<Count>()?.into(),
            target: target(row)?,
            protocol: row.take()?,
            cause: cause(row)?,
            process: row.take::<Option<_>>()?.and_then(|number| ids.of(number)),
        })
    })
}

fn target(row: &mut Cursor<'_>) -> Result<AttemptTarget> {
    let (kind, target, target_type): (String, String, Option<String>) = (row.take()?, row.take()?, row.take()?);
    match (kind.as_str(), target_type) {
        ("address", None) => target.parse().map(AttemptTarget::Address).map_err(|_| unknown("target", &target)),
        ("name", Some(kind)) => Ok(AttemptTarget::Name(target, kind)),
        ("unix", None) => Ok(AttemptTarget::LocalSocket(target)),
        _ => Err(unknown("target_kind", &kind)),
    }
}

fn cause(row: &mut Cursor<'_>) -> Result<AttemptCause> {
    let (word, icmp): (String, Option<_>) = (row.take()?, row.take()?);
    let (errno, dns): (Option<i32>, Option<String>) = (row.take()?, row.take()?);
    match (word.as_str(), icmp, errno, dns) {
        ("unanswered", ..) => Ok(AttemptCause::Timeout),
        ("refused", ..) => Ok(AttemptCause::Refused),
        ("reset", ..) => Ok(AttemptCause::Reset),
        ("no_packet", ..) => Ok(AttemptCause::NoPacket),
        ("icmp", Some(error), ..) => Ok(AttemptCause::Icmp(error)),
        ("errno", _, Some(errno), _) => Ok(AttemptCause::Errno(errno)),
        ("dns", .., Some(answer)) => Ok(AttemptCause::of_lookup(answer)),
        _ => Err(unknown("cause", &word)),
    }
}

/// Reads notes.
pub(super) fn notes(db: &Connection) -> Result<Vec<String>> {
    read(db, "note", "position", |row| {
        let _position: u64 = row.take()?;
        row.take()
    })
}

fn unknown(what: &str, word: &str) -> Wrong {
    Wrong::Value(format!("{what} cannot be '{}'", word.escape_default()))
}
