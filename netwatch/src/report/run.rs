//! What was run or replayed, where, and how it ended.

use std::net::{IpAddr, SocketAddr};

use crate::flow::Amount;

/// What was run, as whom, and how it ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Run {
    /// The run's id, as in the interface's name.
    pub id: String,
    /// Program and arguments; what is not UTF-8 is replaced.
    pub command: Vec<String>,
    /// Name of the user it ran as, or the uid in decimal.
    pub user: String,
    /// The command's process; `None` when it was never started.
    pub pid: Option<u32>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// From the start of the command to its end (or to now), nanoseconds.
    pub duration_ns: u64,
    /// How the command ended; `None` while it runs.
    pub exit: Option<Exit>,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The kernel's release, as uname(2) has it; empty if unknown.
    pub kernel: String,
    /// The version of netwatch that watched; empty if unknown.
    pub netwatch: String,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Who ended the command.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Nobody yet, or itself.
    #[default]
    Command,
    /// `--duration` ran out.
    Duration,
    /// netwatch received this signal.
    Signal(i32),
}

/// The interface of the namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the host's end of the veth.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The target's addresses.
    pub local: Vec<IpAddr>,
    /// The host's addresses on the link: the target's default routes.
    pub gateway: Vec<IpAddr>,
    /// `--host-loopback` was given.
    pub host_loopback: bool,
}

/// Who answers the queries that are sent to the gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The host's resolvers behind the gateway, in the order in which they are asked; empty when there is none.
    pub resolvers: Vec<SocketAddr>,
}

/// What was replayed, where nothing was run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The capture's name.
    pub file: String,
    /// `pcap` or `pcapng`.
    pub format: &'static str,
    /// Names of the link types that its frames have.
    pub link_types: Vec<String>,
    /// Whether the classifier in the kernel counted, or the same code without one.
    pub by_kernel: bool,
    /// Addresses and networks of the target; when empty, the end that opened a flow is taken as local.
    pub local: Vec<String>,
    /// Time of the earliest frame, nanoseconds since the Unix epoch; 0 without frames.
    pub started_ns: u64,
    /// From there to the latest frame, nanoseconds.
    pub duration_ns: u64,
    /// What was read.
    pub frames: Amount,
    /// Frames among them of which the capture kept only the beginning.
    pub cut_frames: u64,
    /// Frames among them that could not be handed to a kernel.
    pub left_out: Amount,
    /// The file was not read to its end.
    pub ended_early: Option<EndedEarly>,
}

/// Where reading a capture ended before the file did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedEarly {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Why it was not read on.
    pub cause: String,
}
