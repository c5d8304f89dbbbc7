//! What was looked up and not used, and used without being looked up.

use std::collections::HashSet;
use std::net::IpAddr;

use super::dns::Lookup;
use super::names::Names;
use crate::flow::Direction;
use crate::wire::{Application, Name};

/// A remote that the target went to, and when it did first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The remote.
    pub address: IpAddr,
    /// Nanoseconds since the Unix epoch.
    pub began_ns: u64,
}

/// DNS against what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupUsage<'a> {
    /// Names that the target looked up, got addresses for, and went to none of them.
    pub unused: Vec<&'a Name>,
    /// Addresses that the target went to without having a name for them: no answer gave them before, and the hosts file has none. Not those
    /// that nobody looks up: of groups, of the machine itself.
    pub never_looked_up: Vec<IpAddr>,
}

impl Names {
    /// Compares DNS with the remotes that the target went to.
    pub fn usage(&self, contacts: &[Contact]) -> LookupUsage<'_> {
        let contacted: HashSet<IpAddr> = contacts.iter().map(|contact| contact.address).collect();
        let is_used = |lookup: &Lookup| lookup.addresses.iter().any(|address| contacted.contains(address));
        let asked = || {
            let own =
                |lookup: &&Lookup| lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
            self.lookups().iter().filter(own)
        };
        let mut named: HashSet<&Name> =
            asked().filter(|lookup| is_used(lookup)).map(|lookup| &lookup.question.name).collect();
        let answered = asked().filter(|lookup| !lookup.addresses.is_empty()).map(|lookup| &lookup.question.name);
        // A name is often asked for twice, for A and for AAAA.
        let unused = answered.filter(|name| named.insert(name)).collect();
        LookupUsage { unused, never_looked_up: self.never_looked_up(contacts) }
    }

    fn never_looked_up(&self, contacts: &[Contact]) -> Vec<IpAddr> {
        let named: HashSet<IpAddr> = contacts
            .iter()
            .filter(|contact| self.looked_up(contact.address, contact.began_ns).is_some())
            .map(|contact| contact.address)
            .collect();
        let mut found: Vec<IpAddr> = contacts
            .iter()
            .map(|contact| contact.address)
            .filter(|address| !named.contains(address) && !is_nobody(*address))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn is_nobody(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_multicast() || address.is_loopback() || address.is_unspecified() || is_broadcast
}
