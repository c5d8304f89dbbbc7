//! ProcessAction a report needs of a trace: the processes that did something and those above them, who used which flow, and what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Trace;
use super::sockets::{Known, Span};
use crate::flow::{Direction, FlowKey, ObservationPoint, Protocol};
use crate::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, FlowUsers, Process, ProcessId,
    ProcessNumber, Processes,
};

/// A flow that is to be attributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowToAttribute {
    /// The flow.
    pub key: FlowKey,
    /// Who opened it.
    pub opened_by: Direction,
    /// Time of its first packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// And of its last.
    pub last_ns: u64,
}

/// ProcessAction it means that no packet was heard of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketCoverage {
    /// It had none: all packets were heard of, and no more will come.
    Final,
    /// That of a socket which is closed had none: all packets were heard of so far.
    SoFar,
    /// Nothing: packets were missed.
    Lossy,
}

/// ProcessAction came of it.
#[derive(Debug, Clone, Default)]
pub struct TraceResult {
    /// Processes, unix sockets, and what was lost.
    pub processes: Processes,
    /// Who used which flow.
    pub users: FlowUsers,
    /// ProcessAction failed before it was a packet.
    pub attempts: Vec<Attempt>,
}

/// Who used a flow, before processes have their places in the report.
type Seen = Vec<(ProcessNumber, Evidence, bool)>;

impl Trace {
    /// Puts it together. `command` is the number of the command's process, which must be one of those that use what nobody else is
    /// known to.
    pub fn result(
        &self,
        command: Option<u32>,
        flows: impl Iterator<Item = FlowToAttribute>,
        silence: PacketCoverage,
    ) -> TraceResult {
        let root = self.root(command);
        let seen: Vec<(FlowKey, Seen)> = flows.map(|flow| (flow.key, self.users_of_flow(&flow, || root))).collect();
        let unexplained = unexplained(&seen);
        let mut failures = self.failed_calls(&unexplained, silence);
        failures.extend(self.connections_without_a_packet(&unexplained, silence));
        let used = seen.iter().flat_map(|(_, seen)| seen.iter().map(|(number, ..)| *number));
        let failed = failures.iter().filter_map(|(number, _)| *number);
        let unix = self.unix.values().flat_map(|peer| &peer.processes).copied();
        let places = self.places(root.into_iter().chain(used).chain(failed).chain(unix));
        let attempts = failures.into_iter().map(|(number, attempt)| Attempt {
            process: number.and_then(|number| places.get(&number).copied()),
            ..attempt
        });
        let attempts = attempts.collect();
        let to_users = |seen: &Seen| {
            let user = |&(number, evidence, is_maker): &(ProcessNumber, Evidence, bool)| {
                Some(FlowUser { process: *places.get(&number)?, evidence, is_maker })
            };
            seen.iter().filter_map(user).collect::<Vec<_>>()
        };
        let users = seen.iter().map(|(key, seen)| (*key, to_users(seen))).filter(|(_, users)| !users.is_empty());
        let users = users.collect();
        TraceResult { processes: self.processes(&places), users, attempts }
    }

    /// The first program of the command's process that it ran by itself; without one, the first that was seen.
    pub(super) fn root(&self, command: Option<u32>) -> Option<ProcessNumber> {
        let entries = self.processes.entries();
        let of_command = entries.iter().find(|(_, entry)| Some(entry.pid) == command);
        of_command.or(entries.iter().next()).map(|(number, _)| *number)
    }

    /// The processes that used a flow, the surest first: each with the evidence, and whether it made the socket and
    /// another process may have used it. `command` is the process ID of the command, as for [`Trace::result`].
    ///
    /// Costs a few hash look-ups, however many sockets there are.
    pub fn users_of(&self, command: Option<u32>, flow: &FlowToAttribute) -> Vec<(ProcessNumber, Evidence, bool)> {
        self.users_of_flow(flow, || self.root(command))
    }

    fn users_of_flow(&self, flow: &FlowToAttribute, root: impl FnOnce() -> Option<ProcessNumber>) -> Seen {
        let by_socket = users(&self.sockets.of_flow(&flow.key), Evidence::Socket);
        if !by_socket.is_empty() {
            return by_socket;
        }
        let FlowKey { protocol, local, remote, scope, .. } = flow.key;
        let span = Span { first_ns: flow.first_ns, last_ns: flow.last_ns };
        // A port of the target's own that something is bound to; on the loopback either end is the target's.
        let is_local = scope == ObservationPoint::Loopback;
        // Where what told of its socket was lost: what the socket itself said of its ends when it was closed.
        let closed = [Some((local, remote)), is_local.then_some((remote, local))].into_iter().flatten();
        let closed = closed.flat_map(|(local, remote)| self.sockets.closed_between(protocol, local, remote, span));
        let by_tuple = users(&closed.collect::<Vec<_>>(), Evidence::Tuple);
        if !by_tuple.is_empty() {
            return by_tuple;
        }
        let ends = [Some(local), is_local.then_some(remote)];
        let bound = ends.into_iter().flatten().flat_map(|end| self.sockets.bound_to(protocol, end, span));
        let by_tuple = users(&bound.collect::<Vec<_>>(), Evidence::Tuple);
        // ProcessAction came from outside to nobody was answered by the kernel.
        if !by_tuple.is_empty() || flow.opened_by == Direction::Ingress {
            return by_tuple;
        }
        // Whose socket it was may be what was not kept.
        let is_forgotten = ends.into_iter().flatten().any(|end| self.sockets.may_be_forgotten(protocol, end));
        let is_complete = self.processes.beyond + self.sockets.beyond == 0 && !is_forgotten;
        let root = if is_complete { root() } else { None };
        root.map(|root| (root, Evidence::Netns, false)).into_iter().collect()
    }

    /// ProcessAction came to nothing without a packet, but for what a flow of whose packets nobody knows the socket may be.
    pub(super) fn failed_calls(
        &self,
        unexplained: &BTreeSet<SocketAddr>,
        silence: PacketCoverage,
    ) -> Vec<(Option<ProcessNumber>, Attempt)> {
        let attempt = |(key, times): (&super::failed::Key, &super::failed::Times)| {
            let (target, protocol, cause, number) = key.clone();
            let super::failed::Times { first_ns, last_ns, count } = *times;
            (number, Attempt { first_ns, last_ns, count, tries: 0, target, protocol, cause, process: None })
        };
        let may_be_a_flow = |attempt: &Attempt| match attempt.target {
            AttemptTarget::Address(address) if attempt.cause == AttemptCause::NoPacket => {
                silence == PacketCoverage::Lossy || unexplained.contains(&address)
            }
            _ => false,
        };
        self.failures.all().map(attempt).filter(|(_, attempt)| !may_be_a_flow(attempt)).collect()
    }

    /// Of a flow whose packets said no socket, nobody knows whose connection it was. While the run goes on, only what an errno explains has
    /// surely no packet.
    pub(super) fn connections_without_a_packet(
        &self,
        unexplained: &BTreeSet<SocketAddr>,
        silence: PacketCoverage,
    ) -> impl Iterator<Item = (Option<ProcessNumber>, Attempt)> {
        let came_to_nothing = self.sockets.all().filter_map(Known::came_to_nothing);
        let surely = came_to_nothing.filter(move |(tried, errno)| {
            errno.is_some() || (silence == PacketCoverage::Final && !unexplained.contains(&tried.address))
        });
        surely.map(|(tried, errno)| {
            let attempt = Attempt {
                first_ns: tried.first_ns,
                last_ns: tried.last_ns,
                count: tried.count,
                tries: 0,
                target: AttemptTarget::Address(tried.address),
                protocol: Some(Protocol::TCP),
                cause: errno.map_or(AttemptCause::NoPacket, AttemptCause::Errno),
                process: None,
            };
            (Some(tried.process), attempt)
        })
    }

    /// The places in the report of these and of all above them, in the order in which they were first seen.
    pub(super) fn places(&self, wanted: impl Iterator<Item = ProcessNumber>) -> BTreeMap<ProcessNumber, ProcessId> {
        let entries = self.processes.entries();
        let mut kept: BTreeSet<ProcessNumber> = BTreeSet::new();
        for number in wanted {
            let mut next = Some(number);
            while let Some(number) = next.filter(|number| kept.insert(*number)) {
                next = entries.get(&number).and_then(|entry| entry.parent);
            }
        }
        kept.into_iter().zip((0..).map(ProcessId)).collect()
    }

    pub(super) fn processes(&self, places: &BTreeMap<ProcessNumber, ProcessId>) -> Processes {
        let peer = |(path, peer): (&String, &super::Peer)| peer.named(path, |number| places.get(&number).copied());
        Processes {
            attribution: Attribution::On,
            list: places.keys().filter_map(|number| self.process_in(*number, places)).collect(),
            unix: self.unix.iter().map(peer).collect(),
            lost: self.lost(),
        }
    }

    /// A process, with its parent's place among others.
    pub(super) fn process_in(
        &self,
        number: ProcessNumber,
        places: &BTreeMap<ProcessNumber, ProcessId>,
    ) -> Option<Process> {
        let entry = self.processes.entries().get(&number)?;
        Some(Process {
            number,
            pid: entry.pid,
            start_ns: entry.start_ns,
            ppid: entry.ppid,
            parent: entry.parent.and_then(|parent| places.get(&parent).copied()),
            comm: entry.image.comm.clone(),
            exe: entry.image.exe.clone(),
            cmdline: entry.image.cmdline.clone(),
            cmdline_cut: entry.image.cmdline_cut,
            uid: Some(entry.uid),
        })
    }
}

/// Where TCP went by flows of which no socket is known.
fn unexplained(flows: &[(FlowKey, Seen)]) -> BTreeSet<SocketAddr> {
    let is_known = |seen: &Seen| seen.iter().any(|(_, evidence, _)| *evidence == Evidence::Socket);
    let unknown = flows.iter().filter(|(key, seen)| key.protocol == Protocol::TCP.0 && !is_known(seen));
    unknown.map(|(key, _)| SocketAddr::new(key.remote.addr, key.remote.port)).collect()
}

/// Everybody who used these sockets: of each, who used it without having made it first, because that one sent last.
fn users(sockets: &[&Known], evidence: Evidence) -> Seen {
    let mut seen: Seen = Vec::new();
    for socket in sockets {
        let others = socket.users.iter().rev().filter(|user| Some(**user) != socket.maker).map(|user| (*user, false));
        for (number, is_maker) in others.chain(socket.maker.map(|maker| (maker, true))) {
            match seen.iter_mut().find(|(known, ..)| *known == number) {
                Some((.., maker)) => *maker |= is_maker,
                None => seen.push((number, evidence, is_maker)),
            }
        }
    }
    seen
}
