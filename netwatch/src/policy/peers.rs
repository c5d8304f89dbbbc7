//! The names of the endpoints of a report: those of flows, and those that were looked up over DNS.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::flow::{Direction, EndpointKey, Remote};
use crate::name::{NameSource, SourcedName};
use crate::report::{Report, ReportEndpoint, ReportFlow};
use crate::wire::{Application, Name};

/// Names of the endpoints of one report.
pub(super) struct PeerNames<'a> {
    by_endpoint: HashMap<EndpointName<'a>, BTreeSet<&'a Name>>,
    lookups: HashMap<&'a Name, Vec<IpAddr>>,
}

impl<'a> PeerNames<'a> {
    pub fn of(report: &'a Report) -> Self {
        let mut by_endpoint: HashMap<_, BTreeSet<&Name>> = HashMap::new();
        for (known, flows) in report.endpoints.iter().zip(report.flows_by_endpoint()) {
            let names = flows.into_iter().filter_map(ReportFlow::display_name).map(|shown| &shown.name);
            by_endpoint.entry(endpoint_name(known)).or_default().extend(names);
        }
        Self { lookups: lookups(report), by_endpoint }
    }

    /// The display names of the flows of this endpoint: in recordings of earlier versions, one
    /// endpoint has all names of its address. Empty if there are none.
    ///
    /// A name that a program sends leads to another host if it is for a proxy, and to any host if
    /// the program chose the address. If DNS gave this address to other names, those are listed.
    pub fn names(&self, known: &'a ReportEndpoint) -> Vec<&'a Name> {
        let mut displayed = self.by_endpoint.get(&endpoint_name(known)).cloned().unwrap_or_default();
        if displayed.is_empty() {
            displayed.extend(known.display_name.iter().map(|shown| &shown.name));
        }
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

/// What distinguishes the endpoints of a report.
type EndpointName<'a> = (EndpointKey, Option<&'a Name>);

fn endpoint_name(known: &ReportEndpoint) -> EndpointName<'_> {
    (known.endpoint.key, known.display_name.as_ref().map(|shown| &shown.name))
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
