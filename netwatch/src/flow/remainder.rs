//! Named remainders: packets that belong to no flow, each kind under its own name.

use std::collections::BTreeMap;

use super::{Counters, Housekeeping, PerDirection, Traffic};

/// Why packets belong to no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemainderKind {
    /// Neither IP nor ARP.
    NonIp,
    /// Unreadable.
    Malformed,
    /// The kernel's flow table was full.
    Overflow,
    /// Link housekeeping: ARP.
    Arp,
    /// Link housekeeping: neighbour discovery.
    NeighborDiscovery,
    /// Link housekeeping: multicast listener discovery.
    Mld,
    /// Link housekeeping: IGMP.
    Igmp,
}

impl RemainderKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::NonIp, Self::Malformed, Self::Overflow, Self::Arp, Self::NeighborDiscovery, Self::Mld, Self::Igmp];

    /// The kind of what a packet was counted under; `None` for a flow.
    pub fn of(traffic: &Traffic) -> Option<Self> {
        match traffic {
            Traffic::Flow(_) => None,
            Traffic::NonIp(_) => Some(Self::NonIp),
            Traffic::Malformed(_) => Some(Self::Malformed),
            Traffic::Overflow(_) => Some(Self::Overflow),
            Traffic::Housekeeping(Housekeeping::Arp) => Some(Self::Arp),
            Traffic::Housekeeping(Housekeeping::NeighborDiscovery) => Some(Self::NeighborDiscovery),
            Traffic::Housekeeping(Housekeeping::Mld) => Some(Self::Mld),
            Traffic::Housekeeping(Housekeeping::Igmp) => Some(Self::Igmp),
        }
    }

    /// True for what the kernel says by itself; it is no traffic of the target's.
    pub fn is_housekeeping(self) -> bool {
        matches!(self, Self::Arp | Self::NeighborDiscovery | Self::Mld | Self::Igmp)
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NonIp => "non_ip",
            Self::Malformed => "malformed",
            Self::Overflow => "overflow",
            Self::Arp => "arp",
            Self::NeighborDiscovery => "neighbour_discovery",
            Self::Mld => "mld",
            Self::Igmp => "igmp",
        }
    }
}

/// All remainders of one scope. Bounded by the number of EtherTypes, reasons and protocols there are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Remainders(BTreeMap<Traffic, PerDirection<Counters>>);

impl Remainders {
    /// Adds growth under its name. Flows are not remainders: the caller keeps them apart.
    pub(super) fn add(&mut self, traffic: Traffic, growth: PerDirection<Counters>) {
        *self.0.entry(traffic).or_default() += growth;
    }

    /// Everything of one kind.
    pub fn of(&self, kind: RemainderKind) -> PerDirection<Counters> {
        self.sum(|candidate| candidate == kind)
    }

    /// Everything whose kind is chosen.
    pub fn sum(&self, choose: impl Fn(RemainderKind) -> bool) -> PerDirection<Counters> {
        let chosen = |(traffic, _): &(&Traffic, _)| RemainderKind::of(traffic).is_some_and(&choose);
        self.0.iter().filter(chosen).map(|(_, counters)| *counters).sum()
    }

    /// Each EtherType, reason and protocol by itself, in a fixed order.
    pub fn details(&self) -> impl Iterator<Item = (&Traffic, &PerDirection<Counters>)> {
        self.0.iter()
    }
}

impl FromIterator<(Traffic, PerDirection<Counters>)> for Remainders {
    fn from_iter<T: IntoIterator<Item = (Traffic, PerDirection<Counters>)>>(parts: T) -> Self {
        let mut remainders = Self::default();
        parts.into_iter().for_each(|(traffic, counters)| remainders.add(traffic, counters));
        remainders
    }
}
