//! Changes the host for a run: namespace, link, addresses, routes, NAT, forwarding, foreign
//! firewalls, names, cgroup, with one file or folder for each. Every change that the kernel does
//! not undo by itself has an undo record. The classifier is in `meter`, the target's mounts are in
//! `target`. What `attach` meters is only read: `containers`, `existing`,
//! `existing_cgroup`, `links` and `sockets`.

pub mod cgroup;
pub mod changes;
pub mod containers;
pub mod detached_mount;
pub mod existing;
pub mod existing_cgroup;
pub mod link;
pub mod links;
pub mod listeners;
pub mod named;
pub mod namespace;
pub mod netlink;
pub mod route;
pub mod route_check;
pub mod socket_drain;
pub mod socket_sysctls;
pub mod sockets;
pub mod subnet;
pub mod sysctl;
pub mod uplink;

#[cfg(test)]
pub(crate) mod testing;

pub mod conntrack;
pub mod firewall;
pub mod forwarding;
pub mod nat;
pub mod nft;
pub mod publish;
mod undo_steps;

pub use undo_steps::undo_steps;

/// The interface group (`IFLA_GROUP`) of every host-side netwatch interface ("nw" in ASCII), so
/// that one rule matches the interfaces of all runs.
pub const NETWATCH_GROUP: u32 = 0x6e77;
