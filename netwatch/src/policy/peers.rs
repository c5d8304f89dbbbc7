//! The names of the endpoints of a report: those of flows, and those that were looked up over DNS.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::flow::{Direction, Remote};
use crate::name::{NameSource, SourcedName};
use crate::report::{Report, ReportEndpoint};
use crate::wire::{Application, Name};

/// Names of the endpoints of one report.
pub(super) struct PeerNames<'a> {
    lookups: HashMap<&'a Name, Vec<IpAddr>>,
}

impl<'a> PeerNames<'a> {
    pub fn of(report: &'a Report) -> Self {
        Self { lookups: lookups(report) }
    }

    /// The display name of this endpoint. Empty if it has none.
    ///
    /// A name that a program sends leads to another host if it is for a proxy, and to any host if
    /// the program chose the address. If DNS gave this address to other names, those are listed.
    pub fn names(&self, known: &'a ReportEndpoint) -> Vec<&'a Name> {
        let displayed: BTreeSet<&Name> = known.display_name.iter().map(|shown| &shown.name).collect();
        let looked_up = looked_up(known);
        let leads_here = |name: &&Name| looked_up.contains(*name) || self.is_answer(name, known.endpoint.key.remote);
        if displayed.is_empty() || looked_up.is_empty() || displayed.iter().all(leads_here) {
            return displayed.into_iter().collect();
        }
        match displayed.iter().any(leads_here) {
            true => displayed.into_iter().filter(leads_here).collect(),
            false => looked_up.into_iter().collect(),
        }
    }

    /// Names from DNS queries that lead to this endpoint: its display name if that is one of them,
    /// otherwise all.
    pub fn queried(&self, known: &'a ReportEndpoint, name: Option<&'a Name>) -> Vec<&'a Name> {
        if let Some(name) = name.filter(|name| self.lookups.contains_key(name)) {
            return vec![name];
        }
        let queried = looked_up(known);
        match name.filter(|name| queried.contains(name)) {
            Some(name) => vec![name],
            None => queried.into_iter().collect(),
        }
    }

    /// Whether a DNS response for the name contains this remote.
    fn is_answer(&self, name: &Name, remote: Remote) -> bool {
        self.answers(name).any(|address| remote == Remote::Address(address))
    }

    /// Addresses from DNS responses for a name, whether or not they were used.
    pub fn answers(&self, name: &Name) -> impl Iterator<Item = IpAddr> {
        self.lookups.get(name).into_iter().flatten().copied()
    }
}

/// Names that DNS responses gave the address of this endpoint, as they were asked for.
fn looked_up(known: &ReportEndpoint) -> BTreeSet<&Name> {
    known.names.iter().filter(|named| named.source == NameSource::Dns).map(SourcedName::shown).collect()
}

/// Names that the target queried over DNS, with the addresses in the responses.
fn lookups(report: &Report) -> HashMap<&Name, Vec<IpAddr>> {
    let mut addresses: HashMap<&Name, Vec<IpAddr>> = HashMap::new();
    for lookup in &report.naming.lookups {
        let is_ours = lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
        if is_ours && !lookup.addresses.is_empty() {
            addresses.entry(&lookup.question.name).or_default().extend(&lookup.addresses);
        }
    }
    addresses
}
