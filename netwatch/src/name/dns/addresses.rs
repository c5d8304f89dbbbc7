//! Names of addresses, with the times at which DNS assigned them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::name::facts::{NameSource, SourcedName};
use crate::name::limits::{NameLimits, NamesLost};
use crate::wire::Name;

/// Maximum number of names of one address. Large hosters have more; the most recent are kept.
const MAX_NAMES: usize = 32;
/// Maximum number of changes of the name assigned last.
const MAX_CHANGES: usize = 32;

/// Names of one address.
#[derive(Debug, Default)]
struct AddressNames {
    /// In the order in which they were first seen.
    names: Vec<SourcedName>,
    /// The name in the last response at each time, in order of time.
    assigned: VecDeque<(u64, SourcedName)>,
}

/// The names of all addresses, bounded.
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

    /// All addresses with names.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &[SourcedName])> {
        self.entries.iter().map(|(address, entry)| (*address, &entry.names[..]))
    }

    /// The name that the last DNS response before a time gave an address.
    pub fn assigned_before(&self, address: IpAddr, time_ns: u64) -> Option<&SourcedName> {
        let assigned = &self.entries.get(&address)?.assigned;
        let after = assigned.partition_point(|(since_ns, _)| *since_ns <= time_ns);
        assigned.get(after.checked_sub(1)?).map(|(_, named)| named)
    }

    /// Adds the name that a DNS response gave an address.
    pub fn assign(&mut self, address: IpAddr, named: SourcedName, lost: &mut NamesLost) {
        self.change(address, lost, |entry, lost| {
            entry.assign(&named);
            entry.add(named, lost);
        });
    }

    /// Adds the name of a PTR record.
    pub fn add_pointer(&mut self, address: IpAddr, name: &Name, time_ns: u64, lost: &mut NamesLost) {
        let named = SourcedName { name: name.clone(), source: NameSource::Ptr, question: None, first_seen_ns: time_ns };
        self.add(address, named, lost);
    }

    /// Adds a name from another source.
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
    /// Memory used by the names, bytes.
    fn memory(&self) -> usize {
        let assigned = self.assigned.iter().map(|(_, named)| named);
        self.names.iter().chain(assigned).map(SourcedName::memory).sum()
    }

    fn assign(&mut self, named: &SourcedName) {
        let is_last = |(_, last): &(u64, SourcedName)| (&last.name, &last.question) == (&named.name, &named.question);
        if self.assigned.back().is_some_and(is_last) {
            return;
        }
        if self.assigned.len() >= MAX_CHANGES {
            self.assigned.pop_front();
        }
        self.assigned.push_back((named.first_seen_ns, named.clone()));
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
