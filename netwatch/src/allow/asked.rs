//! The names that the target asked DNS for, by the addresses in the responses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::access::EvidentName;
use crate::flow::{Direction, Remote};
use crate::name::{NameSource, SourcedName};
use crate::report::Report;
use crate::wire::{Application, Name};

/// Names by address. Only names that the target asked for are listed: neither the names that
/// aliases lead to, which operators of servers choose, nor those that the target itself answered as
/// a server.
#[derive(Debug)]
pub(super) struct AskedNames(HashMap<IpAddr, BTreeSet<EvidentName>>);

impl AskedNames {
    pub fn of(report: &Report) -> Self {
        let mut names = Self(HashMap::new());
        let (mut asked, mut answered) = (HashSet::new(), HashSet::new());
        for lookup in report.naming.lookups.iter().filter(|lookup| lookup.application == Application::Dns) {
            let name = &lookup.question.name;
            if lookup.queried_by == Direction::Egress {
                lookup.addresses.iter().for_each(|address| names.add(*address, name));
                asked.insert(name);
            } else {
                answered.insert(name);
            }
        }
        // A lookup stores a limited number of addresses, and large services have more.
        for known in &report.endpoints {
            let Remote::Address(address) = known.endpoint.key.remote else { continue };
            let responses = known.names.iter().filter(|named| named.source == NameSource::Dns).map(SourcedName::shown);
            let own = responses.filter(|name| asked.contains(name) && !answered.contains(name));
            own.for_each(|name| names.add(address, name));
        }
        names
    }

    fn add(&mut self, address: IpAddr, name: &Name) {
        let known = EvidentName { name: name.clone(), source: NameSource::Dns };
        self.0.entry(address).or_default().insert(known);
    }

    pub fn of_address(&self, address: IpAddr) -> BTreeSet<EvidentName> {
        self.0.get(&address).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_several_names_or_none() {
        let mut names = AskedNames(HashMap::new());
        let address: IpAddr = [203, 0, 113, 10].into();
        names.add(address, &Name::of_text("b.example"));
        names.add(address, &Name::of_text("a.example"));
        names.add(address, &Name::of_text("a.example"));
        let of: Vec<String> = names.of_address(address).into_iter().map(|known| known.name.to_string()).collect();
        assert_eq!(of, ["a.example", "b.example"]);
        assert!(names.of_address([203, 0, 113, 11].into()).is_empty());
    }
}
