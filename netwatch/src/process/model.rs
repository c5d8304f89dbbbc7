//! Processes and what they used.

use std::collections::HashMap;

use super::Attempt;
use crate::flow::FlowKey;

/// A process of the report: its place in [`Processes::list`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// Number of a process in its session, in order of first appearance. It stays the same until the session ends, unlike
/// [`ProcessId`], which depends on the processes that a report lists.
pub type ProcessNumber = u32;

/// One program in one process: an exec starts another one with the same pid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number in the session. A report lists processes in this order, without those that did nothing.
    pub number: ProcessNumber,
    /// Its number in the host's PID namespace.
    pub pid: u32,
    /// Its start, nanoseconds since the Unix epoch: with `pid` it is the only one.
    pub start_ns: u64,
    /// The number of its parent when it was first seen; 0 if that was not known.
    pub ppid: u32,
    /// Its parent, if that is one of the run's.
    pub parent: Option<ProcessId>,
    /// The name that the kernel keeps, at most 15 bytes.
    pub comm: String,
    /// Path of its executable; `None` if it was gone before it could be read.
    pub exe: Option<String>,
    /// Its arguments; `None` if they were gone, or were not wanted.
    pub cmdline: Option<Vec<String>>,
    /// Arguments were longer than what is kept.
    pub cmdline_cut: bool,
    /// The user it ran as; `None` if unknown.
    pub uid: Option<u32>,
}

/// How it is known that a process used a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// The packet's own socket.
    Socket,
    /// Inferred from addresses and ports.
    Tuple,
    /// It must be one of the run's: nobody else is in the namespace.
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

/// Who used a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowUser {
    /// The process.
    pub process: ProcessId,
    /// How that is known.
    pub evidence: Evidence,
    /// It made the socket, and another may have used it.
    pub is_maker: bool,
}

/// A unix socket that something connected to: a way in which work leaves the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSocket {
    /// Its path; an abstract name begins with `@`.
    pub path: String,
    /// How often it was connected to or sent to.
    pub connections: u64,
    /// How often that failed at once, as far as failed calls were looked for.
    pub failed: u64,
    /// How often nothing by that abstract name was there when looked at, which may be a moment after the call: no proof of a failure. Not kept
    /// in recordings, which keep the note that follows from it.
    pub missing: u64,
    /// Who did.
    pub processes: Vec<ProcessId>,
}

/// Whether processes were looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Attribution {
    /// They were.
    On,
    /// Nothing was run: a capture knows of no processes.
    #[default]
    Absent,
    /// They could not be, for this reason.
    Off(String),
}

/// ProcessAction could not be found out, by reason. None of it costs counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessLosses {
    /// Events that found no room in the ring.
    pub events: u64,
    /// Sockets that found no room in the kernel's table.
    pub sockets: u64,
    /// Processes that were gone before their executable or arguments could be read.
    pub gone: u64,
    /// Programs that were told of, but not with their path or with arguments that were wanted.
    pub unreadable: u64,
    /// Records that were not understood.
    pub unknown: u64,
    /// Processes, attempts and unix sockets beyond those that are kept.
    pub beyond: u64,
}

impl ProcessLosses {
    /// Adds what another part missed.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.sockets += other.sockets;
        self.gone += other.gone;
        self.unreadable += other.unreadable;
        self.unknown += other.unknown;
        self.beyond += other.beyond;
    }

    /// All of it.
    pub fn sum(&self) -> u64 {
        let Self { events, sockets, gone, unreadable, unknown, beyond } = *self;
        events + sockets + gone + unreadable + unknown + beyond
    }
}

/// Everything about processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// Whether they were looked for.
    pub attribution: Attribution,
    /// In the order in which they were seen first; the command is the first.
    pub list: Vec<Process>,
    /// By path.
    pub unix: Vec<LocalSocket>,
    /// ProcessAction could not be found out.
    pub lost: ProcessLosses,
}

impl Processes {
    /// The process of that number, if it is there.
    pub fn get(&self, id: ProcessId) -> Option<&Process> {
        self.list.get(id.0 as usize)
    }
}

/// Who used which flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowUsers(HashMap<FlowKey, Vec<FlowUser>>);

impl FlowUsers {
    /// Who used a flow, the surest first.
    pub fn of(&self, flow: &FlowKey) -> &[FlowUser] {
        self.0.get(flow).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every flow that has users, and those.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &[FlowUser])> {
        self.0.iter().map(|(flow, users)| (flow, users.as_slice()))
    }

    /// How many flows have users.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(FlowKey, Vec<FlowUser>)> for FlowUsers {
    fn from_iter<T: IntoIterator<Item = (FlowKey, Vec<FlowUser>)>>(users: T) -> Self {
        Self(users.into_iter().collect())
    }
}

/// ProcessAction processes did beside flows. Processes are named by their number in the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalCalls {
    /// Attempts that failed before they were a packet.
    pub attempts: Vec<Attempt>,
    /// Local sockets that something connected to.
    pub local_sockets: Vec<LocalSocket>,
}
