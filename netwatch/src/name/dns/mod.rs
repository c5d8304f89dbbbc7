//! What DNS said: questions with how they went, and names of addresses.

mod addresses;
mod chain;
mod lookups;
mod pending;

use std::net::IpAddr;

pub(super) use addresses::Addresses;
pub use lookups::{Lookup, ResponseTimes};

use super::facts::{NameSource, SourcedName};
use super::limits::{NameLimits, NamesLost};
use crate::flow::{Direction, FlowKey, ObservationPoint};
use crate::wire::dns::{DnsMessage, RecordData, RecordType};
use crate::wire::tls::EchConfig;
use crate::wire::{Application, Name};
use lookups::Lookups;
use pending::Pending;

/// Keys for encrypted hellos that are remembered.
const MAX_ECH: usize = 256;

/// Everything DNS.
#[derive(Debug)]
pub(super) struct DnsTracker {
    pending: Pending,
    pub lookups: Lookups,
    /// The most recent last.
    ech: std::collections::VecDeque<(Name, EchConfig)>,
}

/// A message and where it was.
#[derive(Debug)]
pub(super) struct ObservedMessage<'a> {
    pub message: &'a DnsMessage,
    pub application: Application,
    pub flow: FlowKey,
    pub direction: Direction,
    pub time_ns: u64,
    /// The target asked, or somebody does on whom it relies: addresses may be named after this.
    pub is_trusted: bool,
}

impl ObservedMessage<'_> {
    /// Who asked what this says or answers. On the loopback both ends are the target's.
    fn queried_by(&self) -> Direction {
        match self.flow.scope {
            ObservationPoint::Loopback => Direction::Egress,
            ObservationPoint::Link if self.message.is_response => self.direction.opposite(),
            ObservationPoint::Link => self.direction,
        }
    }
}

impl DnsTracker {
    pub fn new(limits: &NameLimits) -> Self {
        Self { pending: Pending::new(limits.pending), lookups: Lookups::new(limits), ech: Default::default() }
    }

    /// Takes a message in.
    pub fn observe(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        lost.records += observed.message.left_out as u64;
        if observed.message.is_response {
            self.answer(observed, addresses, lost);
        } else {
            self.question(observed, lost);
        }
    }

    fn question(&mut self, observed: &ObservedMessage<'_>, lost: &mut NamesLost) {
        for question in &observed.message.questions {
            self.lookups.count_query(question, observed, lost);
        }
        // Whoever hears a multicast question answers it, or nobody: no answer is waited for.
        if observed.application == Application::Dns {
            self.pending.ask(observed, lost);
        }
    }

    fn answer(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        let asked = self.pending.answer(observed);
        let took_ns = asked.map(|asked_ns| observed.time_ns.saturating_sub(asked_ns));
        for question in &observed.message.questions {
            self.lookups.count_response(question, observed, took_ns, lost);
        }
        if observed.is_trusted || asked.is_some() {
            self.name(observed, addresses, lost);
        }
    }

    /// Names addresses after what the answer says of them.
    fn name(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        let source = source(observed.application);
        // Multicast may name what is its own (RFC 6762 section 3), and not the rest of the world.
        let is_own = |owner: &Name| source != NameSource::Mdns || owner.as_str().ends_with(".local");
        for led in chain::follow(observed.message).into_iter().filter(|led| is_own(led.owner)) {
            let question = led.question.filter(|question| *question != led.owner).cloned();
            let named = SourcedName { name: led.owner.clone(), source, question, first_seen_ns: observed.time_ns };
            addresses.give(led.address, named, lost);
        }
        for record in &observed.message.records {
            match &record.data {
                RecordData::Pointer(name) if record.kind == RecordType::PTR => {
                    if let Some(address) = address_of(&record.owner) {
                        addresses.point(address, name, observed.time_ns, lost);
                    }
                }
                RecordData::ServiceBinding(service) => {
                    service.ech.iter().for_each(|config| self.note_ech(&record.owner, config))
                }
                _ => {}
            }
        }
    }

    fn note_ech(&mut self, owner: &Name, config: &EchConfig) {
        if self.ech.iter().any(|(known, other)| (known, other) == (owner, config)) {
            return;
        }
        if self.ech.len() >= MAX_ECH {
            self.ech.pop_front();
        }
        self.ech.push_back((owner.clone(), config.clone()));
    }

    /// Was the client given this key, to be hidden behind this name? Then its hello is encrypted indeed.
    pub fn gave_ech(&self, config_id: u8, public_name: &Name) -> bool {
        self.ech.iter().any(|(_, config)| (config.id, &config.public_name) == (config_id, public_name))
    }
}

fn source(application: Application) -> NameSource {
    match application {
        Application::Mdns => NameSource::Mdns,
        Application::Llmnr => NameSource::Llmnr,
        _ => NameSource::Dns,
    }
}

/// The address that a name under in-addr.arpa or ip6.arpa is made of (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn address_of(name: &Name) -> Option<IpAddr> {
    if let Some(v4) = name.as_str().strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = v4.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| octets.into());
    }
    let v6 = name.as_str().strip_suffix(".ip6.arpa")?;
    let mut number = 0u128;
    let mut count = 0;
    for label in v6.split('.').rev() {
        number = number << 4 | u128::from(u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?);
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(number.into()))
}
