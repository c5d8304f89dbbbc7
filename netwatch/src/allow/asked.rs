//! The names that the target asked DNS for, by the addresses in the responses.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::access::EvidentName;
use crate::flow::Direction;
use crate::name::NameSource;
use crate::report::Report;
use crate::wire::{Application, Name};

/// Names by address. Only what the target asked for is listed: not the names that aliases lead to,
/// which operators of servers choose, and not what it answered itself as a server.
#[derive(Debug)]
pub(super) struct AskedNames(HashMap<IpAddr, BTreeSet<EvidentName>>);

impl AskedNames {
    pub fn of(report: &Report) -> Self {
        let mut names = Self(HashMap::new());
        for lookup in &report.naming.lookups {
            if lookup.queried_by == Direction::Egress && lookup.application == Application::Dns {
                lookup.addresses.iter().for_each(|address| names.add(*address, &lookup.question.name));
            }
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
