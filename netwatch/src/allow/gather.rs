//! The accesses of a report: everything that a check decides about.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::access::{AccessPeer, AccessTarget, EvidentName, NetworkAccess, ProvenProgram};
use super::asked::AskedNames;
use crate::flow::{Direction, EndpointKey, Protocol, Remote};
use crate::name::{Hidden, NameSource};
use crate::process::{AttemptCause, AttemptTarget, Evidence, ProcessId};
use crate::report::{AddressRole, ApplicationProtocol, Report, ReportEndpoint, ReportFlow};
use crate::wire::{Application, Name, port};

/// Everything that distinguishes accesses of one report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct AccessKey {
    direction: Direction,
    target: AccessTarget,
    claimed: BTreeSet<EvidentName>,
    /// The name that the program asked for, or that the hosts file has.
    own_name: Option<EvidentName>,
    /// The processes, and whether it was their socket.
    users: Vec<(ProcessId, bool)>,
    only_failed: bool,
    is_folded: bool,
    is_remnant: bool,
}

/// Collects the accesses of a report. These are left out, because no rule can concern them: the
/// loopback and the link of the run, DNS to the resolvers of the machine (its lookups are
/// included), ICMP from remotes, ICMP errors that the kernel sent, and what a remote sent without
/// an answer.
pub fn accesses(report: &Report) -> Vec<NetworkAccess> {
    let asked = AskedNames::of(report);
    let merged = merged_endpoints(report);
    let mut gathering = Gathering::of(report, &merged);
    report.flows.iter().for_each(|known| gathering.add_flow(known));
    report.loopback.flows.iter().for_each(|known| gathering.add_host_service(known));
    merged.values().for_each(|known| gathering.add_folded(known));
    gathering.add_attempts();
    gathering.add_lookups();
    let Gathering { counts, .. } = gathering;
    counts.into_iter().map(|(key, count)| access(report, &asked, key, count)).collect()
}

/// The endpoints of a report by key: those of several names are one. What decides here is the
/// address.
fn merged_endpoints(report: &Report) -> BTreeMap<EndpointKey, ReportEndpoint> {
    let mut merged: BTreeMap<EndpointKey, ReportEndpoint> = BTreeMap::new();
    for known in &report.endpoints {
        match merged.entry(known.endpoint.key) {
            Entry::Vacant(place) => drop(place.insert(known.clone())),
            Entry::Occupied(mut place) => place.get_mut().add(known),
        }
    }
    merged
}

struct Gathering<'a> {
    report: &'a Report,
    counts: BTreeMap<AccessKey, u64>,
    /// Endpoints, with the number of flows that the report lists.
    endpoints: HashMap<EndpointKey, (&'a ReportEndpoint, u64)>,
    /// Remotes of flows other than ICMP.
    contacted: HashSet<IpAddr>,
    /// Ports that have a service.
    served: BTreeSet<(Protocol, u16)>,
}

impl<'a> Gathering<'a> {
    fn of(report: &'a Report, merged: &'a BTreeMap<EndpointKey, ReportEndpoint>) -> Self {
        let mut endpoints: HashMap<_, _> = merged.iter().map(|(key, known)| (*key, (known, 0))).collect();
        let mut contacted = HashSet::new();
        for known in &report.flows {
            let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
            endpoints.entry(key).and_modify(|(_, listed)| *listed += 1);
            if !key.protocol.is_icmp() {
                contacted.insert(known.flow.key.remote.addr);
            }
        }
        Self { report, counts: BTreeMap::new(), endpoints, contacted, served: report.served_ports() }
    }

    fn add_flow(&mut self, known: &ReportFlow) {
        let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
        let users = users_of(known);
        let application = known.naming.as_ref().and_then(|naming| naming.application.as_ref());
        if self.is_by_the_kernel(&key, &users) || self.is_dns_of_a_capture(application) {
            return;
        }
        let Some(target) = self.target(&key) else { return };
        let is_own = |source| matches!(source, NameSource::Hosts | NameSource::Dns);
        let own_name = known.display_name().filter(|shown| is_own(shown.source));
        let access = AccessKey {
            direction: key.direction,
            target,
            claimed: BTreeSet::new(),
            own_name: own_name.map(|shown| EvidentName { name: shown.name.clone(), source: shown.source }),
            users,
            only_failed: self.has_only_failed(&key),
            is_folded: false,
            is_remnant: self.is_remnant(&key),
        };
        let claimed = if key.direction == Direction::Egress { claimed_by(known) } else { BTreeSet::new() };
        self.add_claimed(access, claimed, known.flow.connections().max(1));
    }

    /// A flow of the loopback that leads to a service of the host (`--host-loopback`).
    fn add_host_service(&mut self, known: &ReportFlow) {
        let Some(service) = self.report.interface.host_service_of(&known.flow) else { return };
        let users = users_of(known);
        let access = AccessKey {
            direction: Direction::Egress,
            target: AccessTarget::Service {
                peer: AccessPeer::Host,
                protocol: service.protocol,
                port: Some(service.address.port()),
            },
            claimed: BTreeSet::new(),
            own_name: None,
            users,
            only_failed: false,
            is_folded: false,
            is_remnant: false,
        };
        self.count(access, known.flow.connections().max(1));
    }

    /// Adds the folded flows of an endpoint. Each server name of the endpoint may belong to them.
    fn add_folded(&mut self, known: &ReportEndpoint) {
        let key = known.endpoint.key;
        let listed = self.endpoints.get(&key).map_or(0, |(_, listed)| *listed);
        let folded = known.endpoint.flows.saturating_sub(listed);
        let users: Vec<_> = known.processes.iter().map(|process| (*process, true)).collect();
        let is_dns = self.is_dns_of_a_capture(known.application.as_ref());
        if folded == 0 || is_dns || self.is_by_the_kernel(&key, &users) {
            return;
        }
        let Some(target) = self.target(&key) else { return };
        let access = AccessKey {
            direction: key.direction,
            target,
            claimed: BTreeSet::new(),
            own_name: None,
            users,
            only_failed: known.endpoint.has_only_failed(),
            is_folded: true,
            is_remnant: self.is_remnant(&key),
        };
        let names = known.names.iter().map(|named| EvidentName { name: named.name.clone(), source: named.source });
        let claimed = names.filter(|named| is_claim(named) && key.direction == Direction::Egress).collect();
        self.add_claimed(access, claimed, folded);
    }

    /// Adds an access for each server name, because each one has to be allowed. Those that a proxy
    /// received belong to one access, which is to the proxy.
    fn add_claimed(&mut self, access: AccessKey, claimed: BTreeSet<EvidentName>, count: u64) {
        if claimed.is_empty() || access.own_name.is_some() {
            return self.count(AccessKey { claimed, ..access }, count);
        }
        let mut by_name: BTreeMap<Name, BTreeSet<EvidentName>> = BTreeMap::new();
        for known in claimed {
            by_name.entry(known.name.clone()).or_default().insert(known);
        }
        for claimed in by_name.into_values() {
            self.count(AccessKey { claimed, ..access.clone() }, count);
        }
    }

    fn count(&mut self, access: AccessKey, count: u64) {
        let sum = self.counts.entry(access).or_default();
        *sum = sum.saturating_add(count);
    }

    /// Connections that failed before a packet was sent. A datagram socket that connects sends
    /// nothing, and getaddrinfo(3) connects some only to sort addresses.
    fn add_attempts(&mut self) {
        for attempt in &self.report.attempts {
            let (AttemptTarget::Address(end), Some(Protocol::TCP)) = (&attempt.target, attempt.protocol) else {
                continue;
            };
            let key = EndpointKey {
                remote: Remote::Address(end.ip()),
                protocol: Protocol::TCP,
                port: end.port(),
                direction: Direction::Egress,
                fragment: false,
            };
            let is_without_packet = matches!(attempt.cause, AttemptCause::Errno(_) | AttemptCause::NoPacket);
            if !is_without_packet || self.endpoints.contains_key(&key) {
                continue;
            }
            let Some(mut target) = self.target(&key) else { continue };
            // Only packets prove that the other end of the link has this address.
            if let AccessTarget::Service { peer, .. } = &mut target
                && !self.report.interface.gateway.contains(&end.ip())
            {
                *peer = AccessPeer::Address(end.ip());
            }
            let access = AccessKey {
                direction: Direction::Egress,
                target,
                claimed: BTreeSet::new(),
                own_name: None,
                users: attempt.process.map(|process| (process, true)).into_iter().collect(),
                only_failed: true,
                is_folded: false,
                is_remnant: false,
            };
            self.count(access, attempt.count);
        }
    }

    fn add_lookups(&mut self) {
        let mut queriers: HashMap<&str, BTreeSet<ProcessId>> = HashMap::new();
        for attempt in &self.report.attempts {
            if let (AttemptTarget::Name(name, _), Some(process)) = (&attempt.target, attempt.process) {
                queriers.entry(name).or_default().insert(process);
            }
        }
        for lookup in &self.report.naming.lookups {
            if lookup.queried_by != Direction::Egress || lookup.application != Application::Dns {
                continue;
            }
            let name = &lookup.question.name;
            let users = queriers.get(name.as_str()).into_iter().flatten();
            let access = AccessKey {
                direction: Direction::Egress,
                target: AccessTarget::Lookup(name.clone()),
                claimed: BTreeSet::new(),
                own_name: None,
                users: users.map(|process| (*process, true)).collect(),
                only_failed: lookup.addresses.is_empty() && (lookup.failed() > 0 || lookup.unanswered() > 0),
                is_folded: false,
                is_remnant: false,
            };
            self.count(access, lookup.queries.max(lookup.responses).max(1));
        }
    }

    /// The port of an endpoint. That of fragments is not known: if all other traffic with the
    /// remote uses one port, they belong to it.
    fn port(&self, key: &EndpointKey) -> Option<u16> {
        if !key.protocol.has_ports() || !key.fragment {
            return key.protocol.has_ports().then_some(key.port);
        }
        let is_like = |other: &&EndpointKey| {
            let is_same = (other.remote, other.protocol, other.direction) == (key.remote, key.protocol, key.direction);
            is_same && !other.fragment
        };
        let mut ports = self.endpoints.keys().filter(is_like).map(|other| other.port);
        let port = ports.next()?;
        ports.next().is_none().then_some(port)
    }

    /// The target of an access to this endpoint; `None` if the endpoint is not checked.
    fn target(&self, key: &EndpointKey) -> Option<AccessTarget> {
        let Remote::Address(address) = key.remote else { return None };
        let interface = &self.report.interface;
        let port = self.port(key);
        let is_query = key.direction == Direction::Egress && port == Some(port::DNS);
        if is_query && interface.gateway.contains(&address) {
            return None;
        }
        if key.direction == Direction::Ingress && (key.protocol.is_icmp() || self.is_ignored(key)) {
            return None;
        }
        let peer = match interface.role_of(address) {
            AddressRole::OwnLink => return None,
            AddressRole::Gateway => AccessPeer::Host,
            AddressRole::Group | AddressRole::Other => AccessPeer::Address(address),
        };
        Some(AccessTarget::Service { peer, protocol: key.protocol, port })
    }

    /// Whether the program answered nothing of what a remote sent.
    fn is_ignored(&self, key: &EndpointKey) -> bool {
        let Some((known, _)) = self.endpoints.get(key) else { return false };
        let endpoint = &known.endpoint;
        match key.protocol {
            Protocol::TCP => endpoint.has_only_failed(),
            _ => endpoint.counters.egress.packets == 0,
        }
    }

    /// ICMP that no process sent, to a remote that the program has other traffic with: the kernel
    /// answers packets to closed sockets.
    fn is_by_the_kernel(&self, key: &EndpointKey, users: &[(ProcessId, bool)]) -> bool {
        let is_contacted = |address| self.contacted.contains(&address);
        let is_contacted = matches!(key.remote, Remote::Address(address) if is_contacted(address));
        key.protocol.is_icmp() && is_contacted && !users.iter().any(|(_, is_proven)| *is_proven)
    }

    /// A capture does not contain which servers are the resolvers of the machine.
    fn is_dns_of_a_capture(&self, application: Option<&ApplicationProtocol>) -> bool {
        let is_dns = |proven: &ApplicationProtocol| proven.is_proven() && proven.name == Application::Dns.name();
        self.report.replay.is_some() && application.is_some_and(is_dns)
    }

    fn is_remnant(&self, key: &EndpointKey) -> bool {
        let is_remnant = self.endpoints.get(key).is_some_and(|(known, _)| known.endpoint.is_remnant());
        is_remnant && !self.served.contains(&(key.protocol, key.port))
    }

    fn has_only_failed(&self, key: &EndpointKey) -> bool {
        self.endpoints.get(key).is_some_and(|(known, _)| known.endpoint.has_only_failed())
    }
}

/// The processes of a flow, and whether it was their socket.
fn users_of(known: &ReportFlow) -> Vec<(ProcessId, bool)> {
    known.users.iter().map(|user| (user.process, user.evidence != Evidence::Netns)).collect()
}

/// The server names in the packets of a flow, without the outer name of an encrypted ClientHello.
fn claimed_by(known: &ReportFlow) -> BTreeSet<EvidentName> {
    let Some(naming) = &known.naming else { return BTreeSet::new() };
    let is_cover = naming.hidden.contains(&Hidden::Ech);
    let shown = naming.display_name.iter().map(|shown| (&shown.name, shown.source));
    let all = naming.names.iter().map(|named| (&named.name, named.source)).chain(shown);
    all.map(|(name, source)| EvidentName { name: name.clone(), source })
        .filter(|named| is_claim(named) && !(is_cover && named.source != NameSource::Http))
        .collect()
}

/// Whether a client sends such a name to select the server. An address is not a name.
fn is_claim(named: &EvidentName) -> bool {
    let text = named.name.as_str();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_address = bare.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok());
    matches!(named.source, NameSource::Sni | NameSource::Quic | NameSource::Http) && !is_address
}

fn access(report: &Report, asked: &AskedNames, key: AccessKey, count: u64) -> NetworkAccess {
    let ids: Vec<ProcessId> = key.users.iter().map(|(process, _)| *process).collect();
    let peer = match &key.target {
        AccessTarget::Service { peer: AccessPeer::Address(address), .. } if key.direction == Direction::Egress => {
            Some(*address)
        }
        _ => None,
    };
    let mut names = peer.map(|address| asked.of_address(address)).unwrap_or_default();
    let own_name =
        key.own_name.filter(|own| peer.is_some() && (own.source == NameSource::Hosts || names.contains(own)));
    names.extend(own_name.clone().filter(|own| own.source == NameSource::Hosts));
    NetworkAccess {
        direction: key.direction,
        target: key.target,
        claimed: key.claimed,
        asked: names,
        own_name,
        programs: report.programs_of(&ids),
        proven: proven(report, &key.users),
        count,
        only_failed: key.only_failed,
        is_folded: key.is_folded,
        is_remnant: key.is_remnant,
    }
}

/// The proven programs, without wrappers whose child is among them.
fn proven(report: &Report, users: &[(ProcessId, bool)]) -> Vec<ProvenProgram> {
    let ids: Vec<ProcessId> = users.iter().filter(|(_, is_proven)| *is_proven).map(|(process, _)| *process).collect();
    let named = report.programs_of(&ids);
    let processes = ids.iter().filter_map(|id| report.processes.get(*id));
    let kept = processes.filter(|process| named.contains(process.program()));
    let programs: BTreeSet<ProvenProgram> =
        kept.map(|process| ProvenProgram { name: process.program().to_owned(), path: process.exe.clone() }).collect();
    programs.into_iter().collect()
}
