//! The whole: samples go in, names come out.

use std::collections::HashMap;
use std::net::IpAddr;

use super::dns::{Addresses, DnsTracker, Lookup, ObservedMessage};
use super::event::{HttpRequest, NameEvent};
use super::facts::{FlowFacts, NameSource, SourcedName};
use super::flows::{FlowEvent, FlowTable};
use super::hidden::{self, Hidden};
use super::hosts::Hosts;
use super::limits::{NameLimits, NamesLost};
use super::sample::NameSample;
use super::tunnelled;
use crate::flow::{Direction, FlowKey, ObservationPoint};
use crate::wire::dns::DnsMessage;
use crate::wire::tls::{Carrier, Ech, Hello};
use crate::wire::{Application, Name, port};

/// Names of remotes.
#[derive(Debug)]
pub struct Names {
    flows: FlowTable,
    dns: DnsTracker,
    addresses: Addresses,
    hosts: Hosts,
    /// Names that somebody else than the target asked for.
    resolved: HashMap<IpAddr, Name>,
    lost: NamesLost,
    now_ns: u64,
}

/// The name that a flow's remote is best shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestName<'a> {
    /// The name.
    pub name: &'a Name,
    /// How it is known.
    pub source: NameSource,
}

impl Names {
    /// Nothing is known yet but the hosts file.
    pub fn new(limits: NameLimits, hosts: Hosts) -> Self {
        Self {
            flows: FlowTable::new(limits),
            dns: DnsTracker::new(&limits),
            addresses: Addresses::new(&limits),
            hosts,
            resolved: HashMap::new(),
            lost: NamesLost::default(),
            now_ns: 0,
        }
    }

    /// Takes a sample. In order of capture: what comes later is later.
    pub fn observe(&mut self, sample: &NameSample<'_>) {
        self.now_ns = sample.time_ns;
        let events = self.flows.observe(sample, &mut self.lost);
        self.learn(events);
        self.open_tunnel(sample);
    }

    /// What a tunnel carries is a flow of its own, which nothing counts; its names are nobody else's. Tunnels in tunnels stay closed.
    fn open_tunnel(&mut self, sample: &NameSample<'_>) {
        let Some(tunnelled) = tunnelled::open(sample) else { return };
        self.note(sample.flow, sample.direction, NameEvent::Proven(tunnelled.application, "header"));
        let events = self.flows.observe(&tunnelled.sample(sample), &mut self.lost);
        self.learn(events);
    }

    /// Reads what still waits for more, as far as it goes. Samples may still follow.
    pub fn finish(&mut self) {
        let events = self.flows.finish();
        self.learn(events);
    }

    /// What is known of a flow.
    pub fn flow(&self, flow: &FlowKey) -> Option<&FlowFacts> {
        self.flows.get(flow).map(|entry| &entry.facts)
    }

    /// All flows of which something is known, in no order.
    pub fn flows(&self) -> impl Iterator<Item = (&FlowKey, &FlowFacts)> {
        self.flows.iter()
    }

    /// Reads what still waits for more data of one flow.
    pub fn finish_flow(&mut self, flow: &FlowKey) {
        let events = self.flows.finish_flow(flow);
        self.learn(events);
    }

    /// Removes a flow that has ended; returns its facts. `None` if it was never observed or has been evicted.
    pub fn take(&mut self, flow: &FlowKey) -> Option<FlowFacts> {
        let events = self.flows.finish_flow(flow);
        self.learn(events);
        self.flows.remove(flow)
    }

    /// All names of an address, in the order in which they were seen; not the hosts file's.
    pub fn address(&self, address: IpAddr) -> &[SourcedName] {
        self.addresses.names(address)
    }

    /// All addresses that have names, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &[SourcedName])> {
        self.addresses.iter()
    }

    /// The hosts file.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Questions of DNS, in the order in which they were first seen.
    pub fn lookups(&self) -> &[Lookup] {
        self.dns.lookups.all()
    }

    /// Lookups that are new or have changed since the last call, with their index in [`Self::lookups`].
    pub fn changed_lookups(&mut self) -> impl Iterator<Item = (usize, &Lookup)> {
        self.dns.lookups.take_changed()
    }

    /// What could not be kept.
    pub fn lost(&self) -> NamesLost {
        self.lost
    }

    /// Bytes of payload that wait for more.
    pub fn waiting_bytes(&self) -> usize {
        self.flows.held()
    }

    /// The name of the remote of a flow that began at a time: what the flow itself says, else what DNS last answered before it began, else the
    /// hosts file, at last [`Self::resolve`]. A server name that
    /// covers an encrypted one comes after DNS, which may know the true one.
    pub fn best(&self, flow: &FlowKey, began_ns: u64) -> Option<BestName<'_>> {
        let own = self.flow(flow).and_then(own_name);
        let is_cover = self.ech(flow) == Some(Hidden::Ech);
        let own_or_asked = own.filter(|_| !is_cover).or_else(|| self.looked_up(flow.remote.addr, began_ns)).or(own);
        own_or_asked
            .or_else(|| self.resolved.get(&flow.remote.addr).map(|name| BestName { name, source: NameSource::Ptr }))
    }

    /// Names that were asked for addresses which have no other.
    pub fn resolve(&mut self, names: impl IntoIterator<Item = (IpAddr, Name)>) {
        self.resolved.extend(names);
    }

    /// The name of an address at a time, as DNS or the hosts file have it.
    pub fn looked_up(&self, address: IpAddr, time_ns: u64) -> Option<BestName<'_>> {
        let given = self.addresses.given_before(address, time_ns);
        let given = given.map(|named| BestName { name: named.shown(), source: named.source });
        given.or_else(|| self.hosts.name(address).map(|name| BestName { name, source: NameSource::Hosts }))
    }

    /// What keeps names from being seen in a flow.
    pub fn hidden(&self, flow: &FlowKey) -> Vec<Hidden> {
        let Some(entry) = self.flows.get(flow) else { return Vec::new() };
        hidden::hidden(flow, &entry.facts, entry.opened_by, self.ech(flow))
    }

    fn ech(&self, flow: &FlowKey) -> Option<Hidden> {
        let hello = self.flow(flow)?.hello.as_ref()?;
        match (hello.ech?, &hello.server_name) {
            (Ech::Outer { config_id }, Some(name)) if self.dns.gave_ech(config_id, name) => Some(Hidden::Ech),
            (Ech::Outer { .. }, _) => Some(Hidden::EchPossible),
            (Ech::Inner, _) => None,
        }
    }

    fn learn(&mut self, events: Vec<FlowEvent>) {
        for FlowEvent { flow, direction, event } in events {
            if let NameEvent::Dns(message) = event {
                self.observe_dns(flow, direction, &message);
            } else {
                self.note(flow, direction, event);
            }
        }
    }

    fn observe_dns(&mut self, flow: FlowKey, direction: Direction, message: &DnsMessage) {
        let application = dns_of(&flow);
        self.flows.learn(&flow, |facts| facts.prove(application, "message"));
        let opened = self.flows.get(&flow).is_some_and(|entry| entry.opened_by == Direction::Egress);
        // Multicast answers come unasked. Others that do are believed if the target went there, in case its question was not sampled.
        let is_trusted = opened || application != Application::Dns || flow.scope == ObservationPoint::Loopback;
        let observed = ObservedMessage { message, application, flow, direction, time_ns: self.now_ns, is_trusted };
        self.dns.observe(&observed, &mut self.addresses, &mut self.lost);
    }

    fn note(&mut self, flow: FlowKey, direction: Direction, event: NameEvent) {
        let now_ns = self.now_ns;
        self.lost.http2_broken += u64::from(matches!(event, NameEvent::Http2Broken));
        let learned = self.flows.learn(&flow, |facts| {
            let (name, source) = note(facts, direction, event)?;
            let has_room = facts.add_name(name.clone(), source, now_ns);
            Some((name, source, has_room, facts.is_proxied))
        });
        let Some(Some((name, source, has_room, is_proxied))) = learned else { return };
        self.lost.names += u64::from(!has_room);
        // A name is the server's, who is at the other end from where it was said; behind a proxy it is not that end's.
        if direction == Direction::Egress && !is_proxied && !is_address(&name) {
            let named = SourcedName { name, source, question: None, first_seen_ns: now_ns };
            self.addresses.add(flow.remote.addr, named, &mut self.lost);
        }
    }
}

/// Adds an event to what is known; a name that it has.
fn note(facts: &mut FlowFacts, direction: Direction, event: NameEvent) -> Option<(Name, NameSource)> {
    match event {
        NameEvent::ClientHello(hello) => return note_hello(facts, hello),
        NameEvent::ChloName(name) => return Some((name, NameSource::Quic)),
        NameEvent::Request(request) => return note_request(facts, request),
        NameEvent::Authority(name) => return Some((name, NameSource::Http)),
        NameEvent::Proven(application, evidence) => facts.prove(application, evidence),
        NameEvent::Behind => facts.is_proxied = true,
        NameEvent::ServerHello(hello) => drop(facts.server_hello.get_or_insert(hello)),
        NameEvent::Quic(version) => drop(facts.quic.get_or_insert(version)),
        NameEvent::Banner(banner) if direction == Direction::Egress => drop(facts.banner.egress.get_or_insert(banner)),
        NameEvent::Banner(banner) => drop(facts.banner.ingress.get_or_insert(banner)),
        NameEvent::Dns(_) | NameEvent::Http2Broken => {}
    }
    None
}

fn note_hello(facts: &mut FlowFacts, hello: Box<Hello>) -> Option<(Name, NameSource)> {
    let (application, source) = match hello.carrier {
        Carrier::Tls => (Application::Tls, NameSource::Sni),
        Carrier::Dtls => (Application::Dtls, NameSource::Sni),
        Carrier::Quic => (Application::Quic, NameSource::Quic),
    };
    facts.prove(application, "client_hello");
    let name = hello.server_name.clone();
    facts.set_hello(hello);
    name.map(|name| (name, source))
}

fn note_request(facts: &mut FlowFacts, request: HttpRequest) -> Option<(Name, NameSource)> {
    facts.request.get_or_insert(request.line);
    facts.is_proxied |= request.is_proxied;
    request.host.map(|host| (host, NameSource::Http))
}

/// The best of what a flow says itself. A host that is only an address names nobody.
fn own_name(facts: &FlowFacts) -> Option<BestName<'_>> {
    let rank = |source| [NameSource::Sni, NameSource::Quic, NameSource::Http].iter().position(|known| *known == source);
    let named = facts.names.iter().filter(|named| !is_address(&named.name));
    // The first of several that are as good: `min_by_key` keeps that one.
    named.min_by_key(|named| rank(named.source)).map(|named| BestName { name: &named.name, source: named.source })
}

/// `198.51.100.7`, `[2001:db8::1]`, also with a zone.
fn is_address(name: &Name) -> bool {
    let name = name.as_str();
    let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

/// Which DNS is spoken at the ports of a flow.
fn dns_of(flow: &FlowKey) -> Application {
    match (flow.local.port, flow.remote.port) {
        (port::MDNS, _) | (_, port::MDNS) => Application::Mdns,
        (port::LLMNR, _) | (_, port::LLMNR) => Application::Llmnr,
        _ => Application::Dns,
    }
}
