//! DNS: lookups with their outcomes, and names of addresses.

mod addresses;
mod chain;
mod lookups;
mod pending;
mod recent_errors;

use std::collections::HashMap;
use std::net::IpAddr;

pub(super) use addresses::Addresses;
pub use lookups::{Lookup, NewResponses, QueryFlows, ResponseTimes};
pub use pending::RESPONSE_TIMEOUT_NS;

use super::facts::{NameSource, SourcedName};
use super::limits::{NameLimits, NamesLost};
use crate::flow::{Direction, FlowKey, ObservationPoint};
use crate::wire::dns::{DnsMessage, Rcode, RecordData, RecordType};
use crate::wire::tls::EchConfig;
use crate::wire::{Application, Name};
use lookups::Lookups;
use pending::{Pending, WaitingQueries};
use recent_errors::RecentErrors;

/// Maximum number of ECH configurations kept.
const MAX_ECH_CONFIGS: usize = 256;

/// The state of DNS.
#[derive(Debug)]
pub(super) struct DnsTracker {
    pending: Pending,
    pub lookups: Lookups,
    recent_errors: RecentErrors,
    /// Owner and configuration; the most recent last.
    ech: std::collections::VecDeque<(Name, EchConfig)>,
}

/// A message and its context.
#[derive(Debug)]
pub(super) struct ObservedMessage<'a> {
    pub message: &'a DnsMessage,
    pub application: Application,
    pub flow: FlowKey,
    pub direction: Direction,
    pub time_ns: u64,
    /// Whether the names in the records are used although the query of this response was not
    /// observed.
    pub is_trusted: bool,
}

impl ObservedMessage<'_> {
    /// Who sent the query of this message. On the loopback, both ends are of the target.
    fn queried_by(&self) -> Direction {
        match self.flow.point {
            ObservationPoint::Loopback => Direction::Egress,
            ObservationPoint::Link if self.message.is_response => self.direction.opposite(),
            ObservationPoint::Link => self.direction,
        }
    }
}

impl DnsTracker {
    pub fn new(limits: &NameLimits) -> Self {
        Self {
            pending: Pending::new(limits.pending),
            lookups: Lookups::new(limits),
            recent_errors: RecentErrors::default(),
            ech: Default::default(),
        }
    }

    /// Takes a message.
    pub fn observe(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        lost.records += observed.message.left_out as u64;
        if observed.message.is_response {
            self.observe_response(observed, addresses, lost);
        } else {
            self.observe_query(observed, lost);
        }
    }

    /// All lookups, without the queries that may still be answered at this time.
    pub fn settled_lookups(&self, now_ns: u64) -> Vec<Lookup> {
        let in_flight = self.pending.in_flight(now_ns);
        let settled = |lookup: &Lookup| {
            let mut settled = lookup.clone();
            let waiting = in_flight.get(&(&lookup.question, lookup.queried_by));
            if let Some(waiting) = waiting.filter(|_| lookup.application == Application::Dns) {
                settle(&mut settled, *waiting);
            }
            settled
        };
        self.lookups.all().iter().map(settled).collect()
    }

    /// Lookups of the target that failed until this time, as a report counts failures: the queries
    /// for several record types of a name are one lookup.
    pub fn failed_lookups(&self, now_ns: u64) -> u64 {
        let in_flight = self.pending.in_flight(now_ns);
        let mut failed: HashMap<(&Name, Option<Rcode>), u64> = HashMap::new();
        for lookup in self.own_lookups() {
            let mut settled = lookup.clone();
            let waiting = in_flight.get(&(&lookup.question, lookup.queried_by));
            waiting.into_iter().for_each(|waiting| settle(&mut settled, *waiting));
            let unanswered = settled.unanswered_lookups();
            let errors = settled.errors().map(|(rcode, count, _)| (Some(rcode), count));
            for (cause, count) in errors.chain((unanswered > 0).then_some((None, unanswered))) {
                let most = failed.entry((&lookup.question.name, cause)).or_default();
                *most = count.max(*most);
            }
        }
        failed.into_values().sum()
    }

    /// Those lookups among them that were answered with an error, which no later answer takes back.
    pub fn lookups_with_error(&self) -> u64 {
        let mut failed: HashMap<(&Name, Rcode), u64> = HashMap::new();
        for lookup in self.own_lookups() {
            for (rcode, count, _) in lookup.errors() {
                let most = failed.entry((&lookup.question.name, rcode)).or_default();
                *most = count.max(*most);
            }
        }
        failed.into_values().sum()
    }

    fn own_lookups(&self) -> impl Iterator<Item = &Lookup> {
        let is_own =
            |lookup: &&Lookup| lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
        self.lookups.all().iter().filter(is_own)
    }

    fn observe_query(&mut self, observed: &ObservedMessage<'_>, lost: &mut NamesLost) {
        for question in &observed.message.questions {
            self.lookups.count_query(question, observed, lost);
        }
        // A multicast query may remain without a response, so none is pending.
        if observed.application == Application::Dns
            && self.pending.insert(observed, lost)
            && let Some(question) = observed.message.questions.first()
        {
            self.lookups.count_repeat(question, observed, None, lost);
        }
    }

    fn observe_response(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        let sent_ns = self.pending.take(observed);
        let took_ns = sent_ns.map(|sent_ns| observed.time_ns.saturating_sub(sent_ns));
        for question in &observed.message.questions {
            self.lookups.count_response(question, observed, took_ns, lost);
            let rcode = observed.message.rcode;
            if rcode != Rcode::NOERROR && self.recent_errors.is_again(question, observed) {
                self.lookups.count_repeat(question, observed, Some(rcode), lost);
            }
        }
        if observed.is_trusted || sent_ns.is_some() {
            self.name_addresses(observed, addresses, lost);
        }
    }

    /// Assigns the names in a response to their addresses.
    fn name_addresses(&mut self, observed: &ObservedMessage<'_>, addresses: &mut Addresses, lost: &mut NamesLost) {
        let source = source(observed.application);
        // Multicast DNS is authoritative for `.local` only (RFC 6762 section 3).
        let is_own = |owner: &Name| source != NameSource::Mdns || owner.as_str().ends_with(".local");
        for reached in chain::follow(observed.message).into_iter().filter(|reached| is_own(reached.owner)) {
            let question = reached.question.filter(|question| *question != reached.owner).cloned();
            let named = SourcedName { name: reached.owner.clone(), source, question, first_seen_ns: observed.time_ns };
            addresses.assign(reached.address, named, lost);
        }
        for record in &observed.message.records {
            match &record.data {
                RecordData::Pointer(name) if record.kind == RecordType::PTR => {
                    if let Some(address) = address_of(&record.owner) {
                        addresses.add_pointer(address, name, observed.time_ns, lost);
                    }
                }
                RecordData::ServiceBinding(service) => {
                    service.ech.iter().for_each(|config| self.remember_ech_config(&record.owner, config))
                }
                _ => {}
            }
        }
    }

    fn remember_ech_config(&mut self, owner: &Name, config: &EchConfig) {
        if self.ech.iter().any(|(known, other)| (known, other) == (owner, config)) {
            return;
        }
        if self.ech.len() >= MAX_ECH_CONFIGS {
            self.ech.pop_front();
        }
        self.ech.push_back((owner.clone(), config.clone()));
    }

    /// Whether the client received this ECH configuration. Then its hello is encrypted, and not
    /// GREASE.
    pub fn has_ech_config(&self, config_id: u8, public_name: &Name) -> bool {
        self.ech.iter().any(|(_, config)| (config.id, &config.public_name) == (config_id, public_name))
    }
}

/// Leaves out the queries that may still be answered.
fn settle(lookup: &mut Lookup, waiting: WaitingQueries) {
    lookup.queries = lookup.queries.saturating_sub(waiting.messages);
    if let Some(repeats) = lookup.repeats.get_mut(&None) {
        *repeats = repeats.saturating_sub(waiting.repeats);
    }
}

fn source(application: Application) -> NameSource {
    match application {
        Application::Mdns => NameSource::Mdns,
        Application::Llmnr => NameSource::Llmnr,
        _ => NameSource::Dns,
    }
}

/// The address that a name under in-addr.arpa or ip6.arpa encodes (RFC 1035 section 3.5, RFC 3596
/// section 2.5).
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
