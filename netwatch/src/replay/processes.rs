//! Processes in a capture: netwatch and ptcpdump write the process of a packet into its comment.

use std::collections::HashMap;

use crate::capture::comment::CommentedProcess;
use crate::flow::{FlowKey, Protocol};
use crate::process::{
    Attribution, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse, SystemView,
};
use crate::session::{CaptureScope, Observed, Session};

/// Maximum number of processes and of flows with a process that are followed. Further ones have no
/// process in the report.
const MAX_FOLLOWED: usize = 262_144;

/// The processes of the comments so far.
#[derive(Debug, Default)]
pub(super) struct CommentedProcesses {
    processes: HashMap<CommentedProcess, u32>,
    /// The program that used each flow last, and the number of its socket.
    flows: HashMap<FlowKey, (u32, u64)>,
    sockets: u64,
}

/// The process of a comment, as if it were alive.
struct CommentedSystem(LiveProcess);

impl SystemView for CommentedSystem {
    fn process(&mut self, _pid: u32) -> Option<LiveProcess> {
        Some(self.0.clone())
    }

    fn is_bound(&mut self, _name: &str) -> Option<bool> {
        None
    }
}

impl CommentedProcesses {
    /// Attributes the flow of a packet to the process in its comment, if it has one.
    pub(super) fn observe(
        &mut self,
        session: &mut Session<CaptureScope>,
        flow: FlowKey,
        comment: Option<&str>,
        time_ns: u64,
    ) {
        let Some(process) = comment.and_then(CommentedProcess::parse) else {
            return;
        };
        if self.processes.is_empty() {
            session.set_attribution(Attribution::On);
        }
        let next = self.processes.len() as u32;
        if self.processes.len() >= MAX_FOLLOWED || self.flows.len() >= MAX_FOLLOWED {
            return;
        }
        let program = *self.processes.entry(process.clone()).or_insert(next);
        if self.flows.get(&flow).is_some_and(|(last, _)| *last == program) {
            return;
        }
        self.sockets += 1;
        let operation = match self.flows.insert(flow, (program, self.sockets)) {
            None => SocketOperation::Created,
            Some(_) => SocketOperation::Used,
        };
        let cookie = self.sockets;
        session.observe(Observed::Process(
            used(&process, operation, program, socket_of(flow, cookie), time_ns),
            &mut system(process, time_ns),
        ));
        session.observe(Observed::Socket { flow, cookie });
    }
}

/// A socket with the packets of a flow.
fn socket_of(flow: FlowKey, cookie: u64) -> SocketUse {
    SocketUse { cookie, netns: 0, protocol: Some(Protocol(flow.protocol)), address: None }
}

/// The process did something with a socket.
fn used(
    process: &CommentedProcess,
    operation: SocketOperation,
    program: u32,
    socket: SocketUse,
    time_ns: u64,
) -> ProcessEvent {
    ProcessEvent {
        time_ns,
        start_ns: 0,
        pid: process.pid,
        tid: process.pid,
        program,
        uid: process.uid.unwrap_or(ProcessEvent::UNKNOWN_UID),
        comm: process.comm.as_str().into(),
        action: ProcessAction::SocketUse(operation, socket),
    }
}

/// The start of the process is not known: the time of its first packet stands for it.
fn system(process: CommentedProcess, time_ns: u64) -> CommentedSystem {
    let image = Image { comm: process.comm, exe: process.exe, ..Image::default() };
    CommentedSystem(LiveProcess { origin: Origin { start_ns: time_ns, ppid: 0, maker: 0 }, image })
}
