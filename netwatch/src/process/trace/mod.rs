//! From events to who used what: follows processes and sockets, in bounded memory. Events come in the kernel's order, so a process number
//! means the process that had it at that moment.

mod failed;
mod result;
mod sockets;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

pub use result::{Flow, Result};

use super::{Call, CallName, CallTarget, Cause, Event, Image, Lost, Origin, Socket, Step, Target, What};
use crate::flow::{FlowKey, Protocol};
use failed::Failures;
use sockets::Sockets;
use table::{Number, Table};

/// Unix sockets that are kept by path; further ones are counted in [`Lost::beyond`].
const MAX_UNIX: usize = 4096;

/// What can be seen of the machine at the moment of an event.
pub trait Look {
    /// A process that lives: of which no event told. `None` if it is gone.
    fn process(&mut self, pid: u32) -> Option<Found>;
    /// Whether a unix socket of the run's namespace is bound to an abstract name (with its `@`) now; `None` if that cannot be seen.
    fn is_bound(&mut self, name: &str) -> Option<bool>;
}

/// A process that was found alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it comes from.
    pub origin: Origin,
    /// What it runs.
    pub image: Image,
}

/// Everything that was told so far.
#[derive(Debug, Default)]
pub struct Trace {
    processes: Table,
    sockets: Sockets,
    unix: BTreeMap<String, Peer>,
    failures: Failures,
    /// What each thread was about to do when it was last heard of, to know what a call that fails was about.
    last: HashMap<u32, Last>,
    beyond: u64,
}

/// Threads of which the last step is kept.
const MAX_THREADS: usize = 16_384;

#[derive(Debug, Clone, Copy)]
struct Last {
    step: Step,
    cookie: u64,
    address: Option<SocketAddr>,
    protocol: Option<Protocol>,
}

#[derive(Debug, Default)]
struct Peer {
    connections: u64,
    failed: u64,
    missing: u64,
    processes: BTreeSet<Number>,
}

impl Trace {
    /// Of a run in the network namespace with this cookie: what goes on in others comes here only as packets of whoever hands them on.
    pub fn of_namespace(netns: Option<u64>) -> Self {
        let mut trace = Self::default();
        trace.sockets.netns = netns;
        trace
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: Event, look: &mut dyn Look) {
        match event.what {
            What::Fork(origin) => self.processes.forked(&event, origin),
            What::Exec(origin, ref image) => self.processes.executed(&event, origin, image.clone(), look),
            What::Socket(step, socket) => self.socket(&event, step, socket, look),
            What::Unix(ref path) => self.unix(&event, path, look),
            What::Call(ref call) => self.call(&event, call, look),
        }
    }

    /// A packet of a flow was of this socket.
    pub fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        self.sockets.note_flow(flow, cookie);
    }

    fn socket(&mut self, event: &Event, step: Step, socket: Socket, look: &mut dyn Look) {
        let Some(process) = self.processes.current(event, look) else { return };
        self.sockets.step(process, event.time_ns, step, &socket);
        let last = Last { step, cookie: socket.cookie, address: socket.address, protocol: socket.protocol };
        if self.last.len() < MAX_THREADS || self.last.contains_key(&event.tid) {
            self.last.insert(event.tid, last);
        } else {
            self.beyond += 1;
        }
        // TCP's failures are its packets', or its connection's.
        if let (Step::NotSent(errno), Some(address)) = (step, socket.address)
            && socket.protocol != Some(Protocol::TCP)
            && !self.sockets.is_elsewhere(socket.cookie)
            && !is_told_by_packets(errno)
        {
            let target = Target::Address(address);
            self.failures.add(event.time_ns, target, socket.protocol, Cause::Errno(errno), Some(process));
        }
    }

    fn unix(&mut self, event: &Event, path: &str, look: &mut dyn Look) {
        let Some(process) = self.processes.current(event, look) else { return };
        let missing = path.starts_with('@') && look.is_bound(path) == Some(false);
        let Some(peer) = self.peer(path) else { return };
        peer.connections += 1;
        // Who listened may have gone since: no failed attempt.
        peer.missing += u64::from(missing);
        peer.processes.insert(process);
    }

    fn peer(&mut self, path: &str) -> Option<&mut Peer> {
        if self.unix.len() >= MAX_UNIX && !self.unix.contains_key(path) {
            self.beyond += 1;
            return None;
        }
        Some(self.unix.entry(path.to_owned()).or_default())
    }

    /// A call that failed, and that nothing else tells of.
    fn call(&mut self, event: &Event, call: &Call, look: &mut dyn Look) {
        let last = self.last.get(&event.tid).copied();
        let (target, protocol) = match (&call.target, call.name) {
            (CallTarget::Other, _) => return,
            (CallTarget::Unix(path), _) => return self.unix_failed(event, path, call.errno, look),
            (CallTarget::Address(address), _)
                if is_the_callers_own(call.errno) || address.port() == 0 && call.name != CallName::Socket =>
            {
                return;
            }
            (CallTarget::Address(address), CallName::Socket) => (*address, call.protocol),
            (CallTarget::Address(address), _) => {
                let about = last.filter(|last| last.address == Some(*address));
                if about.is_some_and(|last| self.is_told_already(&last, call)) {
                    return;
                }
                (*address, about.and_then(|last| last.protocol))
            }
        };
        let process = self.processes.current(event, look);
        self.failures.add(event.time_ns, Target::Address(target), protocol, Cause::Errno(call.errno), process);
    }

    /// By packets, or by the message that was not sent. Otherwise the connection needs no other explanation.
    fn is_told_already(&mut self, last: &Last, call: &Call) -> bool {
        match (last.step, call.name) {
            (Step::NotSent(errno), CallName::Send) => errno == call.errno,
            (Step::Connect, CallName::Connect) => self.sockets.explain(last.cookie, call.errno),
            _ => false,
        }
    }

    fn unix_failed(&mut self, event: &Event, path: &str, errno: i32, look: &mut dyn Look) {
        let Some(process) = self.processes.current(event, look) else { return };
        let Some(peer) = self.peer(path) else { return };
        peer.failed += 1;
        peer.processes.insert(process);
        self.failures.add(event.time_ns, Target::Unix(path.to_owned()), None, Cause::Errno(errno), Some(process));
    }

    fn lost(&self) -> Lost {
        Lost {
            events: 0,
            sockets: 0,
            gone: self.processes.gone,
            beyond: self.beyond + self.processes.beyond + self.sockets.beyond + self.failures.beyond,
        }
    }
}

/// Errors that only an answer from outside brings: ECONNREFUSED, and of ICMP's others those that no route gives too are left to the flow's own.
fn is_told_by_packets(errno: i32) -> bool {
    const ECONNREFUSED: i32 = 111;
    errno == ECONNREFUSED
}

/// Errors that say nothing of what was to be reached: EINTR, EBADF, EFAULT, ENOTSOCK, EISCONN, EALREADY, and the kernel's own for a call that
/// a signal interrupted.
fn is_the_callers_own(errno: i32) -> bool {
    matches!(errno, 4 | 9 | 14 | 88 | 106 | 114 | 512..)
}
