//! One socket: the processes that created and use it, its connections, and its close.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::failures::AttemptTimes;
use crate::flow::{Protocol, TransportAddress};
use crate::process::ProcessNumber;

/// Processes stored for one socket, and sockets stored for one flow.
pub(super) const MAX_USERS: usize = 16;

/// A socket and what is known about it.
#[derive(Debug, Default)]
pub(super) struct KnownSocket {
    pub maker: Option<ProcessNumber>,
    /// In order of first appearance.
    pub users: SmallVec<[ProcessNumber; 2]>,
    pub protocol: Option<Protocol>,
    /// Connections that were attempted.
    pub connects: Option<Connects>,
    /// At least one of its packets was captured.
    pub has_packets: bool,
    /// It was linked to a flow: a flow without a link is another one.
    pub was_linked: bool,
    /// It is in a network namespace that the target created: its packets are not captured.
    pub elsewhere: bool,
    /// An event had the network namespace, which is one of the session.
    pub is_here: bool,
    /// Why its last connection failed.
    pub errno: Option<i32>,
    /// When it was first bound; if that was not reported, when it was created.
    pub bound_ns: Option<u64>,
    pub closed: Option<SocketClose>,
    /// Number of flows that are linked to it.
    pub flows: u32,
    /// It is in `Sockets::bound`.
    pub is_bound: bool,
}

/// The protocol, the local and the remote end of a closed socket.
pub(super) type ClosedEnds = (u8, TransportAddress, TransportAddress);

/// The close of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketClose {
    pub time_ns: u64,
    /// `Sockets::tidied` at that time.
    pub tidied: u64,
    /// Its local and its remote end.
    pub ends: Option<(TransportAddress, TransportAddress)>,
}

/// The time from the first to the last packet of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSpan {
    pub first_ns: u64,
    pub last_ns: u64,
}

/// The time of a packet may lag by one kernel tick, which is at most 10 ms; this is twice as long.
const TICK_NS: u64 = 20_000_000;

/// Connections that were attempted with one socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connects {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
    pub address: SocketAddr,
    pub process: ProcessNumber,
}

impl Connects {
    pub(super) fn times(&self) -> AttemptTimes {
        AttemptTimes { first_ns: self.first_ns, last_ns: self.last_ns, count: self.count }
    }
}

impl KnownSocket {
    /// Whether it was bound and not yet closed during this time.
    pub(super) fn is_of(&self, span: TimeSpan) -> bool {
        let was_closed = self.closed.is_some_and(|closed| closed.time_ns.saturating_add(TICK_NS) < span.first_ns);
        !was_closed && self.bound_ns.is_none_or(|bound_ns| bound_ns <= span.last_ns.saturating_add(TICK_NS))
    }

    /// Whether it was connected after this time.
    pub(super) fn is_connected_after(&self, time_ns: u64) -> bool {
        self.connects.is_some_and(|connects| connects.last_ns > time_ns)
    }

    /// All processes that created, used or connected it.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        let connecting = self.connects.map(|connects| connects.process);
        self.users.iter().copied().chain(self.maker).chain(connecting)
    }

    /// Adds a user. Returns false if there is no room for it.
    pub(super) fn used_by(&mut self, process: ProcessNumber) -> bool {
        let is_known = self.users.contains(&process);
        if !is_known && self.users.len() < MAX_USERS {
            self.users.push(process);
            return true;
        }
        is_known
    }

    /// Its protocol and ends, if it was closed with both.
    pub(super) fn closed_ends(&self) -> Option<ClosedEnds> {
        let (local, remote) = self.closed?.ends?;
        Some((self.protocol?.0, local, remote))
    }

    /// Whether nothing is known except that there is such a socket.
    pub(super) fn is_unknown(&self) -> bool {
        self.maker.is_none() && self.users.is_empty() && self.connects.is_none()
    }

    /// The connection attempts of a TCP socket without packets, with the errno of the last one, if
    /// known.
    pub(super) fn connects_without_a_packet(&self) -> Option<(Connects, Option<i32>)> {
        let is_tcp = self.protocol == Some(Protocol::TCP);
        self.connects.filter(|_| is_tcp && !self.has_packets).map(|connects| (connects, self.errno))
    }
}
