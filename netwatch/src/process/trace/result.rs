//! What a report takes from a trace: the processes that did something and their ancestors, the
//! users of each flow, and failed attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use smallvec::SmallVec;

use super::failures::{AttemptTimes, FailureKey};
use super::socket::{KnownSocket, TimeSpan};
use super::sockets::FoundSockets;
use super::{LocalSocketUse, Trace};
use crate::flow::{Direction, FlowKey, ObservationPoint, Protocol};
use crate::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, FlowUsers, Process, ProcessEvent, ProcessId,
    ProcessNumber, Processes,
};

/// A flow to attribute to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowToAttribute {
    /// The flow.
    pub key: FlowKey,
    /// The side that opened it.
    pub opened_by: Direction,
    /// Time of its first packet, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// Time of its last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
}

/// Which packets have been processed. It decides what follows from a connection without a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketCoverage {
    /// All packets, and no more will arrive: the connection failed before a packet was sent.
    Final,
    /// All packets so far: a packet may still arrive, unless the socket is closed.
    SoFar,
    /// Samples were lost: nothing follows.
    Lossy,
}

/// The processes of a report, and what they did.
#[derive(Debug, Clone, Default)]
pub struct TraceResult {
    /// Processes, local sockets and losses.
    pub processes: Processes,
    /// The users of each flow.
    pub users: FlowUsers,
    /// Attempts that failed before a packet was sent.
    pub attempts: Vec<Attempt>,
}

/// The users of a flow, by their numbers: each with the evidence, and whether it created the
/// socket.
type NumberedUsers = SmallVec<[(ProcessNumber, Evidence, bool); 2]>;

impl Trace {
    /// Attributes these flows and collects what the processes did. A flow is attributed to the
    /// command if nothing else is known about it.
    pub fn result(&self, flows: impl Iterator<Item = FlowToAttribute>, coverage: PacketCoverage) -> TraceResult {
        let root = self.root();
        let of_flows: Vec<(FlowKey, NumberedUsers)> = flows.map(|flow| (flow.key, self.users_of(&flow))).collect();
        let unexplained = unexplained(&of_flows);
        let mut failures = self.failed_calls(&unexplained, coverage);
        failures.extend(self.connections_without_a_packet(&unexplained, coverage));
        let used = of_flows.iter().flat_map(|(_, users)| users.iter().map(|(number, ..)| *number));
        let failed = failures.iter().filter_map(|(number, _)| *number);
        let of_local_sockets = self.local_sockets.values().flat_map(|socket| &socket.processes).copied();
        let ids = self.ids(root.into_iter().chain(used).chain(failed).chain(of_local_sockets));
        let attempts = failures.into_iter().map(|(number, attempt)| Attempt {
            process: number.and_then(|number| ids.get(&number).copied()),
            ..attempt
        });
        let attempts = attempts.collect();
        let to_users = |users: &NumberedUsers| {
            let user = |&(number, evidence, is_maker): &(ProcessNumber, Evidence, bool)| {
                Some(FlowUser { process: *ids.get(&number)?, evidence, is_maker })
            };
            users.iter().filter_map(user).collect::<Vec<_>>()
        };
        let users = of_flows.iter().map(|(key, users)| (*key, to_users(users))).filter(|(_, users)| !users.is_empty());
        let users = users.collect();
        TraceResult { processes: self.processes(&ids), users, attempts }
    }

    /// The first program in the process of the command; if there is none, the first program in any
    /// process. `None` if the session has no command.
    pub(super) fn root(&self) -> Option<ProcessNumber> {
        if self.has_no_command { None } else { self.processes.first_of_command() }
    }

    /// The processes that used a flow, the most certain first: each with the evidence, and whether
    /// it created the socket, which another process may have used.
    ///
    /// Costs a few hash lookups, regardless of the number of sockets.
    pub fn users_of(&self, flow: &FlowToAttribute) -> NumberedUsers {
        let span = TimeSpan { first_ns: flow.first_ns, last_ns: flow.last_ns };
        let by_socket = users(&self.sockets.of_flow(&flow.key), Evidence::Socket);
        if !by_socket.is_empty() {
            return by_socket;
        }
        let FlowKey { protocol, local, remote, point, .. } = flow.key;
        // On the loopback both ends belong to the target.
        let is_local = point == ObservationPoint::Loopback;
        // If the record that links the flow to its socket was lost: a socket that had the ends of
        // the flow when it was closed.
        let closed = [Some((local, remote)), is_local.then_some((remote, local))].into_iter().flatten();
        let closed = closed.flat_map(|(local, remote)| self.sockets.closed_between(protocol, local, remote, span));
        let by_tuple = users(&closed.collect::<FoundSockets<'_>>(), Evidence::Tuple);
        if !by_tuple.is_empty() {
            return by_tuple;
        }
        let may_be_here = is_local || self.sockets.may_end_here(local);
        let ends = [may_be_here.then_some(local), is_local.then_some(remote)];
        let bound = ends.into_iter().flatten().flat_map(|end| self.sockets.bound_to(protocol, end, span));
        let by_tuple = users(&bound.collect::<FoundSockets<'_>>(), Evidence::Tuple);
        // The kernel answers what a remote sends to a port that no socket is bound to.
        if !by_tuple.is_empty() || flow.opened_by == Direction::Ingress {
            return by_tuple;
        }
        // It may be the flow of a socket or process that is not stored.
        let is_forgotten = ends.into_iter().flatten().any(|end| self.sockets.may_be_forgotten(protocol, end));
        let is_complete = self.processes.beyond + self.sockets.beyond == 0 && !is_forgotten;
        if self.has_no_command || !is_complete {
            return NumberedUsers::new();
        }
        // The program that ran when the first packet was sent: first packets have precise times.
        let command = self.processes.of_command(flow.first_ns);
        command.map(|command| (command, Evidence::Netns, false)).into_iter().collect()
    }

    /// The processes that used a socket. None if it is not known.
    pub(super) fn users_of_socket(&self, cookie: u64) -> NumberedUsers {
        users(self.sockets.get(cookie).as_slice(), Evidence::Socket)
    }

    /// Attempts that failed without a packet, except those to the remote of a flow whose socket is
    /// not known: they may be that flow.
    pub(super) fn failed_calls(
        &self,
        unexplained: &BTreeSet<SocketAddr>,
        coverage: PacketCoverage,
    ) -> Vec<(Option<ProcessNumber>, Attempt)> {
        let attempt = |(key, times): (&FailureKey, &AttemptTimes)| {
            let (target, protocol, cause, number) = key.clone();
            let AttemptTimes { first_ns, last_ns, count } = *times;
            (number, Attempt { first_ns, last_ns, count, packets: 0, target, protocol, cause, process: None })
        };
        let may_be_a_flow = |attempt: &Attempt| match attempt.target {
            AttemptTarget::Address(address) if attempt.cause == AttemptCause::NoPacket => {
                coverage == PacketCoverage::Lossy || unexplained.contains(&address)
            }
            _ => false,
        };
        self.failures.all().map(attempt).filter(|(_, attempt)| !may_be_a_flow(attempt)).collect()
    }

    /// Connections that failed without a packet, except those to the remote of a flow whose socket
    /// is not known. During the session, only an errno proves that no packet will follow.
    pub(super) fn connections_without_a_packet(
        &self,
        unexplained: &BTreeSet<SocketAddr>,
        coverage: PacketCoverage,
    ) -> impl Iterator<Item = (Option<ProcessNumber>, Attempt)> {
        // Before the end, a connection whose errno is unknown may still have a packet.
        let is_final = coverage == PacketCoverage::Final;
        let failing = (!is_final).then(|| self.sockets.failing()).into_iter().flatten();
        let sockets = failing.chain(is_final.then(|| self.sockets.all()).into_iter().flatten());
        let failed = sockets
            .filter_map(KnownSocket::connects_without_a_packet)
            .filter(|(connects, errno)| errno.is_some() || !unexplained.contains(&connects.address));
        failed.map(|(connects, errno)| {
            let attempt = Attempt {
                first_ns: connects.first_ns,
                last_ns: connects.last_ns,
                count: connects.count,
                packets: 0,
                target: AttemptTarget::Address(connects.address),
                protocol: Some(Protocol::TCP),
                cause: errno.map_or(AttemptCause::NoPacket, AttemptCause::Errno),
                process: None,
            };
            (Some(connects.process), attempt)
        })
    }

    /// The indices in the report of these processes and their ancestors, in order of first
    /// appearance.
    pub(super) fn ids(&self, wanted: impl Iterator<Item = ProcessNumber>) -> BTreeMap<ProcessNumber, ProcessId> {
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

    pub(super) fn processes(&self, ids: &BTreeMap<ProcessNumber, ProcessId>) -> Processes {
        let local_socket =
            |(path, socket): (&String, &LocalSocketUse)| socket.named(path, |number| ids.get(&number).copied());
        Processes {
            attribution: Attribution::On,
            list: ids.keys().filter_map(|number| self.process_in(*number, ids)).collect(),
            local_sockets: self.local_sockets.iter().map(local_socket).collect(),
            lost: self.lost(),
        }
    }

    /// The programs that used sockets in other network namespaces than the session's.
    pub fn programs_elsewhere(&self) -> BTreeSet<String> {
        let process = |number: &ProcessNumber| self.process_in(*number, &BTreeMap::new());
        if self.has_strangers {
            return BTreeSet::new();
        }
        self.sockets.elsewhere.iter().filter_map(|number| Some(process(number)?.program().to_owned())).collect()
    }

    /// A process, with the index of its parent.
    pub(super) fn process_in(
        &self,
        number: ProcessNumber,
        ids: &BTreeMap<ProcessNumber, ProcessId>,
    ) -> Option<Process> {
        let entry = self.processes.entries().get(&number)?;
        Some(Process {
            number,
            pid: entry.pid,
            start_ns: entry.start_ns,
            ppid: entry.ppid,
            parent: entry.parent.and_then(|parent| ids.get(&parent).copied()),
            comm: entry.image.comm.clone(),
            exe: entry.image.exe.clone(),
            cmdline: entry.image.cmdline.clone(),
            cmdline_cut: entry.image.cmdline_cut,
            uid: Some(entry.uid).filter(|uid| *uid != ProcessEvent::UNKNOWN_UID),
        })
    }
}

/// The remotes of TCP flows whose socket is not known.
fn unexplained(flows: &[(FlowKey, NumberedUsers)]) -> BTreeSet<SocketAddr> {
    let is_known = |users: &NumberedUsers| users.iter().any(|(_, evidence, _)| *evidence == Evidence::Socket);
    let unknown = flows.iter().filter(|(key, users)| key.protocol == Protocol::TCP.0 && !is_known(users));
    unknown.map(|(key, _)| SocketAddr::new(key.remote.addr, key.remote.port)).collect()
}

/// All users of these sockets. For each socket, the processes that did not create it come first,
/// because they sent last.
fn users(sockets: &[&KnownSocket], evidence: Evidence) -> NumberedUsers {
    let mut found = NumberedUsers::new();
    for socket in sockets {
        let others = socket.users.iter().rev().filter(|user| Some(**user) != socket.maker).map(|user| (*user, false));
        for (number, is_maker) in others.chain(socket.maker.map(|maker| (maker, true))) {
            match found.iter_mut().find(|(known, ..)| *known == number) {
                Some((.., maker)) => *maker |= is_maker,
                None => found.push((number, evidence, is_maker)),
            }
        }
    }
    found
}
