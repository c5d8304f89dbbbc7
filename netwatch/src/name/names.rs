//! The whole: samples go in, names come out.

use std::collections::HashMap;
use std::net::IpAddr;

use super::dns::{Addresses, Dns, Heard, Lookup};
use super::event::{Event, Request};
use super::facts::{FlowFacts, Named, Source};
use super::flows::{Flows, Occurred};
use super::hidden::{self, Hidden};
use super::hosts::Hosts;
use super::limits::{Limits, Lost};
use super::sample::NameSample;
use super::tunnelled;
use crate::flow::{Direction, FlowKey, ObservationPoint};
use crate::wire::dns::Message;
use crate::wire::tls::{Carrier, Ech, Hello};
use crate::wire::{Application, Name, port};

/// Names of remotes.
#[derive(Debug)]
pub struct Names {
    flows: Flows,
    dns: Dns,
    addresses: Addresses,
    hosts: Hosts,
    /// Names that somebody else than the target asked for.
    resolved: HashMap<IpAddr, Name>,
    lost: Lost,
    now_ns: u64,
}

/// The name that a flow's remote is best shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best<'a> {
    /// The name.
    pub name: &'a Name,
    /// How it is known.
    pub source: Source,
}

impl Names {
    /// Nothing is known yet but the hosts file.
    pub fn new(limits: Limits, hosts: Hosts) -> Self {
        Self {
            flows: Flows::new(limits),
            dns: Dns::new(&limits),
            addresses: Addresses::new(&limits),
            hosts,
            resolved: HashMap::new(),
            lost: Lost::default(),
            now_ns: 0,
        }
    }

    /// Takes a sample. In order of capture: what comes later is later.
    pub fn observe(&mut self, sample: &NameSample<'_>) {
        self.now_ns = sample.time_ns;
        let occurred = self.flows.observe(sample, &mut self.lost);
        self.learn(occurred);
        self.open_tunnel(sample);
    }

    /// What a tunnel carries is a flow of its own, which nothing counts; its names are nobody else's. Tunnels in tunnels stay closed.
    fn open_tunnel(&mut self, sample: &NameSample<'_>) {
        let Some(tunnelled) = tunnelled::open(sample) else { return };
        self.note(sample.flow, sample.direction, Event::Proven(tunnelled.application, "header"));
        let occurred = self.flows.observe(&tunnelled.sample(sample), &mut self.lost);
        self.learn(occurred);
    }

    /// Reads what still waits for more, as far as it goes. Samples may still follow.
    pub fn finish(&mut self) {
        let occurred = self.flows.finish();
        self.learn(occurred);
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
        let occurred = self.flows.finish_flow(flow);
        self.learn(occurred);
    }

    /// Removes a flow that has ended; returns its facts. `None` if it was never observed or has been evicted.
    pub fn take(&mut self, flow: &FlowKey) -> Option<FlowFacts> {
        let occurred = self.flows.finish_flow(flow);
        self.learn(occurred);
        self.flows.remove(flow)
    }

    /// All names of an address, in the order in which they were seen; not the hosts file's.
    pub fn address(&self, address: IpAddr) -> &[Named] {
        self.addresses.names(address)
    }

    /// All addresses that have names, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &[Named])> {
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
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Bytes of payload that wait for more.
    pub fn waiting_bytes(&self) -> usize {
        self.flows.held()
    }

    /// The name of the remote of a flow that began at a time: what the flow itself says, else what DNS last answered before it began, else the
    /// hosts file, at last [`Self::resolve`]. A server name that
    /// covers an encrypted one comes after DNS, which may know the true one.
    pub fn best(&self, flow: &FlowKey, began_ns: u64) -> Option<Best<'_>> {
        let own = self.flow(flow).and_then(own_name);
        let is_cover = self.ech(flow) == Some(Hidden::Ech);
        let own_or_asked = own.filter(|_| !is_cover).or_else(|| self.looked_up(flow.remote.addr, began_ns)).or(own);
        own_or_asked.or_else(|| self.resolved.get(&flow.remote.addr).map(|name| Best { name, source: Source::Ptr }))
    }

    /// Names that were asked for addresses which have no other.
    pub fn resolve(&mut self, names: impl IntoIterator<Item = (IpAddr, Name)>) {
        self.resolved.extend(names);
    }

    /// The name of an address at a time, as DNS or the hosts file have it.
    pub fn looked_up(&self, address: IpAddr, time_ns: u64) -> Option<Best<'_>> {
        let given = self.addresses.given_before(address, time_ns);
        let given = given.map(|named| Best { name: named.shown(), source: named.source });
        given.or_else(|| self.hosts.name(address).map(|name| Best { name, source: Source::Hosts }))
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

    fn learn(&mut self, occurred: Vec<Occurred>) {
        for Occurred { flow, direction, event } in occurred {
            if let Event::Dns(message) = event {
                self.hear(flow, direction, &message);
            } else {
                self.note(flow, direction, event);
            }
        }
    }

    fn hear(&mut self, flow: FlowKey, direction: Direction, message: &Message) {
        let application = dns_of(&flow);
        self.flows.learn(&flow, |facts| facts.prove(application, "message"));
        let opened = self.flows.get(&flow).is_some_and(|entry| entry.opened_by == Direction::Egress);
        // Multicast answers come unasked. Others that do are believed if the target went there, in case its question was not sampled.
        let is_trusted = opened || application != Application::Dns || flow.scope == ObservationPoint::Loopback;
        let heard = Heard { message, application, flow, direction, time_ns: self.now_ns, is_trusted };
        self.dns.hear(&heard, &mut self.addresses, &mut self.lost);
    }

    fn note(&mut self, flow: FlowKey, direction: Direction, event: Event) {
        let now_ns = self.now_ns;
        self.lost.http2_broken += u64::from(matches!(event, Event::Http2Broken));
        let learned = self.flows.learn(&flow, |facts| {
            let (name, source) = note(facts, direction, event)?;
            let has_room = facts.add_name(name.clone(), source, now_ns);
            Some((name, source, has_room, facts.is_proxied))
        });
        let Some(Some((name, source, has_room, is_proxied))) = learned else { return };
        self.lost.names += u64::from(!has_room);
        // A name is the server's, who is at the other end from where it was said; behind a proxy it is not that end's.
        if direction == Direction::Egress && !is_proxied && !is_address(&name) {
            let named = Named { name, source, question: None, first_seen_ns: now_ns };
            self.addresses.add(flow.remote.addr, named, &mut self.lost);
        }
    }
}

/// Adds an event to what is known; a name that it has.
fn note(facts: &mut FlowFacts, direction: Direction, event: Event) -> Option<(Name, Source)> {
    match event {
        Event::ClientHello(hello) => return note_hello(facts, hello),
        Event::ChloName(name) => return Some((name, Source::Quic)),
        Event::Request(request) => return note_request(facts, request),
        Event::Authority(name) => return Some((name, Source::Http)),
        Event::Proven(application, evidence) => facts.prove(application, evidence),
        Event::Behind => facts.is_proxied = true,
        Event::ServerHello(hello) => drop(facts.server_hello.get_or_insert(hello)),
        Event::Quic(version) => drop(facts.quic.get_or_insert(version)),
        Event::Banner(banner) if direction == Direction::Egress => drop(facts.banner.egress.get_or_insert(banner)),
        Event::Banner(banner) => drop(facts.banner.ingress.get_or_insert(banner)),
        Event::Dns(_) | Event::Http2Broken => {}
    }
    None
}

fn note_hello(facts: &mut FlowFacts, hello: Box<Hello>) -> Option<(Name, Source)> {
    let (application, source) = match hello.carrier {
        Carrier::Tls => (Application::Tls, Source::Sni),
        Carrier::Dtls => (Application::Dtls, Source::Sni),
        Carrier::Quic => (Application::Quic, Source::Quic),
    };
    facts.prove(application, "client_hello");
    let name = hello.server_name.clone();
    facts.set_hello(hello);
    name.map(|name| (name, source))
}

fn note_request(facts: &mut FlowFacts, request: Request) -> Option<(Name, Source)> {
    facts.request.get_or_insert(request.line);
    facts.is_proxied |= request.is_proxied;
    request.host.map(|host| (host, Source::Http))
}

/// The best of what a flow says itself. A host that is only an address names nobody.
fn own_name(facts: &FlowFacts) -> Option<Best<'_>> {
    let rank = |source| [Source::Sni, Source::Quic, Source::Http].iter().position(|known| *known == source);
    let named = facts.names.iter().filter(|named| !is_address(&named.name));
    // The first of several that are as good: `min_by_key` keeps that one.
    named.min_by_key(|named| rank(named.source)).map(|named| Best { name: &named.name, source: named.source })
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
