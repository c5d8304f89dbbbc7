//! Names of addresses, and when each was given.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::name::facts::{Named, Source};
use crate::name::limits::{Limits, Lost};
use crate::wire::Name;

/// Names of one address that are kept. Large hosters have more; those that came last count.
const MAX_NAMES: usize = 32;
/// Changes of what an address was last given as.
const MAX_CHANGES: usize = 32;

/// Names of one address.
#[derive(Debug, Default)]
struct Entry {
    /// In the order in which they were seen first.
    names: Vec<Named>,
    /// What the last answer gave, and since when, in order.
    given: VecDeque<(u64, Named)>,
}

/// All of them.
#[derive(Debug)]
pub(in crate::name) struct Addresses {
    entries: HashMap<IpAddr, Entry>,
    by_age: VecDeque<IpAddr>,
    held: usize,
    limit: usize,
    limit_bytes: usize,
}

impl Addresses {
    pub fn new(limits: &Limits) -> Self {
        let (limit, limit_bytes) = (limits.addresses.max(1), limits.table_bytes);
        Self { entries: HashMap::new(), by_age: VecDeque::new(), held: 0, limit, limit_bytes }
    }

    /// The names of an address.
    pub fn names(&self, address: IpAddr) -> &[Named] {
        self.entries.get(&address).map_or(&[], |entry| &entry.names)
    }

    /// All addresses that have names.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &[Named])> {
        self.entries.iter().map(|(address, entry)| (*address, &entry.names[..]))
    }

    /// What an address was given as by the last answer before a time.
    pub fn given_before(&self, address: IpAddr, time_ns: u64) -> Option<&Named> {
        let given = &self.entries.get(&address)?.given;
        let after = given.partition_point(|(since_ns, _)| *since_ns <= time_ns);
        given.get(after.checked_sub(1)?).map(|(_, named)| named)
    }

    /// An answer gave an address for a name.
    pub fn give(&mut self, address: IpAddr, named: Named, lost: &mut Lost) {
        self.change(address, lost, |entry, lost| {
            entry.give(&named);
            entry.add(named, lost);
        });
    }

    /// An address pointed to a name.
    pub fn point(&mut self, address: IpAddr, name: &Name, time_ns: u64, lost: &mut Lost) {
        let named = Named { name: name.clone(), source: Source::Ptr, question: None, first_seen_ns: time_ns };
        self.add(address, named, lost);
    }

    /// Something else gave a name.
    pub fn add(&mut self, address: IpAddr, named: Named, lost: &mut Lost) {
        self.change(address, lost, |entry, lost| entry.add(named, lost));
    }

    fn change(&mut self, address: IpAddr, lost: &mut Lost, change: impl FnOnce(&mut Entry, &mut Lost)) {
        let entry = self.entries.entry(address).or_insert_with(|| {
            self.by_age.push_back(address);
            Entry::default()
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

impl Entry {
    /// Bytes of its names.
    fn memory(&self) -> usize {
        let given = self.given.iter().map(|(_, named)| named);
        self.names.iter().chain(given).map(Named::memory).sum()
    }

    fn give(&mut self, named: &Named) {
        let is_last = |(_, last): &(u64, Named)| (&last.name, &last.question) == (&named.name, &named.question);
        if self.given.back().is_some_and(is_last) {
            return;
        }
        if self.given.len() >= MAX_CHANGES {
            self.given.pop_front();
        }
        self.given.push_back((named.first_seen_ns, named.clone()));
    }

    fn add(&mut self, named: Named, lost: &mut Lost) {
        let same = |known: &Named| {
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
