//! The entry point: takes samples, returns names.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::dns::{Addresses, DnsTracker, Lookup, NewResponses, ObservedMessage, QueryFlows};
use super::event::{HttpRequest, NameEvent};
use super::exchanges::{ExchangeTable, ServiceExchanges};
use super::facts::{FlowFacts, NameSource, SourcedName};
use super::flows::{FactsEntry, FactsTable, FlowEvent};
use super::hidden::{self, Hidden};
use super::hosts::Hosts;
use super::limits::{NameLimits, NamesLost};
use super::sample::NameSample;
use super::tunnelled;
use crate::flow::{Direction, FlowKey, ObservationPoint};
use crate::wire::dns::DnsMessage;
use crate::wire::tls::{Carrier, Ech, Hello};
use crate::wire::{Application, Name, port};

/// Names of remotes, and the facts they come from.
#[derive(Debug)]
pub struct Names {
    flows: FactsTable,
    dns: DnsTracker,
    addresses: Addresses,
    hosts: Hosts,
    exchanges: ExchangeTable,
    /// Names of reverse lookups that netwatch made itself.
    resolved: HashMap<IpAddr, Name>,
    lost: NamesLost,
    now_ns: u64,
}

/// The name to display for the remote of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestName<'a> {
    /// The name.
    pub name: &'a Name,
    /// Where it comes from.
    pub source: NameSource,
}

impl Names {
    /// Starts with the names of the hosts file only.
    pub fn new(limits: NameLimits, hosts: Hosts) -> Self {
        Self {
            flows: FactsTable::new(limits),
            dns: DnsTracker::new(&limits),
            addresses: Addresses::new(&limits),
            hosts,
            exchanges: ExchangeTable::default(),
            resolved: HashMap::new(),
            lost: NamesLost::default(),
            now_ns: 0,
        }
    }

    /// Takes a sample. Samples must come in the order of capture.
    pub fn observe(&mut self, sample: &NameSample<'_>) {
        self.now_ns = sample.time_ns;
        let events = self.flows.observe(sample, &mut self.lost);
        self.apply(events);
        let flows = &self.flows;
        self.exchanges.observe(sample, || flows.get(&sample.flow).map(|entry| &entry.facts));
        self.open_tunnel(sample);
    }

    /// Reads the flow inside a tunnel under a key of its own. It is not counted, and its names are
    /// not those of the tunnel. Tunnels in tunnels are not opened.
    fn open_tunnel(&mut self, sample: &NameSample<'_>) {
        let Some(tunnelled) = tunnelled::open(sample) else { return };
        self.apply_event(sample.flow, sample.direction, NameEvent::Proven(tunnelled.application, "header"));
        let events = self.flows.observe(&tunnelled.sample(sample), &mut self.lost);
        self.apply(events);
    }

    /// Parses buffered bytes as far as possible. More samples may follow.
    pub fn finish(&mut self) {
        let events = self.flows.finish();
        self.apply(events);
        self.exchanges.finish();
    }

    /// The facts of a flow.
    pub fn flow(&self, flow: &FlowKey) -> Option<&FlowFacts> {
        self.flows.get(flow).map(|entry| &entry.facts)
    }

    /// All flows with facts, in no order.
    pub fn flows(&self) -> impl Iterator<Item = (&FlowKey, &FlowFacts)> {
        self.flows.iter()
    }

    /// Parses the buffered bytes of one flow as far as possible. Its connection has ended.
    pub fn finish_flow(&mut self, flow: &FlowKey) {
        let events = self.flows.finish_flow(flow);
        self.apply(events);
        self.exchanges.remove(flow);
    }

    /// Removes a flow that has ended; returns its facts. `None` if it was never observed or has
    /// been evicted.
    pub fn take(&mut self, flow: &FlowKey) -> Option<FlowFacts> {
        self.finish_flow(flow);
        self.flows.remove(flow)
    }

    /// All names of an address in the order in which they were seen first, without those of the
    /// hosts file.
    pub fn address(&self, address: IpAddr) -> &[SourcedName] {
        self.addresses.names(address)
    }

    /// All addresses with names, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &[SourcedName])> {
        self.addresses.iter()
    }

    /// The exchanges of the services of the target by their local TCP ports, without those in
    /// progress.
    pub fn exchanges(&self) -> &BTreeMap<u16, ServiceExchanges> {
        self.exchanges.services()
    }

    /// The hosts file.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// DNS lookups, in the order in which they were first seen.
    pub fn lookups(&self) -> &[Lookup] {
        self.dns.lookups.all()
    }

    /// The flows of the queries of each of [`Self::lookups`].
    pub fn query_flows(&self) -> &[QueryFlows] {
        self.dns.lookups.flows()
    }

    /// The lookups without the queries that may still be answered at this time.
    pub fn settled_lookups(&self, now_ns: u64) -> Vec<Lookup> {
        self.dns.settled_lookups(now_ns)
    }

    /// Lookups of the target that failed until this time; those of a name for several record types
    /// once.
    pub fn failed_lookups(&self, now_ns: u64) -> u64 {
        self.dns.failed_lookups(now_ns)
    }

    /// Those lookups among them that were answered with an error, which no later answer takes back.
    pub fn lookups_with_error(&self) -> u64 {
        self.dns.lookups_with_error()
    }

    /// Lookups that are new or have changed since the last call, with their index in
    /// [`Self::lookups`].
    pub fn changed_lookups(&mut self) -> impl Iterator<Item = (usize, &Lookup)> {
        self.dns.lookups.take_changed()
    }

    /// The DNS responses to queries of the target since the last call.
    pub fn take_responses(&mut self) -> NewResponses {
        self.dns.lookups.take_responses()
    }

    /// What exceeded the limits or could not be parsed.
    pub fn lost(&self) -> NamesLost {
        self.lost
    }

    /// Bytes of payload that are buffered.
    pub fn waiting_bytes(&self) -> usize {
        self.flows.held()
    }

    /// The name of the remote of a flow that began at `began_ns`: of the flow itself; else of the
    /// last DNS response before it began; else of the hosts file; else of [`Self::resolve`]. The
    /// outer name of an encrypted ClientHello ranks after DNS, which may have the true name. Names
    /// in a flow that the remote opened are those of the target, and those that a proxy receives
    /// are those of hosts behind it.
    pub fn best(&self, flow: &FlowKey, began_ns: u64) -> Option<BestName<'_>> {
        let is_of_remote = |entry: &&FactsEntry| entry.opened_by == Direction::Egress && !entry.facts.is_proxied;
        let entry = self.flows.get(flow).filter(is_of_remote);
        let own = entry.and_then(|entry| own_name(&entry.facts));
        let is_cover = self.ech(flow) == Some(Hidden::Ech);
        let own_or_looked_up = own.filter(|_| !is_cover).or_else(|| self.looked_up(flow.remote.addr, began_ns)).or(own);
        own_or_looked_up.or_else(|| self.reverse(flow.remote.addr))
    }

    /// The name of an address at a time, from DNS, the hosts file or [`Self::resolve`].
    pub fn of_address(&self, address: IpAddr, time_ns: u64) -> Option<BestName<'_>> {
        self.looked_up(address, time_ns).or_else(|| self.reverse(address))
    }

    fn reverse(&self, address: IpAddr) -> Option<BestName<'_>> {
        self.resolved.get(&address).map(|name| BestName { name, source: NameSource::Ptr })
    }

    /// Adds names of addresses that have no other, from reverse lookups.
    pub fn resolve(&mut self, names: impl IntoIterator<Item = (IpAddr, Name)>) {
        self.resolved.extend(names);
    }

    /// The name of an address at a time, from DNS or the hosts file.
    pub fn looked_up(&self, address: IpAddr, time_ns: u64) -> Option<BestName<'_>> {
        let assigned = self.addresses.assigned_before(address, time_ns);
        let assigned = assigned.map(|named| BestName { name: named.shown(), source: named.source });
        assigned.or_else(|| self.hosts.name(address).map(|name| BestName { name, source: NameSource::Hosts }))
    }

    /// The reasons why names of a flow are hidden.
    pub fn hidden(&self, flow: &FlowKey) -> Vec<Hidden> {
        let Some(entry) = self.flows.get(flow) else { return Vec::new() };
        hidden::hidden(flow, &entry.facts, entry.opened_by, self.ech(flow))
    }

    fn ech(&self, flow: &FlowKey) -> Option<Hidden> {
        let hello = self.flow(flow)?.hello.as_ref()?;
        match (hello.ech?, &hello.server_name) {
            (Ech::Outer { config_id }, Some(name)) if self.dns.has_ech_config(config_id, name) => Some(Hidden::Ech),
            (Ech::Outer { .. }, _) => Some(Hidden::EchPossible),
            (Ech::Inner, _) => None,
        }
    }

    fn apply(&mut self, events: Vec<FlowEvent>) {
        for FlowEvent { flow, direction, event } in events {
            if let NameEvent::Dns(message) = event {
                self.observe_dns(flow, direction, &message);
            } else {
                self.apply_event(flow, direction, event);
            }
        }
    }

    fn observe_dns(&mut self, flow: FlowKey, direction: Direction, message: &DnsMessage) {
        let application = dns_of(&flow);
        self.flows.update(&flow, |facts| facts.identify(application, "message"));
        let opened = self.flows.get(&flow).is_some_and(|entry| entry.opened_by == Direction::Egress);
        // Multicast responses have no query. Other responses without one are trusted if the target
        // opened the flow, in case its query was not sampled.
        let is_trusted = opened || application != Application::Dns || flow.point == ObservationPoint::Loopback;
        let observed = ObservedMessage { message, application, flow, direction, time_ns: self.now_ns, is_trusted };
        self.dns.observe(&observed, &mut self.addresses, &mut self.lost);
    }

    fn apply_event(&mut self, flow: FlowKey, direction: Direction, event: NameEvent) {
        let now_ns = self.now_ns;
        self.lost.http2_broken += u64::from(matches!(event, NameEvent::Http2Broken));
        let outcome = self.flows.update(&flow, |facts| {
            let (name, source) = record_event(facts, direction, event)?;
            let has_room = facts.add_name(name.clone(), source, now_ns);
            Some((name, source, has_room, facts.is_proxied))
        });
        let Some(Some((name, source, has_room, is_proxied))) = outcome else { return };
        self.lost.names += u64::from(!has_room);
        // A name belongs to the server, which is at the other end than the sender of the name;
        // behind a proxy it does not belong to that end.
        if direction == Direction::Egress && !is_proxied && !is_address(&name) {
            let named = SourcedName { name, source, question: None, first_seen_ns: now_ns };
            self.addresses.add(flow.remote.addr, named, &mut self.lost);
        }
    }
}

/// Adds an event to the facts; returns the name that it contains.
fn record_event(facts: &mut FlowFacts, direction: Direction, event: NameEvent) -> Option<(Name, NameSource)> {
    match event {
        NameEvent::ClientHello(hello) => return record_hello(facts, hello),
        NameEvent::ChloName(name) => return Some((name, NameSource::Quic)),
        NameEvent::Request(request) => return record_request(facts, request),
        NameEvent::Authority(name) => return Some((name, NameSource::Http)),
        NameEvent::Proven(application, evidence) => facts.identify(application, evidence),
        NameEvent::FollowsUnknown => facts.is_proxied = true,
        NameEvent::ServerHello(hello) => drop(facts.server_hello.get_or_insert(hello)),
        NameEvent::Quic(version) => drop(facts.quic.get_or_insert(version)),
        NameEvent::Banner(banner) if direction == Direction::Egress => drop(facts.banner.egress.get_or_insert(banner)),
        NameEvent::Banner(banner) => drop(facts.banner.ingress.get_or_insert(banner)),
        NameEvent::Dns(_) | NameEvent::Http2Broken => {}
    }
    None
}

fn record_hello(facts: &mut FlowFacts, hello: Box<Hello>) -> Option<(Name, NameSource)> {
    let (application, source) = match hello.carrier {
        Carrier::Tls => (Application::Tls, NameSource::Sni),
        Carrier::Dtls => (Application::Dtls, NameSource::Sni),
        Carrier::Quic => (Application::Quic, NameSource::Quic),
    };
    facts.identify(application, "client_hello");
    let name = hello.server_name.clone();
    facts.set_hello(hello);
    name.map(|name| (name, source))
}

fn record_request(facts: &mut FlowFacts, request: HttpRequest) -> Option<(Name, NameSource)> {
    facts.request.get_or_insert(request.line);
    facts.is_proxied |= request.is_proxied;
    request.host.map(|host| (host, NameSource::Http))
}

/// The best name from the flow itself. A host that is only an IP address is not a name.
fn own_name(facts: &FlowFacts) -> Option<BestName<'_>> {
    let rank = |source| [NameSource::Sni, NameSource::Quic, NameSource::Http].iter().position(|known| *known == source);
    let named = facts.names.iter().filter(|named| !is_address(&named.name));
    // `min_by_key` returns the first of several equally good ones.
    named.min_by_key(|named| rank(named.source)).map(|named| BestName { name: &named.name, source: named.source })
}

/// Whether the name is an IP address, with or without a zone: `198.51.100.7` or `[2001:db8::1]`.
fn is_address(name: &Name) -> bool {
    let name = name.as_str();
    let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

/// The kind of DNS that is used at the ports of a flow.
fn dns_of(flow: &FlowKey) -> Application {
    match (flow.local.port, flow.remote.port) {
        (port::MDNS, _) | (_, port::MDNS) => Application::Mdns,
        (port::LLMNR, _) | (_, port::LLMNR) => Application::Llmnr,
        _ => Application::Dns,
    }
}
