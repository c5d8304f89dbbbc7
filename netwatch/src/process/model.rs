//! Processes and the flows and local sockets that they used.

use std::collections::HashMap;

use super::Attempt;
use crate::flow::FlowKey;

/// A process of a report: its index in [`Processes::list`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// Number of a process in its session, in order of first appearance. It stays the same until the
/// session ends, unlike [`ProcessId`], which depends on the processes that a report lists.
pub type ProcessNumber = u32;

/// One program in one process: an exec starts another one with the same pid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number in the session. A report lists processes in this order, without those that did
    /// nothing.
    pub number: ProcessNumber,
    /// Its process ID in the initial PID namespace.
    pub pid: u32,
    /// Its start, nanoseconds since the Unix epoch: unique together with `pid`.
    pub start_ns: u64,
    /// Process ID of its parent when it was first seen; 0 if not known.
    pub ppid: u32,
    /// Its parent, if that is a process of the session.
    pub parent: Option<ProcessId>,
    /// The name that the kernel keeps, at most 15 bytes.
    pub comm: String,
    /// Path of its executable; `None` if the process ended before it could be read.
    pub exe: Option<String>,
    /// Its arguments; `None` if they could not be read, or were not requested.
    pub cmdline: Option<Vec<String>>,
    /// The arguments were longer than what is stored.
    pub cmdline_cut: bool,
    /// User ID that it ran as; `None` if not known.
    pub uid: Option<u32>,
}

/// How netwatch determined that a process used a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// The socket that the packets came from or went to.
    Socket,
    /// Inferred from addresses and ports.
    Tuple,
    /// The network namespace: only processes of the session are in it.
    Netns,
}

impl Evidence {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Tuple => "tuple",
            Self::Netns => "netns",
        }
    }
}

/// A process that used a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowUser {
    /// The process.
    pub process: ProcessId,
    /// How netwatch determined that.
    pub evidence: Evidence,
    /// It created the socket; another process may have used the socket.
    pub is_maker: bool,
}

/// A local (unix) socket that a process connected to. Traffic that the peer process generates for
/// it is not captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSocket {
    /// Its path; an abstract name begins with `@`.
    pub path: String,
    /// Number of connections and messages to it.
    pub connections: u64,
    /// How many of them failed at once, if failed calls were recorded.
    pub failed: u64,
    /// How often no socket had that path or abstract name when netwatch looked, which may be a
    /// moment after the call, so that it proves no failure.
    pub missing: u64,
    /// The processes that connected.
    pub processes: Vec<ProcessId>,
}

/// Whether processes were recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Attribution {
    /// They were recorded.
    On,
    /// A capture was replayed, which has no processes.
    #[default]
    Absent,
    /// They could not be recorded, for this reason.
    Off(String),
}

/// What netwatch could not determine about processes, by reason. No packet count depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessLosses {
    /// Events for which the ring buffer had no room.
    pub events: u64,
    /// Sockets for which the table in the kernel had no room.
    pub sockets: u64,
    /// Processes that ended before their executable or arguments could be read.
    pub gone: u64,
    /// Programs that the kernel reported without their path, or without arguments that were
    /// requested.
    pub unreadable: u64,
    /// Records of an unknown format.
    pub unknown: u64,
    /// Processes, attempts and local sockets beyond the limits.
    pub beyond: u64,
}

impl ProcessLosses {
    /// Adds the losses of another part.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.sockets += other.sockets;
        self.gone += other.gone;
        self.unreadable += other.unreadable;
        self.unknown += other.unknown;
        self.beyond += other.beyond;
    }

    /// The sum of all reasons.
    pub fn sum(&self) -> u64 {
        let Self { events, sockets, gone, unreadable, unknown, beyond } = *self;
        events + sockets + gone + unreadable + unknown + beyond
    }
}

/// The processes of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// Whether they were recorded.
    pub attribution: Attribution,
    /// In order of first appearance; the command comes first.
    pub list: Vec<Process>,
    /// Sorted by path.
    pub local_sockets: Vec<LocalSocket>,
    /// What could not be determined.
    pub lost: ProcessLosses,
}

impl Processes {
    /// The process with this index.
    pub fn get(&self, id: ProcessId) -> Option<&Process> {
        self.list.get(id.0 as usize)
    }
}

/// The processes that used each flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowUsers(HashMap<FlowKey, Vec<FlowUser>>);

impl FlowUsers {
    /// The processes that used a flow, the most certain first.
    pub fn of(&self, flow: &FlowKey) -> &[FlowUser] {
        self.0.get(flow).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every flow that has users, with its users.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &[FlowUser])> {
        self.0.iter().map(|(flow, users)| (flow, users.as_slice()))
    }

    /// Number of flows that have users.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no flow has users.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(FlowKey, Vec<FlowUser>)> for FlowUsers {
    fn from_iter<T: IntoIterator<Item = (FlowKey, Vec<FlowUser>)>>(users: T) -> Self {
        Self(users.into_iter().collect())
    }
}

/// Calls of processes that are not part of a flow. Here a [`ProcessId`] holds the
/// [`ProcessNumber`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalCalls {
    /// Attempts that failed before a packet was sent.
    pub attempts: Vec<Attempt>,
    /// Local sockets that processes connected to.
    pub local_sockets: Vec<LocalSocket>,
}
