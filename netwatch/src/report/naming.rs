//! Names put to flows and endpoints, and how much had none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::known::{FlowNaming, KnownEndpoint, KnownFlow, Shown, Spoken, Tls};
use super::port;
use crate::flow::{Direction, Endpoint, EndpointKey, Flow, ObservationPoint, Remote};
use crate::name::{Contact, FlowFacts, Hidden, Lookup, Lost, Named, Names};
use crate::process::{ProcessId, Users};
use crate::wire::Name;

/// Flows, and the bytes that they carried.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many flows.
    pub flows: u64,
    /// Their bytes on the wire, both ways.
    pub wire_bytes: u64,
}

impl Share {
    fn add(&mut self, flow: &Flow) {
        self.flows += 1;
        self.wire_bytes += flow.counters.both().wire_bytes;
    }
}

/// Names as a result: what was asked of DNS, and what has no name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Naming {
    /// Questions of DNS, in the order in which they were first seen.
    pub lookups: Vec<Lookup>,
    /// Flows to or from somebody who could have a name: no groups, not the gateway.
    pub flows: Share,
    /// Those of them whose remote has none.
    pub unnamed: Share,
    /// What keeps names from being seen, and in how much.
    pub hidden: Vec<(Hidden, Share)>,
    /// Names that were looked up, had addresses, and were not used.
    pub unused: Vec<Name>,
    /// Addresses that the target went to without having looked them up.
    pub never_looked_up: Vec<IpAddr>,
    /// What could not be kept or read.
    pub lost: Lost,
}

/// Puts names to flows.
pub(super) fn flows(flows: impl Iterator<Item = Flow>, names: &Names, users: &Users) -> Vec<KnownFlow> {
    flows.map(|one| flow(one, names, users)).collect()
}

/// One flow with what is known of it so far.
pub(super) fn flow(flow: Flow, names: &Names, users: &Users) -> KnownFlow {
    KnownFlow { naming: of_flow(&flow, names).map(Box::new), users: users.of(&flow.key).to_vec(), flow }
}

fn of_flow(flow: &Flow, names: &Names) -> Option<FlowNaming> {
    let best = (flow.key.scope == ObservationPoint::Link).then(|| names.best(&flow.key, flow.first_seen_ns)).flatten();
    let facts = names.flow(&flow.key);
    let naming = FlowNaming {
        shown: best.map(|best| Shown { name: best.name.clone(), source: best.source }),
        names: facts.map(|facts| facts.names.clone()).unwrap_or_default(),
        spoken: facts.and_then(spoken),
        hidden: names.hidden(&flow.key),
        tls: facts.and_then(tls),
    };
    (naming != FlowNaming::default()).then_some(naming)
}

fn spoken(facts: &FlowFacts) -> Option<Spoken> {
    let proven = facts.applications.last()?;
    Some(Spoken { application: proven.application.name().into(), evidence: proven.evidence.into() })
}

fn tls(facts: &FlowFacts) -> Option<Tls> {
    let hello = facts.hello.as_ref()?;
    Some(Tls {
        offered_version: hello.version.to_string(),
        alpn: hello.alpn.iter().map(|alpn| alpn.as_str().to_owned()).collect(),
        ja4: hello.ja4.as_ref().map(|ja4| ja4.as_str().to_owned()),
        post_quantum: hello.post_quantum,
    })
}

/// What an endpoint's flows say of it.
#[derive(Default)]
struct Said<'a> {
    shown: BTreeMap<&'a Name, (u64, &'a Shown)>,
    spoken: BTreeMap<&'a str, (u64, &'a Spoken)>,
    names: Vec<&'a Named>,
    processes: Vec<ProcessId>,
}

impl<'a> Said<'a> {
    fn add(&mut self, known: &'a KnownFlow) {
        for user in known.users.iter().filter(|user| !self.processes.contains(&user.process)).collect::<Vec<_>>() {
            self.processes.push(user.process);
        }
        let Some(naming) = &known.naming else { return };
        let weight = known.flow.counters.both().wire_bytes;
        if let Some(shown) = &naming.shown {
            self.shown.entry(&shown.name).or_insert((0, shown)).0 += weight;
        }
        if let Some(spoken) = &naming.spoken {
            self.spoken.entry(&spoken.application).or_insert((0, spoken)).0 += weight;
        }
        self.names.extend(&naming.names);
    }
}

/// Puts names to endpoints, by their flows and by their address.
pub(super) fn endpoints(endpoints: Vec<Endpoint>, flows: &[KnownFlow], names: &Names) -> Vec<KnownEndpoint> {
    let mut said: HashMap<EndpointKey, Said<'_>> = HashMap::new();
    for known in flows {
        said.entry(EndpointKey::of(&known.flow.key, known.flow.opened_by)).or_default().add(known);
    }
    let known = |endpoint: Endpoint| of_endpoint(said.remove(&endpoint.key).unwrap_or_default(), endpoint, names);
    endpoints.into_iter().map(known).collect()
}

fn of_endpoint(said: Said<'_>, endpoint: Endpoint, names: &Names) -> KnownEndpoint {
    let mut all: Vec<Named> = match endpoint.key.remote {
        Remote::Address(address) => names.address(address).to_vec(),
        Remote::Others => Vec::new(),
    };
    for named in said.names {
        if !all.iter().any(|known| (&known.name, known.source) == (&named.name, named.source)) {
            all.push(named.clone());
        }
    }
    all.sort_by_key(|named| named.first_seen_ns);
    let mut processes = said.processes;
    processes.sort_unstable();
    KnownEndpoint {
        shown: heaviest(said.shown.into_values()).cloned(),
        names: all,
        spoken: heaviest(said.spoken.into_values()).cloned().or_else(|| port::spoken(&endpoint.key)),
        processes,
        endpoint,
    }
}

/// The first of those that carried most.
fn heaviest<'a, T>(weighed: impl Iterator<Item = (u64, &'a T)>) -> Option<&'a T> {
    weighed.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, thing)| thing)
}

/// Adds up what has a name and what has none.
pub(super) fn result(flows: &[KnownFlow], names: &Names, gateways: &[IpAddr]) -> Naming {
    let mut naming = Naming { lookups: names.lookups().to_vec(), lost: names.lost(), ..Naming::default() };
    let mut hidden: BTreeMap<Hidden, Share> = BTreeMap::new();
    let nameable = flows.iter().filter(|known| is_nameable(known.flow.key.remote.addr, gateways));
    for known in nameable.clone() {
        naming.flows.add(&known.flow);
        if known.shown().is_none() {
            naming.unnamed.add(&known.flow);
        }
        for why in known.naming.iter().flat_map(|naming| &naming.hidden) {
            hidden.entry(*why).or_default().add(&known.flow);
        }
    }
    naming.hidden = hidden.into_iter().collect();
    let went = nameable.filter(|known| known.flow.opened_by == Direction::Egress);
    let contacts: Vec<Contact> =
        went.map(|known| Contact { address: known.flow.key.remote.addr, began_ns: known.flow.first_seen_ns }).collect();
    let usage = names.usage(&contacts);
    naming.unused = usage.unused.into_iter().cloned().collect();
    naming.never_looked_up = usage.never_looked_up;
    naming
}

/// Addresses without a name that could have one, largest first.
pub(super) fn unnamed_addresses<'a>(
    endpoints: &'a [KnownEndpoint],
    gateways: &'a [IpAddr],
) -> impl Iterator<Item = IpAddr> + 'a {
    let mut seen = HashSet::new();
    endpoints.iter().filter(|known| known.shown.is_none()).filter_map(move |known| match known.endpoint.key.remote {
        Remote::Address(address) if is_nameable(address, gateways) && seen.insert(address) => Some(address),
        _ => None,
    })
}

/// Groups, and the gateway that the run itself made, have no names.
fn is_nameable(address: IpAddr, gateways: &[IpAddr]) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_multicast() && !is_broadcast && !address.is_unspecified() && !gateways.contains(&address)
}
