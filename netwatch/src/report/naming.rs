//! Joins names, protocols and processes to flows and endpoints, and sums up the traffic without a
//! name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::folded::{FoldedEndpointFacts, FoldedFacts};
use super::model::{ApplicationProtocol, DisplayName, FlowNaming, ReportEndpoint, ReportFlow, TlsFacts};
use crate::flow::{Direction, Endpoint, EndpointKey, Flow, FlowKey, ObservationPoint, Protocol, Remote, median};
use crate::name::{Contact, FlowFacts, Hidden, Lookup, Names, NamesLost, SourcedName};
use crate::process::{FlowUsers, ProcessId, ProcessNumber};
use crate::wire::Name;

/// A number of flows and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FlowShare {
    /// Number of flows.
    pub flows: u64,
    /// Their bytes on the wire, both directions.
    pub wire_bytes: u64,
}

impl FlowShare {
    pub(super) fn add(&mut self, flow: &Flow) {
        self.flows += 1;
        self.wire_bytes += flow.counters.both().wire_bytes;
    }
}

/// DNS lookups, and the traffic without a name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Naming {
    /// DNS lookups, in the order in which they were first seen.
    pub lookups: Vec<Lookup>,
    /// Flows whose remote can have a name: neither a group address nor the gateway.
    pub flows: FlowShare,
    /// The part of `flows` whose remote has no name.
    pub unnamed: FlowShare,
    /// Reasons that hide names, each with the flows that it affects.
    pub hidden: Vec<(Hidden, FlowShare)>,
    /// Names that were resolved to an address and then not used.
    pub unused: Vec<Name>,
    /// Addresses that the target contacted without a DNS lookup.
    pub contacted_without_lookup: Vec<IpAddr>,
    /// Names that were lost, by reason.
    pub lost: NamesLost,
}

/// Joins names and users to flows.
pub(super) fn flows(flows: impl Iterator<Item = Flow>, names: &Names, users: &FlowUsers) -> Vec<ReportFlow> {
    flows.map(|one| flow(one, names, users)).collect()
}

/// Joins the names and users known so far to one flow.
pub(super) fn flow(flow: Flow, names: &Names, users: &FlowUsers) -> ReportFlow {
    let naming = naming_of(&flow.key, flow.first_seen_ns, names).map(Box::new);
    ReportFlow { naming, users: users.of(&flow.key).to_vec(), flow }
}

/// The names and the protocol of a flow that began at `began_ns`, as far as they are known; `None`
/// if nothing is.
pub fn naming_of(flow: &FlowKey, began_ns: u64, names: &Names) -> Option<FlowNaming> {
    let best = (flow.point == ObservationPoint::Link).then(|| names.best(flow, began_ns)).flatten();
    let facts = names.flow(flow);
    let naming = FlowNaming {
        display_name: best.map(|best| DisplayName { name: best.name.clone(), source: best.source }),
        names: facts.map(|facts| facts.names.clone()).unwrap_or_default(),
        application: facts.and_then(application),
        hidden: names.hidden(flow),
        tls: facts.and_then(tls),
    };
    (naming != FlowNaming::default()).then_some(naming)
}

/// The name of the remote address of a flow, whatever the flow itself carried.
pub fn name_of_address(flow: &Flow, names: &Names) -> Option<DisplayName> {
    let is_link = flow.key.point == ObservationPoint::Link;
    let best = is_link.then(|| names.of_address(flow.key.remote.addr, flow.first_seen_ns)).flatten()?;
    Some(DisplayName { name: best.name.clone(), source: best.source })
}

fn application(facts: &FlowFacts) -> Option<ApplicationProtocol> {
    let proven = facts.applications.last()?;
    Some(ApplicationProtocol { name: proven.application.name().into(), evidence: proven.evidence.into() })
}

fn tls(facts: &FlowFacts) -> Option<TlsFacts> {
    let hello = facts.hello.as_ref()?;
    Some(TlsFacts {
        offered_version: hello.version.to_string(),
        alpn: hello.alpn.iter().map(|alpn| alpn.as_str().to_owned()).collect(),
        ja4: hello.ja4.as_ref().map(|ja4| ja4.as_str().to_owned()),
        post_quantum: hello.post_quantum,
    })
}

/// Facts about an endpoint, gathered from its flows. Names and protocols are weighted by bytes.
#[derive(Default)]
struct EndpointFacts<'a> {
    display_names: BTreeMap<&'a Name, (u64, &'a DisplayName)>,
    applications: BTreeMap<&'a str, (u64, &'a ApplicationProtocol)>,
    names: Vec<&'a SourcedName>,
    processes: Vec<ProcessId>,
}

/// Folded flows, and the places of their processes in the report's list.
#[derive(Clone, Copy)]
pub(super) struct Folded<'a> {
    pub facts: &'a FoldedFacts,
    pub ids: &'a BTreeMap<ProcessNumber, ProcessId>,
}

impl<'a> EndpointFacts<'a> {
    fn add(&mut self, known: &'a ReportFlow) {
        for user in &known.users {
            if !self.processes.contains(&user.process) {
                self.processes.push(user.process);
            }
        }
        let Some(naming) = &known.naming else { return };
        let weight = known.flow.counters.both().wire_bytes;
        if let Some(display) = &naming.display_name {
            self.display_names.entry(&display.name).or_insert((0, display)).0 += weight;
        }
        if let Some(application) = &naming.application {
            self.applications.entry(&application.name).or_insert((0, application)).0 += weight;
        }
        self.names.extend(&naming.names);
    }

    /// Adds the weights of the display names of other flows.
    fn add_names(&mut self, other: &Self) {
        for (name, (weight, display)) in &other.display_names {
            self.display_names.entry(*name).or_insert((0, *display)).0 += weight;
        }
    }

    /// Adds the facts of other flows.
    fn join(&mut self, other: Self) {
        self.add_names(&other);
        for (name, (weight, application)) in other.applications {
            self.applications.entry(name).or_insert((0, application)).0 += weight;
        }
        self.names.extend(other.names);
        self.processes.extend(other.processes);
        self.processes.sort_unstable();
        self.processes.dedup();
    }

    fn add_folded(&mut self, facts: &'a FoldedEndpointFacts, ids: &BTreeMap<ProcessNumber, ProcessId>) {
        for id in facts.processes.iter().filter_map(|number| ids.get(number)) {
            if !self.processes.contains(id) {
                self.processes.push(*id);
            }
        }
        for (display, weight) in &facts.display_names {
            self.display_names.entry(&display.name).or_insert((0, display)).0 += weight;
        }
        for (application, weight) in &facts.applications {
            self.applications.entry(&application.name).or_insert((0, application)).0 += weight;
        }
        self.names.extend(&facts.names);
    }
}

/// The flows of an endpoint that have one display name, and what is known about them.
#[derive(Default)]
struct NamedFlows<'a> {
    facts: EndpointFacts<'a>,
    flows: Vec<&'a Flow>,
}

/// The flows of an endpoint by their display name. Those without one are a group too.
#[derive(Default)]
struct FlowsByName<'a>(BTreeMap<Option<&'a Name>, NamedFlows<'a>>);

impl<'a> FlowsByName<'a> {
    fn add(&mut self, known: &'a ReportFlow) {
        // Clients of the target are distinguished by their addresses.
        let name = known.display_name().filter(|_| known.flow.opened_by == Direction::Egress);
        let group = self.0.entry(name.map(|shown| &shown.name)).or_default();
        group.facts.add(known);
        group.flows.push(&known.flow);
    }
}

/// Joins names, protocols and processes to endpoints: those of their flows, and the names of their
/// address. Several hosts may share an address: flows with another display name than most bytes of
/// the endpoint become an endpoint of their own. Flows without a name, and folded ones, stay with
/// those that have most bytes.
pub(super) fn endpoints(
    endpoints: Vec<Endpoint>,
    flows: &[ReportFlow],
    names: &Names,
    folded: Folded<'_>,
) -> Vec<ReportEndpoint> {
    let mut groups: HashMap<EndpointKey, FlowsByName<'_>> = HashMap::new();
    for known in flows {
        groups.entry(EndpointKey::of(&known.flow.key, known.flow.opened_by)).or_default().add(known);
    }
    let mut joined = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let of_flows = groups.remove(&endpoint.key).unwrap_or_default();
        join(endpoint, of_flows, (names, folded), &mut joined);
    }
    // The sort is stable, and the endpoints were sorted.
    joined.sort_by_key(|known| std::cmp::Reverse(known.endpoint.counters.both().wire_bytes));
    joined
}

/// Adds an endpoint, and one for each other display name of its flows.
fn join(
    mut endpoint: Endpoint,
    FlowsByName(mut groups): FlowsByName<'_>,
    (names, folded): (&Names, Folded<'_>),
    joined: &mut Vec<ReportEndpoint>,
) {
    let of_folded = folded.facts.endpoints.get(&endpoint.key);
    let mut weights = EndpointFacts::default();
    groups.values().for_each(|group| weights.add_names(&group.facts));
    of_folded.into_iter().for_each(|part| weights.add_folded(part, folded.ids));
    let shown = heaviest(weights.display_names.into_values()).map(|shown| &shown.name);
    let mut own = groups.remove(&None).unwrap_or_default();
    if let Some(named) = shown.and_then(|name| groups.remove(&Some(name))) {
        own.facts.join(named.facts);
        own.flows.extend(named.flows);
    }
    of_folded.into_iter().for_each(|part| own.facts.add_folded(part, folded.ids));
    let mut others = Vec::new();
    for NamedFlows { facts, flows } in groups.into_values() {
        others.push(of_endpoint(facts, endpoint.split_off(flows.into_iter()), names));
    }
    if !others.is_empty() {
        endpoint.handshake_rtt_ns = median(own.flows.iter().filter_map(|flow| flow.tcp?.handshake_rtt_ns).collect());
    }
    // All of its flows may have other names, if those with most bytes are folded elsewhere.
    if endpoint.flows > 0 || others.is_empty() {
        joined.push(of_endpoint(own.facts, endpoint, names));
    }
    joined.extend(others);
}

fn of_endpoint(facts: EndpointFacts<'_>, endpoint: Endpoint, names: &Names) -> ReportEndpoint {
    let mut all: Vec<SourcedName> = match endpoint.key.remote {
        Remote::Address(address) => names.address(address).to_vec(),
        Remote::Others => Vec::new(),
    };
    for named in facts.names {
        if !all.iter().any(|known| (&known.name, known.source) == (&named.name, named.source)) {
            all.push(named.clone());
        }
    }
    all.sort_by_key(|named| named.first_seen_ns);
    let mut processes = facts.processes;
    processes.sort_unstable();
    ReportEndpoint {
        display_name: heaviest(facts.display_names.into_values()).cloned(),
        names: all,
        application: heaviest(facts.applications.into_values()).cloned().or_else(|| registered_service(&endpoint.key)),
        processes,
        endpoint,
    }
}

/// The item with the largest weight, the first of several equal ones.
fn heaviest<'a, T>(weighed: impl Iterator<Item = (u64, &'a T)>) -> Option<&'a T> {
    weighed.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, item)| item)
}

/// Sums up flows with and without a name, and compares lookups with contacts.
pub(super) fn result(
    flows: &[ReportFlow],
    names: &Names,
    lookups: Vec<Lookup>,
    gateways: &[IpAddr],
    folded: &FoldedFacts,
) -> Naming {
    let mut naming =
        Naming { lookups, lost: names.lost(), flows: folded.flows, unnamed: folded.unnamed, ..Naming::default() };
    let mut hidden = folded.hidden.clone();
    let nameable = flows.iter().filter(|known| is_nameable(known.flow.key.remote.addr, gateways));
    for known in nameable.clone() {
        naming.flows.add(&known.flow);
        if known.display_name().is_none() {
            naming.unnamed.add(&known.flow);
        }
        for reason in known.naming.iter().flat_map(|naming| &naming.hidden) {
            hidden.entry(*reason).or_default().add(&known.flow);
        }
    }
    naming.hidden = hidden.into_iter().collect();
    let outgoing = nameable.filter(|known| known.flow.opened_by == Direction::Egress);
    let contact =
        |known: &ReportFlow| Contact { address: known.flow.key.remote.addr, began_ns: known.flow.first_seen_ns };
    let usage = names.usage(&outgoing.map(contact).chain(folded.contacts()).collect::<Vec<_>>());
    naming.unused = usage.unused.into_iter().cloned().collect();
    let without_lookup = usage.never_looked_up.into_iter().chain(folded.contacted_without_lookup.iter().copied());
    naming.contacted_without_lookup = without_lookup.collect::<BTreeSet<_>>().into_iter().collect();
    naming
}

/// Addresses of remotes that can have a name and have none, those with most bytes first.
pub(super) fn unnamed_addresses<'a>(
    endpoints: &'a [ReportEndpoint],
    gateways: &'a [IpAddr],
) -> impl Iterator<Item = IpAddr> + 'a {
    let mut seen = HashSet::new();
    let unnamed = endpoints.iter().filter(|known| known.display_name.is_none());
    unnamed.filter_map(move |known| match known.endpoint.key.remote {
        Remote::Address(address) if is_nameable(address, gateways) && seen.insert(address) => Some(address),
        _ => None,
    })
}

/// False for group addresses and for the gateway that netwatch itself creates: they have no names.
pub(super) fn is_nameable(address: IpAddr, gateways: &[IpAddr]) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_multicast() && !is_broadcast && !address.is_unspecified() && !gateways.contains(&address)
}

/// Well-known TCP ports and their service names in the IANA registry (RFC 6335).
const TCP_SERVICES: [(u16, &str); 32] = [
    (20, "ftp-data"),
    (21, "ftp"),
    (22, "ssh"),
    (23, "telnet"),
    (25, "smtp"),
    (53, "domain"),
    (80, "http"),
    (88, "kerberos"),
    (110, "pop3"),
    (111, "sunrpc"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (445, "microsoft-ds"),
    (465, "submissions"),
    (587, "submission"),
    (636, "ldaps"),
    (853, "domain-s"),
    (873, "rsync"),
    (993, "imaps"),
    (995, "pop3s"),
    (1883, "mqtt"),
    (2049, "nfs"),
    (3128, "ndl-aas"),
    (3306, "mysql"),
    (3389, "ms-wbt-server"),
    (5432, "postgresql"),
    (5671, "amqps"),
    (5672, "amqp"),
    (6379, "redis"),
    (8883, "secure-mqtt"),
    (9418, "git"),
];
/// Well-known UDP ports, likewise.
const UDP_SERVICES: [(u16, &str); 13] = [
    (53, "domain"),
    (67, "bootps"),
    (68, "bootpc"),
    (69, "tftp"),
    (88, "kerberos"),
    (123, "ntp"),
    (161, "snmp"),
    (443, "https"),
    (500, "isakmp"),
    (514, "syslog"),
    (853, "domain-s"),
    (3478, "stun"),
    (5353, "mdns"),
];

/// The service that IANA registered for the port of an endpoint: a guess, marked as such by its
/// evidence.
pub fn registered_service(key: &EndpointKey) -> Option<ApplicationProtocol> {
    let services: &[(u16, &'static str)] = match key.protocol {
        Protocol::TCP => &TCP_SERVICES,
        Protocol::UDP => &UDP_SERVICES,
        _ => return None,
    };
    let (_, service) = services.iter().find(|(port, _)| *port == key.port)?;
    Some(ApplicationProtocol { name: (*service).into(), evidence: ApplicationProtocol::PORT.into() })
}
