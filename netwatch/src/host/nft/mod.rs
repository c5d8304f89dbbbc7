//! A small nf_tables client: batches of changes, dumps, and the expressions that netwatch writes.
//! It does not support sets, maps or monitoring.
//!
//! Written by hand because no crate fits: netlink-packet-netfilter supports neither NAT, conntrack,
//! fib nor user data, and nftnl cannot set the owner flag. Wire format:
//! `linux/netfilter/nf_tables.h`.

mod attributes;
mod batch;
mod dump;
mod expression;
mod rule;
mod socket;
mod wire;

#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;

pub use attributes::Attributes;
pub use batch::{BaseChain, Batch, ChainKind, NftHook};
pub use dump::{BaseInfo, ChainInfo, RuleInfo, RuleTerm, TableInfo};
pub use expression::Verdict;
pub use rule::Rule;
pub use socket::Nft;

/// The families of tables that process routed IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum NftFamily {
    /// IPv4 and IPv6 in one table.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

impl NftFamily {
    /// From `NFPROTO_*`; `None` for arp, bridge and netdev.
    pub fn from_raw(raw: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Ip6].into_iter().find(|family| *family as u8 == raw)
    }
}

impl std::fmt::Display for NftFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

/// Identifies a table.
#[derive(Debug, Clone, Copy)]
pub struct NftTable<'a> {
    /// Its family.
    pub family: NftFamily,
    /// Its name.
    pub name: &'a str,
}

impl std::fmt::Display for NftTable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}
