//! From events to who used what: follows processes and sockets, in bounded memory. Events come in the kernel's order, so a process number
//! means the process that had it at that moment.

mod failed;
mod last;
mod outcome;
mod result;
mod room;
mod sockets;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use outcome::{TraceOutcome, Usage};
pub use result::{FlowToAttribute, PacketCoverage, TraceResult};

use super::{
    AttemptCause, AttemptTarget, CallName, CallTarget, FailedCall, Image, Origin, ProcessAction, ProcessEvent,
    ProcessLosses, ProcessNumber, SocketOperation, SocketUse,
};
use crate::flow::{FlowKey, Protocol};
use failed::Failures;
use last::{Last, LastSteps};
use sockets::Sockets;
use table::Table;

/// How much is kept at the same time; what is beyond is counted in [`ProcessLosses::beyond`].
#[derive(Debug, Clone, Copy)]
struct TraceLimits {
    /// Programs in processes.
    programs: usize,
    sockets: usize,
    /// Flows with their sockets: more than are reported one by one.
    flows: usize,
    /// Unix sockets by path.
    unix: usize,
    /// Processes that went to unix sockets, of all paths together: those are kept for good.
    unix_users: usize,
    /// Attempts that failed, of which each keeps its process.
    failures: usize,
}

const BOUNDS: TraceLimits = TraceLimits {
    programs: 1 << 17,
    sockets: 1 << 18,
    flows: 1 << 18,
    unix: 1 << 12,
    unix_users: 1 << 15,
    failures: 1 << 14,
};

/// ProcessAction can be seen of the machine at the moment of an event.
pub trait SystemView {
    /// A process that lives: of which no event told. `None` if it is gone.
    fn process(&mut self, pid: u32) -> Option<LiveProcess>;
    /// Whether a unix socket of the run's namespace is bound to an abstract name (with its `@`) now; `None` if that cannot be seen.
    fn is_bound(&mut self, name: &str) -> Option<bool>;
}

/// A process that was found alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveProcess {
    /// Where it comes from.
    pub origin: Origin,
    /// ProcessAction it runs.
    pub image: Image,
}

/// Flows that the report has one by one: of others nobody asks.
pub trait ReportedFlows {
    /// Whether it has this one so far.
    fn contains(&self, flow: &FlowKey) -> bool;
    /// Whether no other one will come.
    fn is_complete(&self) -> bool;
}

/// Everything that was told so far.
#[derive(Debug)]
pub struct Trace {
    bounds: TraceLimits,
    processes: Table,
    sockets: Sockets,
    unix: BTreeMap<String, Peer>,
    unix_users: usize,
    failures: Failures,
    /// ProcessAction each thread was about to do, to know what a call that fails was about.
    last: LastSteps,
    beyond: u64,
    /// The process ID of the command.
    command: Option<u32>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::within(BOUNDS)
    }
}

#[derive(Debug, Default)]
struct Peer {
    connections: u64,
    failed: u64,
    missing: u64,
    processes: BTreeSet<ProcessNumber>,
}

impl Trace {
    fn within(bounds: TraceLimits) -> Self {
        Self {
            bounds,
            processes: Table::new(bounds.programs),
            sockets: Sockets::new(bounds.sockets, bounds.flows),
            unix: BTreeMap::new(),
            unix_users: 0,
            failures: Failures::new(bounds.failures),
            last: LastSteps::default(),
            beyond: 0,
            command: None,
        }
    }

    /// Of a run in the network namespace with this cookie: what goes on in others comes here only as packets of whoever hands them on.
    pub fn of_namespace(netns: Option<u64>) -> Self {
        let mut trace = Self::default();
        trace.sockets.netns = netns;
        trace
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: ProcessEvent, look: &mut dyn SystemView) {
        match event.what {
            ProcessAction::Fork(origin) => self.processes.forked(&event, origin),
            ProcessAction::Exec(origin, ref image) => self.processes.executed(&event, origin, image.clone(), look),
            ProcessAction::SocketUse(step, socket) => self.socket(&event, step, socket, look),
            ProcessAction::LocalSocket(ref path) => self.unix(&event, path, look),
            ProcessAction::FailedCall(ref call) => self.call(&event, call, look),
            ProcessAction::ClosedSocket(ref closed) => self.sockets.closed(event.time_ns, closed),
            ProcessAction::Exit => self.processes.ended(&event),
        }
    }

    /// Makes room where there is little left: forgets what is over and of no flow that is reported. To be called now and then, each time after all
    /// packets were heard of that were sent before the last time.
    ///
    /// Processes in `used` stay, beside those that are running and those of sockets and failures that stay.
    pub fn tidy(&mut self, reported: &dyn ReportedFlows, used: impl Iterator<Item = ProcessNumber>) {
        let is_due = self.sockets.is_nearly_full();
        if !is_due && !self.processes.is_nearly_full() {
            return;
        }
        for (tried, errno) in self.sockets.tidy(reported) {
            let cause = errno.map_or(AttemptCause::NoPacket, AttemptCause::Errno);
            let target = AttemptTarget::Address(tried.address);
            self.failures.add_all(tried.times(), target, Some(Protocol::TCP), cause, Some(tried.process));
        }
        let of_unix = self.unix.values().flat_map(|peer| peer.processes.iter().copied());
        self.processes.tidy(self.sockets.processes().chain(of_unix).chain(self.failures.processes()).chain(used));
    }

    /// A packet of a flow was of this socket.
    pub fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        self.sockets.note_flow(flow, cookie);
    }

    fn socket(&mut self, event: &ProcessEvent, step: SocketOperation, socket: SocketUse, look: &mut dyn SystemView) {
        let Some(process) = self.processes.current(event, look) else { return };
        self.sockets.step(process, event.time_ns, step, &socket);
        let last = Last { step, cookie: socket.cookie, address: socket.address, protocol: socket.protocol };
        self.last.note(event.tid, last);
        // TCP's failures are its packets', or its connection's.
        if let (SocketOperation::SendFailed(errno), Some(address)) = (step, socket.address)
            && socket.protocol != Some(Protocol::TCP)
            && !self.sockets.is_elsewhere(socket.cookie)
            && !is_told_by_packets(errno)
        {
            let target = AttemptTarget::Address(address);
            self.failures.add(event.time_ns, target, socket.protocol, AttemptCause::Errno(errno), Some(process));
        }
    }

    fn unix(&mut self, event: &ProcessEvent, path: &str, look: &mut dyn SystemView) {
        let Some(process) = self.processes.current(event, look) else { return };
        let missing = path.starts_with('@') && look.is_bound(path) == Some(false);
        let Some(peer) = self.peer(path, process) else { return };
        peer.connections += 1;
        // Who listened may have gone since: no failed attempt.
        peer.missing += u64::from(missing);
    }

    /// A unix socket, to which this process goes too.
    fn peer(&mut self, path: &str, process: ProcessNumber) -> Option<&mut Peer> {
        if self.unix.len() >= self.bounds.unix && !self.unix.contains_key(path) {
            self.beyond += 1;
            return None;
        }
        let peer = self.unix.entry(path.to_owned()).or_default();
        if !peer.processes.contains(&process) {
            if self.unix_users < self.bounds.unix_users {
                self.unix_users += 1;
                peer.processes.insert(process);
            } else {
                self.beyond += 1;
            }
        }
        Some(peer)
    }

    /// A call that failed, and that nothing else tells of.
    fn call(&mut self, event: &ProcessEvent, call: &FailedCall, look: &mut dyn SystemView) {
        let last = self.last.of(event.tid);
        let (target, protocol) = match (&call.target, call.name) {
            (CallTarget::Other, _) => return,
            (CallTarget::LocalSocket(path), _) => return self.unix_failed(event, path, call.errno, look),
            (CallTarget::Address(address), _)
                if is_the_callers_own(call.errno) || address.port() == 0 && call.name != CallName::SocketUse =>
            {
                return;
            }
            (CallTarget::Address(address), CallName::SocketUse) => (*address, call.protocol),
            (CallTarget::Address(address), _) => {
                let about = last.filter(|last| last.address == Some(*address));
                if about.is_some_and(|last| self.is_told_already(&last, call)) {
                    return;
                }
                (*address, about.and_then(|last| last.protocol))
            }
        };
        let process = self.processes.current(event, look);
        self.failures.add(
            event.time_ns,
            AttemptTarget::Address(target),
            protocol,
            AttemptCause::Errno(call.errno),
            process,
        );
    }

    /// By packets, or by the message that was not sent. Otherwise the connection needs no other explanation.
    fn is_told_already(&mut self, last: &Last, call: &FailedCall) -> bool {
        match (last.step, call.name) {
            (SocketOperation::SendFailed(errno), CallName::Send) => errno == call.errno,
            (SocketOperation::Connect, CallName::Connect) => self.sockets.explain(last.cookie, call.errno),
            _ => false,
        }
    }

    fn unix_failed(&mut self, event: &ProcessEvent, path: &str, errno: i32, look: &mut dyn SystemView) {
        let Some(process) = self.processes.current(event, look) else { return };
        let Some(peer) = self.peer(path, process) else { return };
        peer.failed += 1;
        self.failures.add(
            event.time_ns,
            AttemptTarget::LocalSocket(path.to_owned()),
            None,
            AttemptCause::Errno(errno),
            Some(process),
        );
    }

    /// ProcessAction this trace missed.
    pub fn lost(&self) -> ProcessLosses {
        ProcessLosses {
            events: 0,
            sockets: 0,
            gone: self.processes.gone,
            unreadable: self.processes.unreadable,
            unknown: 0,
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
