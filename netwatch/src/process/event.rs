//! What the kernel reports about the processes of a session, one event at a time.

use std::net::SocketAddr;

use crate::flow::{Protocol, TransportAddress};

/// An action of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEvent {
    /// Time of the action, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Start of the process, nanoseconds since the Unix epoch; 0 if not known.
    pub start_ns: u64,
    /// The process, in the initial PID namespace.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The program that the process runs: a number that changes with each exec, and that a child
    /// takes over from its creator.
    pub program: u32,
    /// Real user ID of the process.
    pub uid: u32,
    /// Name of the thread.
    pub comm: ThreadName,
    /// The action.
    pub action: ProcessAction,
}

/// Name of a thread, as the kernel stores it: terminated by a zero unless it is this long. Every
/// event has one, and few are needed as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadName(pub [u8; 16]);

impl ThreadName {
    /// The name as text.
    pub fn text(self) -> String {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }
}

impl From<&str> for ThreadName {
    fn from(text: &str) -> Self {
        let mut name = [0; 16];
        name.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Self(name)
    }
}

impl ProcessEvent {
    /// The value of [`ProcessEvent::program`] that no process has: a process that was found, and
    /// whose program no event reported.
    pub const UNKNOWN_PROGRAM: u32 = u32::MAX;
    /// The value of [`ProcessEvent::uid`] that no process has: the user ID is not known.
    pub const UNKNOWN_UID: u32 = u32::MAX;
}

/// What a process did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessAction {
    /// It used an IPv4 or IPv6 socket.
    SocketUse(SocketOperation, SocketUse),
    /// It connected to a local socket, or sent it a message. An abstract name begins with `@`.
    LocalSocket(String),
    /// It was created; the event is the child's.
    Fork(Origin),
    /// It started another program.
    Exec(Origin, Image),
    /// A system call of it failed.
    FailedCall(FailedCall),
    /// It closed a socket that no other process has.
    ClosedSocket(ClosedSocket),
    /// Its last thread ended.
    Exit,
}

/// What was done with a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOperation {
    /// It was created.
    Created,
    /// It was bound to [`SocketUse::address`].
    Bound,
    /// A connection to [`SocketUse::address`] was started.
    Connect,
    /// Data was sent or received.
    Used,
    /// A message to [`SocketUse::address`] could not be sent, with this errno.
    SendFailed(i32),
}

/// A socket, and the address that an operation was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketUse {
    /// The kernel's number of the socket, which it never reuses.
    pub cookie: u64,
    /// Cookie of the socket's network namespace; 0 if not known.
    pub netns: u64,
    /// IANA protocol number; `None` if not known.
    pub protocol: Option<Protocol>,
    /// See [`SocketOperation`]; `None` if the operation has no address.
    pub address: Option<SocketAddr>,
}

/// A socket that was closed by the last process that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSocket {
    /// As [`SocketUse::cookie`].
    pub cookie: u64,
    /// As [`SocketUse::netns`].
    pub netns: u64,
    /// As [`SocketUse::protocol`].
    pub protocol: Option<Protocol>,
    /// Its own end, if it still had a port.
    pub local: Option<TransportAddress>,
    /// The end that it was connected to.
    pub remote: Option<TransportAddress>,
}

/// Where a process comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Start of the process, nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Process ID of its parent.
    pub ppid: u32,
    /// Process ID of the process that created it, of which it is a copy.
    pub maker: u32,
}

/// A program as it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The name that the kernel keeps.
    pub comm: String,
    /// Path of the executable; `None` if the process ended before it could be read.
    pub exe: Option<String>,
    /// Its arguments; `None` if they could not be read, or were not requested.
    pub cmdline: Option<Vec<String>>,
    /// There were more arguments than are stored.
    pub cmdline_cut: bool,
    /// The path, or arguments that were requested, could not be read.
    pub is_unreadable: bool,
}

/// A system call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// The call.
    pub name: CallName,
    /// Why it failed.
    pub errno: i32,
    /// What it was to reach; for `socket`, the unspecified address of the family.
    pub target: CallTarget,
    /// Protocol argument of `socket`, if it had one.
    pub protocol: Option<Protocol>,
}

/// System calls of which failures are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallName {
    /// `socket(2)`.
    Socket,
    /// `connect(2)`.
    Connect,
    /// `sendto(2)` or `sendmsg(2)`.
    Send,
}

/// What a call was to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallTarget {
    /// An IPv4 or IPv6 address.
    Address(SocketAddr),
    /// A local socket.
    LocalSocket(String),
    /// Another address family, or no address.
    Other,
}
