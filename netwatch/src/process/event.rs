//! ProcessAction the kernel tells of a run's processes, one thing at a time.

use std::net::SocketAddr;

use crate::flow::{End, Protocol};

/// Something a process did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEvent {
    /// When, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// When the process began, nanoseconds since the Unix epoch; 0 if not known.
    pub start_ns: u64,
    /// Which process, in the initial PID namespace.
    pub pid: u32,
    /// Which of its threads.
    pub tid: u32,
    /// Which of its programs the process runs: a number that is another after each exec, and of a child its maker's.
    pub program: u32,
    /// Its real user id.
    pub uid: u32,
    /// The name of the thread.
    pub comm: String,
    /// ProcessAction it did.
    pub what: ProcessAction,
}

/// ProcessAction was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessAction {
    /// Something with a socket of IPv4 or IPv6.
    SocketUse(SocketOperation, SocketUse),
    /// A unix socket was connected to, or a message sent to it. An abstract name begins with `@`.
    LocalSocket(String),
    /// A process was made; the event is the child's.
    Fork(Origin),
    /// A process runs another program.
    Exec(Origin, Image),
    /// A system call failed.
    FailedCall(FailedCall),
    /// A socket was closed by the last that had it.
    ClosedSocket(ClosedSocket),
    /// The last thread of the process ends.
    Exit,
}

/// ProcessAction was done with a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOperation {
    /// It was made.
    Created,
    /// It was bound to `address`.
    Bound,
    /// It is being connected to `address`.
    Connect,
    /// It was sent from or read.
    Used,
    /// A message to `address` could not be sent, for this errno.
    SendFailed(i32),
}

/// A socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketUse {
    /// The kernel gives no number twice.
    pub cookie: u64,
    /// The cookie of its network namespace; 0 if it is not told.
    pub netns: u64,
    /// IANA protocol number; `None` if it is not known.
    pub protocol: Option<Protocol>,
    /// See [`SocketOperation`]; `None` if there is none.
    pub address: Option<SocketAddr>,
}

/// A socket that nobody has any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSocket {
    /// As [`SocketUse::cookie`].
    pub cookie: u64,
    /// As [`SocketUse::netns`].
    pub netns: u64,
    /// As [`SocketUse::protocol`].
    pub protocol: Option<Protocol>,
    /// Its own end, where it still had a port.
    pub local: Option<End>,
    /// ProcessAction it was connected with.
    pub remote: Option<End>,
}

/// Where a process comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// When it began, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Its parent.
    pub ppid: u32,
    /// The process that it is a copy of.
    pub maker: u32,
}

/// A program as it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The name that the kernel keeps.
    pub comm: String,
    /// Path of the executable; `None` if it was gone before it could be read.
    pub exe: Option<String>,
    /// Its arguments; `None` if they were gone, or were not wanted.
    pub cmdline: Option<Vec<String>>,
    /// There were more than are kept.
    pub cmdline_cut: bool,
    /// The path, or arguments that were wanted, could not be read.
    pub is_unreadable: bool,
}

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// Which.
    pub name: CallName,
    /// Why.
    pub errno: i32,
    /// ProcessAction it was given to reach; of `socket` the unspecified address of its family.
    pub target: CallTarget,
    /// Of `socket`, if it said one.
    pub protocol: Option<Protocol>,
}

/// System calls that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallName {
    /// `socket(2)`.
    SocketUse,
    /// `connect(2)`.
    Connect,
    /// `sendto(2)` or `sendmsg(2)`.
    Send,
}

/// ProcessAction a call was to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallTarget {
    /// An address of the internet.
    Address(SocketAddr),
    /// A unix socket.
    LocalSocket(String),
    /// Something else, or nothing.
    Other,
}
