//! Compares lookups with contacts: names that were looked up without being contacted, and contacts
//! without a lookup.

use std::collections::HashSet;
use std::net::IpAddr;

use super::dns::Lookup;
use super::names::Names;
use crate::flow::Direction;
use crate::wire::{Application, Name};

/// A remote, and the time of the first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// The remote.
    pub address: IpAddr,
    /// Nanoseconds since the Unix epoch.
    pub began_ns: u64,
}

/// The result of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupUsage<'a> {
    /// Names that the target looked up and received addresses for, without contacting any of them.
    pub unused: Vec<&'a Name>,
    /// Addresses that the target contacted without a name: neither an earlier DNS response nor the
    /// hosts file contains them. Multicast, loopback and similar addresses are excluded.
    pub never_looked_up: Vec<IpAddr>,
}

impl Names {
    /// Compares lookups with the remotes that the target contacted.
    pub fn usage(&self, contacts: &[Contact]) -> LookupUsage<'_> {
        let contacted: HashSet<IpAddr> = contacts.iter().map(|contact| contact.address).collect();
        let is_used = |lookup: &Lookup| lookup.addresses.iter().any(|address| contacted.contains(address));
        let queried = || {
            let own =
                |lookup: &&Lookup| lookup.queried_by == Direction::Egress && lookup.application == Application::Dns;
            self.lookups().iter().filter(own)
        };
        let mut named: HashSet<&Name> =
            queried().filter(|lookup| is_used(lookup)).map(|lookup| &lookup.question.name).collect();
        let with_addresses =
            queried().filter(|lookup| !lookup.addresses.is_empty()).map(|lookup| &lookup.question.name);
        // A name is often looked up twice, for A and for AAAA.
        let unused = with_addresses.filter(|name| named.insert(name)).collect();
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
            .filter(|address| !named.contains(address) && !is_never_looked_up(*address))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn is_never_looked_up(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_multicast() || address.is_loopback() || address.is_unspecified() || is_broadcast
}
