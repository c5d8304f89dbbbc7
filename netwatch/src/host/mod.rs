//! The network that the command runs in: namespace, link, addresses, routes, and what carries them
//! to the host's own network. One file each, each a guard that undoes itself. Not the classifier
//! (`probe`) and not the processes (`target`).

pub mod cgroup;
pub mod changes;
pub mod link;
pub mod named;
pub mod namespace;
pub mod netlink;
pub mod route;
pub mod socket_drain;
pub mod subnet;
pub mod uplink;

#[cfg(test)]
pub(crate) mod testing;

pub mod firewall;
pub mod forwarding;
pub mod nat;
pub mod nft;
pub mod publish;
mod undo_steps;

pub use undo_steps::undo_steps;

/// The interface group (`IFLA_GROUP`) of every host-side netwatch interface ("nw" in ASCII), so
/// that one rule can tell the interfaces of all runs from everything else.
pub const NETWATCH_GROUP: u32 = 0x6e77;
