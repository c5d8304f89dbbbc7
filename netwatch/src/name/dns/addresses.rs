//! Names of addresses, and when each was given.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::name::facts::{Named, Source};
use crate::name::limits::{Limits, Lost};
use crate::wire::Name;

/// Names of one address that are kept. Large hosters have more; those that came last count.
const MAX_NAMES: usize = 32;
/// Changes of what an address was last given as.
const MAX_CHANGES: usize = 64;

/// Names of one address.
#[derive(Debug, Default)]
struct Entry {
    /// In the order in which they were seen first.
    names: Vec<Named>,
    /// Since when the last answer gave which name (and asked which question), in order.
    given: VecDeque<(u64, Name, Option<Name>)>,
}

/// All of them.
#[derive(Debug)]
pub(in crate::name) struct Addresses {
    entries: HashMap<IpAddr, Entry>,
    by_age: VecDeque<IpAddr>,
    limit: usize,
}

impl Addresses {
    pub fn new(limits: &Limits) -> Self {
        Self { entries: HashMap::new(), by_age: VecDeque::new(), limit: limits.addresses.max(1) }
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
        let entry = self.entries.get(&address)?;
        let after = entry.given.partition_point(|(since, ..)| *since <= time_ns);
        let (_, name, question) = entry.given.get(after.checked_sub(1)?)?;
        entry.names.iter().find(|named| is_answer(named.source) && (&named.name, &named.question) == (name, question))
    }

    /// An answer gave an address for a name.
    pub fn give(&mut self, address: IpAddr, named: Named, time_ns: u64, lost: &mut Lost) {
        let entry = self.entry(address, lost);
        if entry.given.back().is_none_or(|(_, name, question)| (name, question) != (&named.name, &named.question)) {
            if entry.given.len() >= MAX_CHANGES {
                entry.given.pop_front();
            }
            entry.given.push_back((time_ns, named.name.clone(), named.question.clone()));
        }
        entry.add(named, lost);
    }

    /// An address pointed to a name.
    pub fn point(&mut self, address: IpAddr, name: &Name, time_ns: u64, lost: &mut Lost) {
        self.add(
            address,
            Named { name: name.clone(), source: Source::Ptr, question: None, first_seen_ns: time_ns },
            lost,
        );
    }

    /// Something else gave a name.
    pub fn add(&mut self, address: IpAddr, named: Named, lost: &mut Lost) {
        self.entry(address, lost).add(named, lost);
    }

    fn entry(&mut self, address: IpAddr, lost: &mut Lost) -> &mut Entry {
        if !self.entries.contains_key(&address) {
            while self.entries.len() >= self.limit
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.entries.remove(&oldest);
                lost.addresses += 1;
            }
            self.by_age.push_back(address);
        }
        self.entries.entry(address).or_default()
    }
}

impl Entry {
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

fn is_answer(source: Source) -> bool {
    matches!(source, Source::Dns | Source::Mdns | Source::Llmnr)
}
