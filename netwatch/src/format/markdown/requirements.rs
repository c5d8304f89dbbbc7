//! Endpoints grouped by host and port, as firewall rules need them.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::{Counters, Direction, Endpoint, PerDirection, Protocol};
use crate::format::words;
use crate::process::ProcessId;
use crate::report::{ApplicationProtocol, Report, ReportEndpoint, ReportFlow};
use crate::wire::Name;

/// The other side of connections.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerHost {
    Named(String),
    #[default]
    Unnamed,
    /// The resolvers behind the DNS forwarder.
    Dns,
    /// Remotes that connect to the target.
    Clients,
}

/// A host and port that the target needs.
#[derive(Default)]
pub(super) struct Requirement {
    pub host: PeerHost,
    /// `tcp/443`.
    pub service: String,
    /// The application protocol.
    pub application: Option<String>,
    /// Names of the programs that used it.
    pub processes: BTreeSet<String>,
    /// Addresses of the host.
    pub addresses: BTreeSet<String>,
    pub connections: u64,
    pub counters: PerDirection<Counters>,
}

/// Addresses listed; further ones are counted.
const MAX_ADDRESSES: usize = 8;

impl Requirement {
    /// Services that were reached in one direction, the largest first. Of a service of the target,
    /// all connections are listed, also those that failed.
    pub fn all(report: &Report, direction: Direction) -> Vec<Self> {
        let mut all: BTreeMap<(PeerHost, String, String), Self> = BTreeMap::new();
        let accepted = accepted(report);
        let wanted = |known: &ReportEndpoint| {
            let key = &known.endpoint.key;
            let is_reached = match direction {
                Direction::Egress => !known.endpoint.has_only_failed(),
                Direction::Ingress => key.is_service() && accepted.contains(&(key.protocol, key.port)),
            };
            key.direction == direction && is_reached
        };
        let endpoints = report.endpoints.iter().zip(report.flows_by_endpoint());
        for (known, flows) in endpoints.filter(|(known, _)| wanted(known)) {
            let service = words::service(&known.endpoint.key);
            for part in parts(known, &flows) {
                let host = host(report, known, part.name);
                // Without a name, the address identifies the host.
                let address =
                    if host == PeerHost::Unnamed { words::address(&known.endpoint.key.remote) } else { String::new() };
                let new = || Self { host: host.clone(), service: service.clone(), ..Self::default() };
                all.entry((host.clone(), address, service.clone())).or_insert_with(new).add(report, known, part);
            }
        }
        let mut all: Vec<Self> = all.into_values().map(Self::shortened).collect();
        all.sort_by_key(|requirement| std::cmp::Reverse(requirement.counters.both().wire_bytes));
        all
    }

    fn add(&mut self, report: &Report, known: &ReportEndpoint, part: EndpointPart<'_>) {
        let endpoint = &known.endpoint;
        self.application = self.application.take().or_else(|| Some(words::application(part.application?)));
        self.processes.extend(report.programs_of(&part.processes.iter().copied().collect::<Vec<_>>()));
        // The gateway exists in the run only, the resolvers behind it only on this machine.
        if report.forwarded_to(endpoint).is_empty() {
            self.addresses.insert(words::address(&endpoint.key.remote));
        }
        self.connections += part.connections;
        self.counters += part.counters;
    }

    fn shortened(mut self) -> Self {
        let more = self.addresses.len().saturating_sub(MAX_ADDRESSES);
        if more > 1 {
            self.addresses = self.addresses.into_iter().take(MAX_ADDRESSES).collect();
            self.addresses.insert(format!("… and {more} more"));
        }
        self
    }
}

/// Services of the target of which a connection succeeded.
fn accepted(report: &Report) -> BTreeSet<(Protocol, u16)> {
    let endpoints = report.endpoints.iter().map(|known| &known.endpoint);
    let is_accepted = |endpoint: &&Endpoint| endpoint.key.is_service() && !endpoint.has_only_failed();
    let accepted = endpoints.filter(|endpoint| is_accepted(endpoint) && !endpoint.is_remnant());
    accepted.map(|endpoint| (endpoint.key.protocol, endpoint.key.port)).collect()
}

/// Traffic of an endpoint under one name.
struct EndpointPart<'a> {
    name: Option<&'a Name>,
    application: Option<&'a ApplicationProtocol>,
    processes: BTreeSet<ProcessId>,
    connections: u64,
    counters: PerDirection<Counters>,
}

/// Splits an endpoint by name: recordings of earlier versions have one for all names of an address.
/// Flows without a name and folded flows get the name of the endpoint.
fn parts<'a>(known: &'a ReportEndpoint, flows: &[&'a ReportFlow]) -> Vec<EndpointPart<'a>> {
    let own = known.display_name.as_ref().map(|display| &display.name);
    let name = |flow: &'a ReportFlow| flow.display_name().map(|display| &display.name).or(own);
    let whole = EndpointPart {
        name: flows.first().map_or(own, |flow| name(flow)),
        application: known.application.as_ref(),
        processes: known.processes.iter().copied().collect(),
        connections: known.endpoint.connections,
        counters: known.endpoint.counters,
    };
    if flows.iter().all(|flow| name(flow) == whole.name) {
        return vec![whole];
    }
    let mut parts: BTreeMap<Option<&Name>, EndpointPart<'a>> = BTreeMap::new();
    let mut rest = EndpointPart { name: own, processes: BTreeSet::new(), ..whole };
    for flow in flows {
        let application =
            flow.naming.as_ref().and_then(|naming| naming.application.as_ref()).or(known.application.as_ref());
        let (connections, counters) = (flow.flow.connections(), flow.flow.counters);
        rest.connections = rest.connections.saturating_sub(connections);
        rest.counters = rest.counters.zip(counters, Counters::saturating_sub);
        let processes = flow.users.iter().map(|user| user.process).collect();
        put(&mut parts, EndpointPart { name: name(flow), application, processes, connections, counters });
    }
    if !rest.counters.both().is_zero() {
        put(&mut parts, rest);
    }
    parts.into_values().collect()
}

fn put<'a>(parts: &mut BTreeMap<Option<&'a Name>, EndpointPart<'a>>, more: EndpointPart<'a>) {
    let Some(part) = parts.get_mut(&more.name) else {
        parts.insert(more.name, more);
        return;
    };
    part.processes.extend(more.processes);
    part.connections += more.connections;
    part.counters += more.counters;
}

fn host(report: &Report, known: &ReportEndpoint, name: Option<&Name>) -> PeerHost {
    match (name, known.endpoint.key.direction) {
        (_, Direction::Ingress) => PeerHost::Clients,
        _ if !report.forwarded_to(&known.endpoint).is_empty() => PeerHost::Dns,
        (Some(name), _) => PeerHost::Named(name.to_string()),
        (None, _) => PeerHost::Unnamed,
    }
}
