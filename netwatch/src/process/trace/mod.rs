//! From events to the processes that used each flow: follows processes and sockets in bounded
//! memory. Events arrive in the kernel's order, so that a process ID stands for the process that
//! had it at that moment.

mod failures;
mod limits;
mod outcome;
mod result;
mod socket;
mod sockets;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use outcome::{TraceOutcome, Usage, Usages};
pub use result::{FlowToAttribute, PacketCoverage, TraceResult};

use super::{
    AttemptCause, AttemptTarget, CallName, CallTarget, FailedCall, Image, Origin, ProcessAction, ProcessEvent,
    ProcessLosses, ProcessNumber, SocketOperation, SocketUse,
};
use crate::flow::{FlowKey, ObservationPoint, Protocol};
use failures::{AttemptSums, ThreadOperation, ThreadOperations};
use limits::{TRACE_LIMITS, TraceLimits};
use sockets::Sockets;
use table::ProcessTable;

/// The state of the system at the moment of an event.
pub trait SystemView {
    /// A live process that no event reported. `None` if it has ended.
    fn process(&mut self, pid: u32) -> Option<LiveProcess>;
    /// Whether a local socket in the target's namespace is bound to an abstract name (with its
    /// `@`); `None` if that cannot be determined.
    fn is_bound(&mut self, name: &str) -> Option<bool>;
    /// Whether there is a local socket at this path for this process; `None` if that cannot be
    /// determined, because it has ended or the path is not absolute.
    fn has_socket(&mut self, _pid: u32, _path: &str) -> Option<bool> {
        None
    }
}

/// A process that was found alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveProcess {
    /// Where it comes from.
    pub origin: Origin,
    /// The program that it runs.
    pub image: Image,
}

/// The flows that the report lists individually: only these are attributed.
pub trait ReportedFlows {
    /// Whether the report has this flow so far.
    fn contains(&self, flow: &FlowKey) -> bool;
    /// Whether the report has no room for further flows.
    fn is_complete(&self) -> bool;
}

/// The processes, sockets and failed attempts that the events so far describe.
#[derive(Debug)]
pub struct Trace {
    limits: TraceLimits,
    processes: ProcessTable,
    sockets: Sockets,
    local_sockets: BTreeMap<String, LocalSocketUse>,
    /// Processes of all local sockets.
    local_socket_users: usize,
    failures: AttemptSums,
    /// The last operation of each thread explains a call that fails afterwards.
    operations: ThreadOperations,
    beyond: u64,
    /// Not every process is one of the target.
    has_strangers: bool,
    /// No flow is attributed only because no other process is known.
    has_no_command: bool,
    /// Number of changes that [`Self::calls`] may depend on.
    changes: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self::within(TRACE_LIMITS)
    }
}

/// The connections to one local socket.
#[derive(Debug, Default)]
struct LocalSocketUse {
    connections: u64,
    failed: u64,
    missing: u64,
    processes: BTreeSet<ProcessNumber>,
}

impl Trace {
    fn within(limits: TraceLimits) -> Self {
        Self {
            limits,
            processes: ProcessTable::new(limits.programs),
            sockets: Sockets::new(limits.sockets, limits.flows),
            local_sockets: BTreeMap::new(),
            local_socket_users: 0,
            failures: AttemptSums::new(limits.failures),
            operations: ThreadOperations::default(),
            beyond: 0,
            has_strangers: false,
            has_no_command: false,
            changes: 0,
        }
    }

    /// A trace of a session in the network namespaces with these cookies; without any, sockets of
    /// all namespaces are followed. Packets of sockets in other namespaces are not captured, unless
    /// they are forwarded.
    pub fn of_namespaces(netns: Vec<u64>) -> Self {
        let mut trace = Self::default();
        trace.sockets.netns = netns;
        trace
    }

    /// Events report processes that have nothing to do with the target, too: no flow is attributed
    /// only because no other process is known, and sockets in other namespaces are not the
    /// target's.
    pub fn set_has_strangers(&mut self) {
        self.has_strangers = true;
        self.has_no_command = true;
    }

    /// The addresses of the session's namespaces, where flows of others pass, too.
    pub fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.sockets.own_addresses = addresses;
    }

    /// All processes are the target's, and some have existed before: no flow is attributed only
    /// because no other process is known.
    pub fn set_has_no_command(&mut self) {
        self.has_no_command = true;
    }

    /// Applies the next event.
    pub fn apply(&mut self, event: ProcessEvent, system: &mut dyn SystemView) {
        self.changes += 1;
        match event.action {
            ProcessAction::Fork(origin) => self.processes.forked(&event, origin),
            ProcessAction::Exec(origin, ref image) => self.processes.executed(&event, origin, image.clone(), system),
            ProcessAction::SocketUse(operation, socket) => self.apply_socket(&event, operation, socket, system),
            ProcessAction::LocalSocket(ref path) => self.apply_local_socket(&event, path, system),
            ProcessAction::FailedCall(ref call) => self.apply_failed_call(&event, call, system),
            ProcessAction::ClosedSocket(ref closed) => self.sockets.closed(event.time_ns, closed),
            ProcessAction::Exit => self.processes.ended(&event),
        }
    }

    /// Removes processes and sockets that have ended and belong to no reported flow, if there is
    /// little room left. Call it now and then, each time after the samples of all packets have been
    /// processed that were sent before the previous call.
    ///
    /// Processes in `used` stay, beside those that are running and those of sockets and failures
    /// that stay.
    pub fn tidy(&mut self, reported: &dyn ReportedFlows, used: impl Iterator<Item = ProcessNumber>) {
        let is_due = self.sockets.is_nearly_full() | self.processes.is_nearly_full();
        match is_due {
            true => self.sockets.tidy(reported),
            false => self.sockets.tidy_closed(reported),
        }
        self.sockets.tidy_ports();
        for (connects, errno) in self.sockets.take_failed() {
            self.changes += 1;
            let cause = errno.map_or(AttemptCause::NoPacket, AttemptCause::Errno);
            let target = AttemptTarget::Address(connects.address);
            self.failures.add_all(connects.times(), target, Some(Protocol::TCP), cause, Some(connects.process));
        }
        if !is_due {
            return;
        }
        let of_local_sockets = self.local_sockets.values().flat_map(|socket| socket.processes.iter().copied());
        let of_sockets = self.sockets.processes().chain(of_local_sockets);
        self.processes.tidy(of_sockets.chain(self.failures.processes()).chain(used));
    }

    /// Notes that a flow ended at `last_ns`, and that its users were stored: they are no longer
    /// needed here.
    pub fn forget_flow(&mut self, flow: &FlowKey, last_ns: u64) {
        self.sockets.forget_flow(flow, last_ns);
        if flow.point == ObservationPoint::Loopback {
            self.sockets.forget_flow(&FlowKey { local: flow.remote, remote: flow.local, ..*flow }, last_ns);
        }
    }

    /// Notes that a packet of a flow came from or went to this socket.
    pub fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        self.changes += 1;
        self.sockets.note_flow(flow, cookie);
    }

    /// Whether a socket was bound to this port.
    pub fn was_bound(&self, port: u16) -> bool {
        self.sockets.was_bound(port)
    }

    /// Grows with everything that [`Self::calls`] may depend on.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn apply_socket(
        &mut self,
        event: &ProcessEvent,
        operation: SocketOperation,
        socket: SocketUse,
        system: &mut dyn SystemView,
    ) {
        let Some(process) = self.processes.current(event, system) else { return };
        self.sockets.apply(process, event.time_ns, operation, &socket);
        let SocketUse { cookie, protocol, .. } = socket;
        let address = socket.address.map(|last| match operation {
            SocketOperation::SendFailed(errno) if may_precede_destination(errno) => {
                if self.sockets.is_connected_to(cookie, last) { last } else { unknown_destination(last) }
            }
            _ => last,
        });
        self.operations.note(event.tid, ThreadOperation { operation, cookie, address, protocol });
        // Failures of TCP follow from packets, or from the connection.
        if let (SocketOperation::SendFailed(errno), Some(address)) = (operation, address)
            && protocol != Some(Protocol::TCP)
            && !self.sockets.is_elsewhere(cookie)
            // The event of a socket that existed before has no namespace.
            && (!self.has_strangers || self.sockets.is_here(cookie))
            && !follows_from_packets(errno)
        {
            let target = AttemptTarget::Address(address);
            self.failures.add(event.time_ns, target, protocol, AttemptCause::Errno(errno), Some(process));
        }
    }

    fn apply_local_socket(&mut self, event: &ProcessEvent, path: &str, system: &mut dyn SystemView) {
        let Some(process) = self.processes.current(event, system) else { return };
        let Some(socket) = self.local_socket(path, process) else { return };
        // The event is that of the call, whatever its result.
        let exists = match path.starts_with('@') {
            true => system.is_bound(path),
            // A path that existed once is not looked up again.
            false if socket.connections > socket.missing => None,
            false => system.has_socket(event.pid, path),
        };
        socket.connections += 1;
        // Not a failed attempt: the listening process may have ended since the call.
        socket.missing += u64::from(exists == Some(false));
    }

    /// A local socket, used by this process too.
    fn local_socket(&mut self, path: &str, process: ProcessNumber) -> Option<&mut LocalSocketUse> {
        if self.local_sockets.len() >= self.limits.local_sockets && !self.local_sockets.contains_key(path) {
            self.beyond += 1;
            return None;
        }
        let socket = self.local_sockets.entry(path.to_owned()).or_default();
        if !socket.processes.contains(&process) {
            if self.local_socket_users < self.limits.local_socket_users {
                self.local_socket_users += 1;
                socket.processes.insert(process);
            } else {
                self.beyond += 1;
            }
        }
        Some(socket)
    }

    /// Adds a failed call as an attempt, unless another event or packets report the attempt.
    fn apply_failed_call(&mut self, event: &ProcessEvent, call: &FailedCall, system: &mut dyn SystemView) {
        let (target, protocol) = match (&call.target, call.name) {
            (CallTarget::Other, _) => return,
            (CallTarget::LocalSocket(path), _) => {
                return self.apply_failed_local_socket(event, path, call.errno, system);
            }
            (CallTarget::Address(address), _)
                if is_unrelated_to_target(call.errno) || address.port() == 0 && call.name != CallName::Socket =>
            {
                return;
            }
            (CallTarget::Address(address), CallName::Socket) => (*address, call.protocol),
            (CallTarget::Address(address), _) => {
                let last = self.operations.of(event.tid);
                let process = self.processes.current(event, system);
                let same = last.filter(|last| last.address == Some(*address));
                if same.is_some_and(|last| self.is_reported_otherwise(&last, call)) {
                    return;
                }
                let elsewhere = last.filter(|last| same.is_none() && self.takes_back(last, call, process));
                (*address, same.or(elsewhere).and_then(|last| last.protocol))
            }
        };
        let process = self.processes.current(event, system);
        let (target, cause) = (AttemptTarget::Address(target), AttemptCause::Errno(call.errno));
        self.failures.add(event.time_ns, target, protocol, cause, process);
    }

    /// Whether the failure was added with the message that could not be sent, or will be added with
    /// the connection, if packets do not report it.
    fn is_reported_otherwise(&mut self, last: &ThreadOperation, call: &FailedCall) -> bool {
        match (last.operation, call.name) {
            (SocketOperation::SendFailed(errno), CallName::Send) => errno == call.errno,
            (SocketOperation::Connect, CallName::Connect) => self.sockets.explain(last.cookie, call.errno),
            _ => false,
        }
    }

    /// Removes the attempt of a message that was added before its destination was known: this call
    /// has it.
    fn takes_back(&mut self, last: &ThreadOperation, call: &FailedCall, process: Option<ProcessNumber>) -> bool {
        let (SocketOperation::SendFailed(errno), CallName::Send) = (last.operation, call.name) else { return false };
        let target = last.address.filter(|_| errno == call.errno && may_precede_destination(errno));
        let key = |target| (AttemptTarget::Address(target), last.protocol, AttemptCause::Errno(errno), process);
        target.is_some_and(|target| self.failures.remove_one(&key(target)))
    }

    fn apply_failed_local_socket(&mut self, event: &ProcessEvent, path: &str, errno: i32, system: &mut dyn SystemView) {
        let Some(process) = self.processes.current(event, system) else { return };
        let Some(socket) = self.local_socket(path, process) else { return };
        socket.failed += 1;
        let (target, cause) = (AttemptTarget::LocalSocket(path.to_owned()), AttemptCause::Errno(errno));
        self.failures.add(event.time_ns, target, None, cause, Some(process));
    }

    /// What this trace could not determine.
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

/// ECONNREFUSED implies that a reply arrived, which the flow reports. Other errors that ICMP causes
/// can be local too.
fn follows_from_packets(errno: i32) -> bool {
    const ECONNREFUSED: i32 = 111;
    errno == ECONNREFUSED
}

/// Errors that the kernel may return before it has read the destination of a message: EINVAL,
/// EDESTADDRREQ, EMSGSIZE, EOPNOTSUPP, EAFNOSUPPORT. The event has the previous destination.
fn may_precede_destination(errno: i32) -> bool {
    matches!(errno, 22 | 89 | 90 | 95 | 97)
}

/// Stands for a destination of the same address family that is not known.
fn unknown_destination(other: SocketAddr) -> SocketAddr {
    match other {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Errors that do not depend on the target of the call: EINTR, EBADF, EFAULT, ENOTSOCK, EISCONN,
/// EALREADY, and the kernel's internal numbers for a call that a signal interrupted.
fn is_unrelated_to_target(errno: i32) -> bool {
    matches!(errno, 4 | 9 | 14 | 88 | 106 | 114 | 512..)
}
