//! What a metering session reads from a trace: the users of one flow, one process, failed
//! calls, and at the end the processes of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use smallvec::SmallVec;

use super::result::{FlowToAttribute, PacketCoverage};
use super::{LocalSocketUse, Trace};
use crate::process::{Attempt, Evidence, LocalCalls, LocalSocket, Process, ProcessId, ProcessNumber, Processes};

/// A process that used a flow, named by its number in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Usage {
    /// The process.
    pub process: ProcessNumber,
    /// How netwatch determined that.
    pub evidence: Evidence,
    /// It created the socket; another process may have used the socket.
    pub is_maker: bool,
}

/// The processes that used one flow: usually one of each end that belongs to the target.
pub type Usages = SmallVec<[Usage; 2]>;

/// The processes of a report.
#[derive(Debug, Clone, Default)]
pub struct TraceOutcome {
    /// Processes that did something, and their ancestors; local sockets; losses.
    pub processes: Processes,
    /// Attempts that failed before a packet was sent.
    pub attempts: Vec<Attempt>,
    /// The index of each process in the list, by its number.
    pub ids: BTreeMap<ProcessNumber, ProcessId>,
}

impl Trace {
    /// Sets the process ID of the command, before its first event: a flow is attributed to it if
    /// nothing else is known about the flow.
    pub fn set_command(&mut self, pid: u32) {
        self.processes.set_command(pid);
    }

    /// The processes that used a flow, the most certain first.
    pub fn usages_of(&self, flow: &FlowToAttribute) -> Usages {
        let usage = |(process, evidence, is_maker)| Usage { process, evidence, is_maker };
        self.users_of(flow).into_iter().map(usage).collect()
    }

    /// The processes that used the socket with this cookie.
    pub fn usages_of_socket(&self, cookie: u64) -> Usages {
        let usage = |(process, evidence, is_maker)| Usage { process, evidence, is_maker };
        self.users_of_socket(cookie).into_iter().map(usage).collect()
    }

    /// A process, and the number of its parent. [`Process::parent`] is not set: it refers to the
    /// list of a report.
    pub fn process(&self, number: ProcessNumber) -> Option<(Process, Option<ProcessNumber>)> {
        let parent = self.processes.entries().get(&number)?.parent;
        self.process_in(number, &BTreeMap::new()).map(|process| (process, parent))
    }

    /// Whether a process has not been removed.
    pub fn has_process(&self, number: ProcessNumber) -> bool {
        self.processes.entries().contains_key(&number)
    }

    /// Number of processes that have not been removed.
    pub fn process_count(&self) -> usize {
        self.processes.entries().len()
    }

    /// Failed calls and local sockets so far. Processes are named by their number.
    pub fn calls(&self, coverage: PacketCoverage) -> LocalCalls {
        let nothing = BTreeSet::new();
        let numbered =
            |(number, attempt): (Option<ProcessNumber>, Attempt)| Attempt { process: number.map(ProcessId), ..attempt };
        let failed = self.failed_calls(&nothing, coverage).into_iter();
        let unseen = self.connections_without_a_packet(&nothing, coverage);
        let local_socket =
            |(path, socket): (&String, &LocalSocketUse)| socket.named(path, |number| Some(ProcessId(number)));
        LocalCalls {
            attempts: failed.chain(unseen).map(numbered).collect(),
            local_sockets: self.local_sockets.iter().map(local_socket).collect(),
        }
    }

    /// The processes of a report in which these used a flow. `unexplained` are the remotes of TCP
    /// flows whose socket is not known.
    pub fn outcome(
        &self,
        used: impl Iterator<Item = ProcessNumber>,
        unexplained: &BTreeSet<SocketAddr>,
        coverage: PacketCoverage,
    ) -> TraceOutcome {
        let mut failures = self.failed_calls(unexplained, coverage);
        failures.extend(self.connections_without_a_packet(unexplained, coverage));
        let failed = failures.iter().filter_map(|(number, _)| *number);
        let of_local_sockets = self.local_sockets.values().flat_map(|socket| &socket.processes).copied();
        let root = self.root();
        let is_known = |number: &ProcessNumber| self.processes.entries().contains_key(number);
        let ids = self.ids(root.into_iter().chain(used).chain(failed).chain(of_local_sockets).filter(is_known));
        let placed = |(number, attempt): (Option<ProcessNumber>, Attempt)| Attempt {
            process: number.and_then(|number| ids.get(&number).copied()),
            ..attempt
        };
        let attempts = failures.into_iter().map(placed).collect();
        TraceOutcome { processes: self.processes(&ids), attempts, ids }
    }
}

impl LocalSocketUse {
    /// The local socket as a report lists it.
    pub(super) fn named(&self, path: &str, id: impl Fn(ProcessNumber) -> Option<ProcessId>) -> LocalSocket {
        LocalSocket {
            path: path.to_owned(),
            connections: self.connections,
            failed: self.failed,
            missing: self.missing,
            processes: self.processes.iter().filter_map(|number| id(*number)).collect(),
        }
    }
}
