//! Who is behind the endpoints of a report: names by flow, and which of them DNS was asked for.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::flow::{Direction, EndpointKey};
use crate::name::{Named, Source};
use crate::report::{KnownEndpoint, Report};
use crate::wire::{Application, Name};

/// Names of the endpoints of one report.
pub(super) struct Peers<'a> {
    report: &'a Report,
    by_endpoint: HashMap<EndpointKey, BTreeSet<&'a Name>>,
}

impl<'a> Peers<'a> {
    pub fn of(report: &'a Report) -> Self {
        let mut by_endpoint: HashMap<EndpointKey, BTreeSet<&Name>> = HashMap::new();
        for known in &report.flows {
            if let Some(shown) = known.shown() {
                let key = EndpointKey::of(&known.flow.key, known.flow.opened_by);
                by_endpoint.entry(key).or_default().insert(&shown.name);
            }
        }
        Self { report, by_endpoint }
    }

    /// Every name that flows of this endpoint are shown by: one address may serve several. Empty if it has none.
    pub fn names(&self, known: &'a KnownEndpoint) -> Vec<&'a Name> {
        match self.by_endpoint.get(&known.endpoint.key) {
            Some(names) => names.iter().copied().collect(),
            None => known.shown.iter().map(|shown| &shown.name).collect(),
        }
    }

    /// Names that DNS was asked for and that lead to this endpoint: the one that it is shown by, if that is one of them, else all.
    pub fn asked(&self, known: &'a KnownEndpoint, name: Option<&'a Name>) -> Vec<&'a Name> {
        if let Some(name) = name
            && self.lookups(name).next().is_some()
        {
            return vec![name];
        }
        let asked: BTreeSet<&Name> =
            known.names.iter().filter(|named| named.source == Source::Dns).map(Named::shown).collect();
        match name.filter(|name| asked.contains(name)) {
            Some(name) => vec![name],
            None => asked.into_iter().collect(),
        }
    }

    /// Addresses that DNS gave for a name, used or not.
    pub fn answers(&self, name: &Name) -> impl Iterator<Item = IpAddr> {
        self.lookups(name).flat_map(|addresses| addresses.iter().copied())
    }

    fn lookups(&self, name: &Name) -> impl Iterator<Item = &'a Vec<IpAddr>> {
        let of_target = self.report.naming.lookups.iter().filter(|lookup| {
            lookup.asked_by == Direction::Egress
                && lookup.application == Application::Dns
                && !lookup.addresses.is_empty()
        });
        of_target.filter(move |lookup| lookup.question.name == *name).map(|lookup| &lookup.addresses)
    }
}
