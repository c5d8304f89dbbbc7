//! Names of addresses, and when each was given.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::name::facts::{NameSource, SourcedName};
use crate::name::limits::{NameLimits, NamesLost};
use crate::wire::Name;

/// Names of one address that are kept. Large hosters have more; those that came last count.
const MAX_NAMES: usize = 32;
/// Changes of what an address was last given as.
const MAX_CHANGES: usize = 32;

/// Names of one address.
#[derive(Debug, Default)]
struct AddressNames {
    /// In the order in which they were seen first.
    names: Vec<SourcedName>,
    /// What the last answer gave, and since when, in order.
    given: VecDeque<(u64, SourcedName)>,
}

/// All of them.
#[derive(Debug)]
pub(in crate::name) struct Addresses {
    entries: HashMap<IpAddr, AddressNames>,
    by_age: VecDeque<IpAddr>,
    held: usize,
    limit: usize,
    limit_bytes: usize,
}

impl Addresses {
    pub fn new(limits: &NameLimits) -> Self {
        let (limit, limit_bytes) = (limits.addresses.max(1), limits.table_bytes);
        Self { entries: HashMap::new(), by_age: VecDeque::new(), held: 0, limit, limit_bytes }
    }

    /// The names of an address.
    pub fn names(&self, address: IpAddr) -> &[SourcedName] {
        self.entries.get(&address).map_or(&[], |entry| &entry.names)
    }

    /// All addresses that have names.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &[SourcedName])> {
        self.entries.iter().map(|(address, entry)| (*address, &entry.names[..]))
    }

    /// What an address was given as by the last answer before a time.
    pub fn given_before(&self, address: IpAddr, time_ns: u64) -> Option<&SourcedName> {
        let given = &self.entries.get(&address)?.given;
        let after = given.partition_point(|(since_ns, _)| *since_ns <= time_ns);
        given.get(after.checked_sub(1)?).map(|(_, named)| named)
    }

    /// An answer gave an address for a name.
    pub fn give(&mut self, address: IpAddr, named: SourcedName, lost: &mut NamesLost) {
        self.change(address, lost, |entry, lost| {
            entry.give(&named);
            entry.add(named, lost);
        });
    }

    /// An address pointed to a name.
    pub fn point(&mut self, address: IpAddr, name: &Name, time_ns: u64, lost: &mut NamesLost) {
        let named = SourcedName { name: name.clone(), source: NameSource::Ptr, question: None, first_seen_ns: time_ns };
        self.add(address, named, lost);
    }

    /// Something else gave a name.
    pub fn add(&mut self, address: IpAddr, named: SourcedName, lost: &mut NamesLost) {
        self.change(address, lost, |entry, lost| entry.add(named, lost));
    }

    fn change(
        &mut self,
        address: IpAddr,
        lost: &mut NamesLost,
        change: impl FnOnce(&mut AddressNames, &mut NamesLost),
    ) {
        let entry = self.entries.entry(address).or_insert_with(|| {
            self.by_age.push_back(address);
            AddressNames::default()
        });
        let before = entry.memory();
        change(entry, lost);
        self.held = self.held + entry.memory() - before;
        while (self.entries.len() > self.limit || self.held > self.limit_bytes)
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.held -= self.entries.remove(&oldest).map_or(0, |entry| entry.memory());
            lost.addresses += 1;
        }
    }
}

impl AddressNames {
    /// Bytes of its names.
    fn memory(&self) -> usize {
        let given = self.given.iter().map(|(_, named)| named);
        self.names.iter().chain(given).map(SourcedName::memory).sum()
    }

    fn give(&mut self, named: &SourcedName) {
        let is_last = |(_, last): &(u64, SourcedName)| (&last.name, &last.question) == (&named.name, &named.question);
        if self.given.back().is_some_and(is_last) {
            return;
        }
        if self.given.len() >= MAX_CHANGES {
            self.given.pop_front();
        }
        self.given.push_back((named.first_seen_ns, named.clone()));
    }

    fn add(&mut self, named: SourcedName, lost: &mut NamesLost) {
        let same = |known: &SourcedName| {
            (&known.name, known.source, &known.question) == (&named.name, named.source, &named.question)
        };
        if self.names.iter().any(same) {
            return;
        }
        if self.names.len() >= MAX_NAMES {
            self.names.remove(0);
            lost.names += 1;
        }
        self.names.push(named);
    }
}
