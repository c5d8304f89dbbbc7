//! Flows and endpoints of a JSON report.

use super::ImportError;
use super::document::{
    BriefCounters, CountersObject, Directions, EndpointObject, FailedObject, FlowObject, FoldedObject,
};
use super::document::{NameObject, NamesObject, PayloadObject, UsersObject};
use super::value::{Numbers, application, direction, protocol, source, time_ns};
use crate::flow::{
    Counters, Direction, Endpoint, EndpointKey, FailedAttempts, Flow, FlowKey, FoldedCounts, ObservationPoint, Payload,
    PayloadGap, PerDirection, Protocol, Remote, TransportAddress,
};
use crate::name::{Hidden, SourcedName};
use crate::process::{Evidence, FlowUser};
use crate::report::{DisplayName, FlowNaming, ReportEndpoint, ReportFlow};
use crate::wire::Name;

pub(super) fn endpoint(mut entry: EndpointObject, numbers: &Numbers) -> Result<ReportEndpoint, ImportError> {
    let remote = match entry.remote.as_str() {
        "others" => Remote::Others,
        text => Remote::Address(text.parse().map_err(|_| format!("{text} is not an address"))?),
    };
    let protocol = protocol(&entry.protocol)?;
    let key = EndpointKey {
        remote,
        protocol,
        port: entry.port,
        direction: direction(&entry.direction)?,
        fragment: entry.fragment,
    };
    Ok(ReportEndpoint {
        endpoint: Endpoint {
            key,
            flows: entry.flows,
            connections: entry.connections,
            counters: entry.counters.into(),
            payload: payload(entry.payload, protocol),
            handshake_rtt_ns: entry.handshake_rtt_ns,
            failed: entry.failed.into(),
        },
        display_name: display_name(&entry.names)?,
        application: application(&mut entry.names),
        names: names(entry.names.names)?,
        processes: entry.processes.iter().filter_map(|number| numbers.id(*number)).collect(),
    })
}

pub(super) fn flows(
    entries: Vec<FlowObject>,
    point: ObservationPoint,
    numbers: &Numbers,
) -> Result<Vec<ReportFlow>, ImportError> {
    entries.into_iter().map(|entry| flow(entry, point, numbers)).collect()
}

fn flow(entry: FlowObject, point: ObservationPoint, numbers: &Numbers) -> Result<ReportFlow, ImportError> {
    let first_seen_ns = time_ns(&entry.first_seen)?;
    let protocol = protocol(&entry.protocol)?;
    let key = FlowKey {
        point,
        protocol: protocol.0,
        fragment: entry.fragment,
        local: TransportAddress { addr: entry.local, port: entry.local_port },
        remote: TransportAddress { addr: entry.remote, port: entry.remote_port },
    };
    let naming = flow_naming(entry.names, first_seen_ns)?;
    let usual = u64::from(protocol == Protocol::TCP);
    Ok(ReportFlow {
        flow: Flow {
            key,
            epoch: entry.epoch,
            serial: 0,
            counters: PerDirection { egress: entry.egress.into(), ingress: entry.ingress.into() },
            payload: payload(entry.payload, protocol),
            first_seen_ns,
            last_seen_ns: first_seen_ns.saturating_add(entry.duration_ns),
            opened_by: entry.direction.as_deref().map_or(Ok(Direction::Egress), direction)?,
            connections: entry.connections.unwrap_or(usual),
            tcp: None,
            icmp_error: None,
            ended: None,
        },
        naming: (naming != FlowNaming::default()).then(|| Box::new(naming)),
        users: users(&entry.processes, numbers),
    })
}

/// Documents of earlier versions have none.
fn payload(entry: Option<PayloadObject>, protocol: Protocol) -> Payload {
    match entry {
        Some(PayloadObject { unknown: Some(gap), .. }) => {
            Payload::unknown(PayloadGap::of_name(&gap).unwrap_or(PayloadGap::NotRecorded))
        }
        Some(PayloadObject { egress_bytes, ingress_bytes, .. }) => {
            Payload::of_bytes(PerDirection { egress: egress_bytes, ingress: ingress_bytes })
        }
        None if [Protocol::TCP, Protocol::UDP].contains(&protocol) => Payload::unknown(PayloadGap::NotRecorded),
        None => Payload::unknown(PayloadGap::Protocol),
    }
}

/// Names of a flow. A document omits the list if the displayed name is the only one.
fn flow_naming(mut entry: NamesObject, first_seen_ns: u64) -> Result<FlowNaming, ImportError> {
    let display_name = display_name(&entry)?;
    let application = application(&mut entry);
    let mut names = names(std::mem::take(&mut entry.names))?;
    if let (true, Some(display)) = (names.is_empty(), &display_name) {
        let (name, source) = (display.name.clone(), display.source);
        names.push(SourcedName { name, source, question: None, first_seen_ns });
    }
    let hidden = entry.hidden.iter().filter_map(|reason| Hidden::of_text(reason)).collect();
    Ok(FlowNaming { display_name, application, names, hidden, tls: None })
}

fn users(entry: &UsersObject, numbers: &Numbers) -> Vec<FlowUser> {
    let of = |list: &[u32], evidence| {
        let user = |number: &u32| {
            let process = numbers.id(*number)?;
            Some(FlowUser { process, evidence, is_maker: !entry.inherited.contains(number) })
        };
        list.iter().filter_map(user).collect::<Vec<_>>()
    };
    let lists = [(&entry.socket, Evidence::Socket), (&entry.tuple, Evidence::Tuple), (&entry.netns, Evidence::Netns)];
    lists.into_iter().flat_map(|(list, evidence)| of(list, evidence)).collect()
}

fn display_name(names: &NamesObject) -> Result<Option<DisplayName>, ImportError> {
    let (Some(name), Some(from)) = (&names.name, &names.name_source) else { return Ok(None) };
    Ok(Some(DisplayName { name: Name::of_text(name), source: source(from)? }))
}

fn names(entries: Vec<NameObject>) -> Result<Vec<SourcedName>, ImportError> {
    let name = |entry: NameObject| {
        Ok(SourcedName {
            name: Name::of_text(&entry.name),
            source: source(&entry.source)?,
            question: entry.queried_name.as_deref().map(Name::of_text),
            first_seen_ns: time_ns(&entry.first_seen)?,
        })
    };
    entries.into_iter().map(name).collect()
}

impl From<CountersObject> for Counters {
    fn from(CountersObject { skbs, packets, bytes, wire_bytes }: CountersObject) -> Self {
        Self { skbs, packets, bytes, wire_bytes }
    }
}

impl From<BriefCounters> for Counters {
    fn from(BriefCounters { skbs, packets, bytes, wire_bytes }: BriefCounters) -> Self {
        Self { skbs: skbs.unwrap_or(packets), packets, bytes: bytes.unwrap_or(wire_bytes), wire_bytes }
    }
}

impl From<Directions> for PerDirection<Counters> {
    fn from(both: Directions) -> Self {
        Self { egress: both.egress.into(), ingress: both.ingress.into() }
    }
}

impl From<FoldedObject> for FoldedCounts {
    fn from(FoldedObject { flows, at_least, icmp_errors, counters }: FoldedObject) -> Self {
        Self { flows, at_least, icmp_errors, counters: counters.into() }
    }
}

impl From<FailedObject> for FailedAttempts {
    fn from(failed: FailedObject) -> Self {
        let FailedObject { refused, timeout, timeout_syns, handshake_resets, unreachable } = failed;
        Self { refused, unanswered: timeout, unanswered_tries: timeout_syns, reset: handshake_resets, unreachable }
    }
}
