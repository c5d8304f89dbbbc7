//! The nftables table of a run: source NAT, DNS redirection, published ports, and the rules that
//! keep the host from routing for others. The kernel removes it with the socket that created it.
//! Tables of other programs are in [`super::firewall`].

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use super::nft::{Batch, Nft, NftTable};
use super::publish::Publish;
use crate::error::Result;
use crate::undo::RunId;

/// The addresses of the two ends of the link, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddresses<A> {
    /// Address of the host's end.
    pub gateway: A,
    /// Address of the target's end.
    pub target: A,
}

/// What the table must do.
#[derive(Debug, Clone)]
pub struct NatSpec<'a> {
    /// The run; its id is in the name of the table.
    pub run: &'a RunId,
    /// The index of the host-side interface. Rules with a name would cost much more: the kernel
    /// copies the name of the interface for every packet that it compares.
    pub link: u32,
    /// IPv4 addresses, if the target has IPv4.
    pub ipv4: Option<LinkAddresses<Ipv4Addr>>,
    /// IPv6 addresses, if the target has IPv6.
    pub ipv6: Option<LinkAddresses<Ipv6Addr>>,
    /// Whether the target's source addresses are translated (not with `--no-nat`).
    pub masquerade: bool,
    /// The port of the DNS forwarder, if it could not bind the gateway's port 53.
    pub dns_port: Option<u16>,
    /// Published ports, which [`super::publish::reserve`] has reserved.
    pub publish: &'a [Publish],
}

impl NatSpec<'_> {
    /// Whether packets of 127.0.0.0/8 cross the interface, which then needs `route_localnet`.
    pub fn needs_route_localnet(&self) -> bool {
        self.ipv4.is_some() && self.publish.iter().any(|publish| publish.serves(false))
    }
}

/// Forwarding that was off before netwatch switched it on, and must stay off for all other traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForwardGuard {
    /// IPv4 packets that arrive by this interface.
    Ipv4(String),
    /// IPv6 packets that arrive by this interface.
    Ipv6(String),
    /// All IPv6 packets: the kernel has only one switch for all interfaces.
    Ipv6All,
}

/// The installed table. It is removed on drop, and by the kernel when the process dies: netwatch
/// holds the only reference to its socket, which is opened after the guardian was forked.
#[derive(Debug)]
pub struct Nat {
    nft: Nft,
    table: String,
}

impl Nat {
    /// Creates the table, in one transaction.
    pub fn install(spec: &NatSpec<'_>) -> Result<Self> {
        let nat = Self { nft: Nft::open()?, table: spec.run.table() };
        nat.nft.commit(&rules::batch(nat.table(), spec))?;
        Ok(nat)
    }

    /// Replaces the guards, in one transaction. Call this before forwarding is switched on.
    pub fn guard(&self, guards: &[ForwardGuard]) -> Result<()> {
        let mut batch = Batch::new();
        batch.flush_chain(self.table(), rules::GUARD);
        guards.iter().for_each(|guard| batch.append_rule(self.table(), rules::GUARD, &rules::guard(guard)));
        self.nft.commit(&batch)
    }

    /// The socket that owns the table: the kernel removes the table when the last reference to it
    /// is closed.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.nft.as_fd()
    }

    fn table(&self) -> NftTable<'_> {
        rules::table(&self.table)
    }
}

/// The packets of the target that the table of a run has dropped, by reason.
pub fn drops(run: &RunId) -> Result<Vec<(String, u64)>> {
    let mut drops: BTreeMap<String, u64> = BTreeMap::new();
    for rule in Nft::open()?.rules(rules::table(&run.table()), None)? {
        if let (Some(reason), Some(packets @ 1..)) = (rule.comment.as_deref().and_then(rules::dropped), rule.packets) {
            *drops.entry(reason.to_owned()).or_default() += packets;
        }
    }
    Ok(drops.into_iter().collect())
}

/// The live run that publishes this port.
pub fn run_that_publishes(port: &Publish) -> Result<Option<RunId>> {
    let nft = Nft::open()?;
    for table in nft.tables()? {
        let Some(run) = table.name.strip_prefix("netwatch-").and_then(RunId::parse) else { continue };
        let rules = nft.rules(rules::table(&table.name), None)?;
        if rules.iter().filter_map(|rule| rules::published(rule.comment.as_deref()?)).any(|other| other.clashes(port)) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}
