//! Namespace, links, addresses, NAT and what else a watched command needs of the network: one file each, each a guard
//! that undoes itself. Everything here speaks netlink and sysctl files; no external program is started.

pub mod firewall;
pub mod forwarding;
pub mod nat;
pub mod nft;
pub mod publish;

/// The interface group of every host-side netwatch interface ("nw" in ASCII), so that one rule can tell the interfaces of
/// all runs from everything else.
pub const NETWATCH_GROUP: u32 = 0x6e77;
