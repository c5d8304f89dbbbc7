//! Processes in a capture: netwatch and ptcpdump write the process of a packet into its comment.

use std::collections::HashMap;

use crate::flow::{FlowKey, Protocol};
use crate::process::{
    Attribution, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse, SystemView,
};
use crate::session::{CaptureScope, Observed, Session};

/// Maximum number of processes and of flows with a process that are followed. Further ones have no
/// process in the report.
const MAX_FOLLOWED: usize = 262_144;

/// A process as a comment describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NamedProcess {
    pid: u32,
    uid: Option<u32>,
    comm: String,
    exe: Option<String>,
}

/// The processes of the comments so far.
#[derive(Debug, Default)]
pub(super) struct CommentedProcesses {
    processes: HashMap<NamedProcess, u32>,
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
        let Some(process) = comment.and_then(|comment| parse(comment).or_else(|| parse_ptcpdump(comment))) else {
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
    process: &NamedProcess,
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
fn system(process: NamedProcess, time_ns: u64) -> CommentedSystem {
    let image = Image { comm: process.comm, exe: process.exe, ..Image::default() };
    CommentedSystem(LiveProcess { origin: Origin { start_ns: time_ns, ppid: 0, maker: 0 }, image })
}

/// Parses `process pid=N uid=N comm="…" exe="…"`, as netwatch writes it.
fn parse(comment: &str) -> Option<NamedProcess> {
    let mut rest = comment.strip_prefix("process ")?;
    let mut process = NamedProcess { pid: 0, uid: None, comm: String::new(), exe: None };
    let mut has_pid = false;
    while let Some((key, value)) = rest.split_once('=') {
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<serde_json::Value>();
        let parsed = values.next()?.ok()?;
        rest = value.get(values.byte_offset()..)?.trim_start();
        let number = || parsed.as_u64().and_then(|number| u32::try_from(number).ok());
        match key {
            "pid" => (process.pid, has_pid) = (number()?, true),
            "uid" => process.uid = Some(number()?),
            "comm" => process.comm = parsed.as_str()?.to_owned(),
            "exe" => process.exe = Some(parsed.as_str()?.to_owned()),
            _ => {}
        }
    }
    has_pid.then_some(process)
}

/// Parses the lines `PID: N` and `Cmd: PATH` of ptcpdump.
fn parse_ptcpdump(comment: &str) -> Option<NamedProcess> {
    /// The kernel's limit for the name of a process.
    const COMM_BYTES: usize = 15;
    let line = |name: &str| comment.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pid = line("PID:")?.parse().ok().filter(|pid| *pid != 0)?;
    let exe = line("Cmd:").filter(|path| !path.is_empty());
    let name = exe.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let comm = name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= COMM_BYTES).map(|(_, c)| c).collect();
    Some(NamedProcess { pid, uid: None, comm, exe: exe.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_comments_of_both_programs() {
        let ours = parse(r#"process pid=7 uid=8 comm="a\"b\n" exe="/tmp/x y""#).expect("a process");
        let exe = Some("/tmp/x y".to_owned());
        assert_eq!(ours, NamedProcess { pid: 7, uid: Some(8), comm: "a\"b\n".into(), exe });
        let exe = Some("/usr/bin/curl".to_owned());
        let theirs = NamedProcess { pid: 1011, uid: None, comm: "curl".into(), exe };
        assert_eq!(parse_ptcpdump("PID: 1011\nCmd: /usr/bin/curl\nArgs: curl -s"), Some(theirs));
    }

    #[test]
    fn other_comments_are_no_processes() {
        for comment in
            ["", "process", "process pid=x", "process comm=\"a\"", "process pid=99999999999", "PID: 0", "pid=1"]
        {
            assert!(parse(comment).is_none() && parse_ptcpdump(comment).is_none(), "{comment}");
        }
    }
}
