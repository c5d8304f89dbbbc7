//! Processes in a capture: netwatch and ptcpdump write the process of a packet into its comment.

use std::collections::HashMap;

use super::tally::frames_of;
use crate::capture::comment::CommentedProcess;
use crate::flow::{FlowKey, Protocol};
use crate::process::{
    Attribution, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse, SystemView,
};
use crate::session::{CaptureScope, Observed, Session};

/// Maximum number of flows with a process, including changes of a flow's process. Packets beyond
/// have no process in the report.
const MAX_FOLLOWED: u64 = if cfg!(test) { 4096 } else { 262_144 };
/// Maximum length of the names and paths of all processes, bytes.
const MAX_TEXT: usize = if cfg!(test) { 1 << 20 } else { 32 << 20 };

/// The processes of the comments so far.
#[derive(Debug, Default)]
pub(super) struct CommentedProcesses {
    processes: HashMap<CommentedProcess, u32>,
    /// The program that used each flow last, and the number of its socket.
    flows: HashMap<FlowKey, (u32, u64)>,
    sockets: u64,
    /// Length of the names and paths of the processes.
    text_bytes: usize,
    /// Packets with a process that was not followed.
    omitted: u64,
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
    /// Attributes the flow of a packet to the process in one of its comments, if there is one.
    pub(super) fn observe(
        &mut self,
        session: &mut Session<CaptureScope>,
        flow: FlowKey,
        comments: &[Option<&str>],
        time_ns: u64,
    ) {
        let Some(process) = comments.iter().flatten().find_map(|comment| CommentedProcess::parse(comment)) else {
            return;
        };
        if self.processes.is_empty() {
            session.set_attribution(Attribution::On);
        }
        let known = self.processes.get(&process).copied();
        if known.is_some() && self.flows.get(&flow).map(|(last, _)| *last) == known {
            return;
        }
        // Each change needs a socket, so there are no more processes and flows than sockets.
        let text = if known.is_some() { 0 } else { process.text_len() };
        if self.sockets >= MAX_FOLLOWED || self.text_bytes + text > MAX_TEXT {
            self.omitted += 1;
            return;
        }
        self.text_bytes += text;
        let next = self.processes.len() as u32;
        let program = *self.processes.entry(process.clone()).or_insert(next);
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

    /// The note for the report.
    pub(super) fn note(&self) -> Option<String> {
        let packets = frames_of(self.omitted);
        (self.omitted > 0).then(|| {
            format!(
                "the processes of {packets} are not in this report: it follows {MAX_FOLLOWED} flows with a process, and \
                 {} MiB of names and paths",
                MAX_TEXT >> 20
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ObservationPoint, TransportAddress};
    use crate::session::SessionConfig;

    /// A capture of any length with another process in every comment.
    #[test]
    fn changes_of_a_process_are_bounded_and_the_rest_is_reported() {
        let flow = flow(1);
        let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
        let mut processes = CommentedProcesses::default();
        let comments = [1, 2].map(|pid| format!("process pid={pid} comm=\"x\""));
        for number in 0..MAX_FOLLOWED + 6 {
            let comments = [Some("another comment"), Some(comments[number as usize % 2].as_str())];
            processes.observe(&mut session, flow, &comments, number);
        }
        assert_eq!((processes.sockets, processes.processes.len()), (MAX_FOLLOWED, 2));
        let note = processes.note().expect("a note");
        assert!(note.starts_with("the processes of 3 frames are not in this report"), "{note}");
    }

    #[test]
    fn the_length_of_names_is_bounded() {
        let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
        let mut processes = CommentedProcesses::default();
        let path = "x".repeat(1 << 10);
        let most = (MAX_TEXT / path.len()) as u16;
        for pid in 1..=most + 2 {
            let comment = format!("process pid={pid} comm=\"\" exe=\"{path}\"");
            processes.observe(&mut session, flow(pid), &[Some(&comment)], pid.into());
        }
        assert_eq!((processes.processes.len(), processes.omitted), (most.into(), 2));
    }

    fn flow(port: u16) -> FlowKey {
        let end = |text: &str| TransportAddress { addr: text.parse().expect("an address"), port };
        let (local, remote) = (end("198.51.100.2"), end("198.51.100.1"));
        FlowKey { point: ObservationPoint::Link, protocol: 6, fragment: false, local, remote }
    }
}
