//! Traces of synthetic events, and what they have to report.

mod attempts;
mod inferred;
mod long;

use std::collections::HashMap;

use super::*;
use crate::flow::{Direction, ObservationPoint, TransportAddress};
use crate::process::{Attempt, ClosedSocket, Evidence, FlowUsers, ProcessId};

const COMMAND: u32 = 100;

/// A system that has only these processes and bound names.
#[derive(Default)]
struct Machine {
    living: HashMap<u32, LiveProcess>,
    bound: Vec<&'static str>,
}

impl SystemView for Machine {
    fn process(&mut self, pid: u32) -> Option<LiveProcess> {
        self.living.get(&pid).cloned()
    }

    fn is_bound(&mut self, name: &str) -> Option<bool> {
        Some(self.bound.contains(&name))
    }

    fn has_socket(&mut self, _pid: u32, path: &str) -> Option<bool> {
        (!path.starts_with("/run/unknown")).then(|| self.bound.contains(&path))
    }
}

/// A trace and its clock.
#[derive(Default)]
struct Scene {
    trace: Trace,
    machine: Machine,
    now: u64,
    /// The program that each process runs; 0 for those that are not listed.
    programs: HashMap<u32, u32>,
    /// The start of each process; not known for those that are not listed.
    began: HashMap<u32, u64>,
    /// The namespace of the sockets.
    netns: u64,
}

impl Scene {
    /// A scene in which the command is already running.
    fn new() -> Self {
        let mut scene = Self::default();
        scene.exec(COMMAND, 1, "sh");
        scene
    }

    fn apply(&mut self, pid: u32, action: ProcessAction) {
        self.now += 10;
        let start_ns = self.began.get(&pid).copied().unwrap_or(0);
        let program = self.programs.get(&pid).copied().unwrap_or(0);
        let (time_ns, comm) = (self.now, "thread".into());
        let event = ProcessEvent { time_ns, start_ns, pid, tid: pid, program, uid: 1000, comm, action };
        self.trace.set_command(COMMAND);
        self.trace.apply(event, &mut self.machine);
    }

    fn origin(pid: u32, ppid: u32) -> Origin {
        Origin { start_ns: u64::from(pid) * 1000, ppid, maker: ppid }
    }

    fn exec(&mut self, pid: u32, ppid: u32, comm: &str) {
        let cmdline = Some(vec![comm.to_owned(), "argument".to_owned()]);
        let image = Image { comm: comm.into(), exe: Some(format!("/bin/{comm}")), cmdline, ..Image::default() };
        self.apply(pid, ProcessAction::Exec(Self::origin(pid, ppid), image));
    }

    fn fork(&mut self, ppid: u32, pid: u32) {
        self.apply(pid, ProcessAction::Fork(Self::origin(pid, ppid)));
    }

    fn socket(&mut self, pid: u32, step: SocketOperation, cookie: u64, protocol: u8, address: &str) {
        let address = address.parse().ok();
        let netns = self.netns;
        self.apply(
            pid,
            ProcessAction::SocketUse(step, SocketUse { cookie, netns, protocol: Some(Protocol(protocol)), address }),
        );
    }

    /// The process closes a socket that has these local and remote ends.
    fn close(&mut self, pid: u32, cookie: u64, protocol: u8, ends: Option<(TransportAddress, TransportAddress)>) {
        let protocol = Some(Protocol(protocol));
        let (local, remote) = ends.unzip();
        self.apply(
            pid,
            ProcessAction::ClosedSocket(ClosedSocket { cookie, netns: self.netns, protocol, local, remote }),
        );
    }

    fn call(&mut self, pid: u32, name: CallName, errno: i32, target: CallTarget) {
        self.apply(pid, ProcessAction::FailedCall(FailedCall { name, errno, target, protocol: None }));
    }

    fn result(&self, flows: &[(FlowKey, Direction)]) -> TraceResult {
        // The flow lasts for the whole session.
        let flow = |&(key, opened_by)| FlowToAttribute { key, opened_by, first_ns: 0, last_ns: u64::MAX / 2 };
        self.trace.result(flows.iter().map(flow), PacketCoverage::Final)
    }
}

/// A flow on the link from a local port to a remote port.
fn flow(protocol: u8, local: u16, remote: u16) -> FlowKey {
    let end = |last: u8, port| TransportAddress { addr: [198, 51, 100, last].into(), port };
    FlowKey { point: ObservationPoint::Link, protocol, fragment: false, local: end(1, local), remote: end(2, remote) }
}

const OUT: Direction = Direction::Egress;
const IN: Direction = Direction::Ingress;

/// `comm evidence` or `comm evidence maker` of each user.
fn users_by_name(result: &TraceResult, users: &FlowUsers, flow: &FlowKey) -> Vec<String> {
    let user = |user: &crate::process::FlowUser| {
        let process = result.processes.get(user.process).expect("listed");
        let maker = if user.is_maker { " maker" } else { "" };
        format!("{} {}{maker}", process.comm, user.evidence.name())
    };
    users.of(flow).iter().map(user).collect()
}

fn users(scene: &Scene, key: FlowKey, opened_by: Direction) -> Vec<String> {
    let result = scene.result(&[(key, opened_by)]);
    users_by_name(&result, &result.users, &key)
}

/// One flow of two pings has two sockets.
#[test]
fn a_socket_leads_to_its_own_process() {
    let mut scene = Scene::new();
    for (pid, cookie) in [(101, 7), (102, 8)] {
        scene.fork(COMMAND, pid);
        scene.exec(pid, COMMAND, if pid == 101 { "first" } else { "second" });
        scene.socket(pid, SocketOperation::Created, cookie, 1, "");
        scene.trace.note_flow(flow(1, 0, 0), cookie);
    }
    let name = |cookie| {
        let usages = scene.trace.usages_of_socket(cookie);
        usages.first().and_then(|usage| scene.trace.process(usage.process)).map(|(process, _)| process.comm)
    };
    assert_eq!(name(7).as_deref(), Some("first"));
    assert_eq!(name(8).as_deref(), Some("second"));
    assert_eq!(name(9), None);
}

#[test]
fn attributes_a_flow_to_the_creator_of_its_socket() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "curl");
    scene.socket(101, SocketOperation::Created, 7, 6, "");
    scene.socket(101, SocketOperation::Connect, 7, 6, "198.51.100.2:80");
    scene.trace.note_flow(flow(6, 40000, 80), 7);
    assert_eq!(users(&scene, flow(6, 40000, 80), OUT), ["curl socket maker"]);
    let result = scene.result(&[(flow(6, 40000, 80), OUT)]);
    let names: Vec<_> = result.processes.list.iter().map(|process| process.comm.as_str()).collect();
    assert_eq!(names, ["sh", "curl"], "the copy of the shell did nothing");
}

#[test]
fn attributes_one_flow_by_numbers_that_stay_the_same_in_every_report() {
    let mut scene = Scene::new();
    for pid in [101, 102, 103] {
        scene.fork(COMMAND, pid);
    }
    let numbers = |scene: &Scene, key| -> Vec<(u32, Evidence, bool)> {
        let all_along = FlowToAttribute { key, opened_by: OUT, first_ns: 0, last_ns: u64::MAX / 2 };
        scene.trace.users_of(&all_along).to_vec()
    };
    let key = flow(6, 40000, 80);
    assert_eq!(numbers(&scene, key), [(0, Evidence::Netns, false)], "no other evidence: the command");
    scene.socket(102, SocketOperation::Created, 7, 6, "");
    scene.trace.note_flow(key, 7);
    assert_eq!(numbers(&scene, key), [(2, Evidence::Socket, true)]);
    let listed = |scene: &Scene| -> Vec<(u32, u32)> {
        scene.result(&[(key, OUT)]).processes.list.iter().map(|process| (process.number, process.pid)).collect()
    };
    assert_eq!(listed(&scene), [(0, COMMAND), (2, 102)], "processes that did nothing are left out");
    scene.apply(101, ProcessAction::LocalSocket("/run/x".into()));
    assert_eq!(listed(&scene), [(0, COMMAND), (1, 101), (2, 102)], "a number stays the same");
    let closed = flow(6, 40001, 80);
    scene.socket(103, SocketOperation::Created, 8, 6, "");
    scene.close(103, 8, 6, Some((closed.local, closed.remote)));
    assert_eq!(numbers(&scene, closed), [(3, Evidence::Tuple, true)], "by the ends at the close");
}

#[test]
fn lists_the_user_of_a_passed_socket_before_its_creator() {
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::Created, 7, 6, "");
    scene.socket(COMMAND, SocketOperation::Connect, 7, 6, "198.51.100.2:80");
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "worker");
    scene.socket(101, SocketOperation::Used, 7, 6, "");
    scene.trace.note_flow(flow(6, 40000, 80), 7);
    assert_eq!(users(&scene, flow(6, 40000, 80), OUT), ["worker socket", "sh socket maker"]);
}

#[test]
fn attributes_incoming_flows_by_the_bound_port() {
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::Created, 7, 6, "");
    scene.socket(COMMAND, SocketOperation::Bound, 7, 6, "0.0.0.0:8080");
    assert_eq!(users(&scene, flow(6, 8080, 40000), IN), ["sh tuple maker"]);
    assert_eq!(users(&scene, flow(17, 8080, 40000), IN), [""; 0], "another protocol's port");
    assert_eq!(users(&scene, flow(6, 8081, 40000), IN), [""; 0], "no socket: the kernel answered");
}

#[test]
fn attributes_flows_without_ports_by_protocol() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "ping");
    scene.socket(101, SocketOperation::Created, 7, 1, "");
    assert_eq!(users(&scene, flow(1, 0, 0), OUT), ["ping tuple maker"]);
    assert_eq!(users(&scene, flow(58, 0, 0), OUT), ["sh netns"]);
}

#[test]
fn attributes_flows_without_evidence_to_the_command() {
    let scene = Scene::new();
    assert_eq!(users(&scene, flow(132, 1, 2), OUT), ["sh netns"]);
}

#[test]
fn a_reused_process_id_is_another_process() {
    let mut scene = Scene::new();
    for (number, comm) in [(1, "first"), (2, "second")] {
        scene.now += 1000;
        let origin = Origin { start_ns: number * 5000, ppid: COMMAND, maker: COMMAND };
        scene.apply(101, ProcessAction::Fork(origin));
        scene.apply(101, ProcessAction::Exec(origin, Image { comm: comm.into(), ..Image::default() }));
        scene.socket(101, SocketOperation::Created, number, 17, "");
        scene.trace.note_flow(flow(17, 4000 + number as u16, 53), number);
    }
    assert_eq!(users(&scene, flow(17, 4001, 53), OUT), ["first socket maker"]);
    assert_eq!(users(&scene, flow(17, 4002, 53), OUT), ["second socket maker"]);
}

#[test]
fn a_process_whose_fork_was_lost_is_not_the_previous_one_with_its_process_id() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "dead");
    scene.began.insert(101, 555_000_000_000);
    scene.socket(101, SocketOperation::Created, 7, 17, "");
    let image = Image { comm: "yet another".into(), ..Image::default() };
    scene.machine.living.insert(102, LiveProcess { origin: Scene::origin(102, COMMAND), image });
    scene.began.insert(102, 999_000_000_000);
    scene.socket(102, SocketOperation::Created, 8, 17, "");
    for cookie in [7, 8] {
        scene.trace.note_flow(flow(17, cookie as u16, 53), cookie);
        assert_eq!(users(&scene, flow(17, cookie as u16, 53), OUT), ["thread socket maker"]);
    }
    let result = scene.result(&[(flow(17, 7, 53), OUT)]);
    assert_eq!((result.processes.lost.gone, result.processes.list[1].start_ns), (2, 555_000_000_000));
}

#[test]
fn a_program_whose_exec_was_lost_is_not_the_previous_one() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.programs.insert(101, 1);
    scene.socket(101, SocketOperation::Created, 7, 17, "");
    scene.trace.note_flow(flow(17, 7, 53), 7);
    assert_eq!(users(&scene, flow(17, 7, 53), OUT), ["thread socket maker"]);
    let result = scene.result(&[(flow(17, 7, 53), OUT)]);
    let process = &result.processes.list[1];
    assert_eq!((process.start_ns, process.parent), (101_000, Some(ProcessId(0))));
    scene.programs.insert(102, 1);
    scene.fork(COMMAND, 102);
    scene.socket(102, SocketOperation::Created, 8, 17, "");
    scene.trace.note_flow(flow(17, 8, 53), 8);
    assert_eq!(
        users(&scene, flow(17, 8, 53), OUT),
        ["thread socket maker"],
        "a copy of the program that its creator runs"
    );
}

#[test]
fn later_sockets_belong_to_the_program_of_the_exec() {
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::Created, 7, 17, "");
    scene.exec(COMMAND, 1, "later");
    scene.socket(COMMAND, SocketOperation::Created, 8, 17, "");
    scene.trace.note_flow(flow(17, 1, 53), 7);
    scene.trace.note_flow(flow(17, 2, 53), 8);
    assert_eq!(users(&scene, flow(17, 1, 53), OUT), ["sh socket maker"]);
    assert_eq!(users(&scene, flow(17, 2, 53), OUT), ["later socket maker"]);
    let result = scene.result(&[(flow(17, 1, 53), OUT), (flow(17, 2, 53), OUT)]);
    assert_eq!(result.processes.list[0].start_ns, result.processes.list[1].start_ns);
}

#[test]
fn a_process_keeps_its_parent_when_another_process_adopts_it() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    let orphan = Origin { ppid: 1, ..Scene::origin(101, COMMAND) };
    scene.apply(101, ProcessAction::Exec(orphan, Image { comm: "daemon".into(), ..Image::default() }));
    scene.socket(101, SocketOperation::Created, 7, 17, "");
    scene.trace.note_flow(flow(17, 1, 53), 7);
    let result = scene.result(&[(flow(17, 1, 53), OUT)]);
    let daemon = result.processes.list.last().expect("listed");
    assert_eq!((daemon.comm.as_str(), daemon.ppid, daemon.parent), ("daemon", COMMAND, Some(ProcessId(0))));
}

#[test]
fn resolves_relative_paths_and_links_while_the_process_lives() {
    let exe_of = |living: Option<&str>, called: &str| {
        let mut scene = Scene::new();
        let image = |exe: &str| Image { comm: "x".into(), exe: Some(exe.into()), ..Image::default() };
        if let Some(exe) = living {
            let found = LiveProcess { origin: Scene::origin(COMMAND, 1), image: image(exe) };
            scene.machine.living.insert(COMMAND, found);
        }
        scene.apply(COMMAND, ProcessAction::Exec(Scene::origin(COMMAND, 1), image(called)));
        scene.socket(COMMAND, SocketOperation::Created, 7, 17, "");
        scene.trace.note_flow(flow(17, 1, 53), 7);
        scene.result(&[(flow(17, 1, 53), OUT)]).processes.list.last().and_then(|process| process.exe.clone())
    };
    assert_eq!(exe_of(Some("/home/x"), "./x").as_deref(), Some("/home/x"));
    assert_eq!(exe_of(None, "./x").as_deref(), Some("./x"));
    assert_eq!(exe_of(None, "/proc/self/exe").as_deref(), Some("/bin/sh"), "the previous program");
    assert_eq!(exe_of(Some("/memfd:x (deleted)"), "/dev/fd/3").as_deref(), Some("/memfd:x (deleted)"));
    assert_eq!(exe_of(None, "/dev/fd/3"), None, "another file for each process");
    assert_eq!(exe_of(Some("/other"), "/bin/x").as_deref(), Some("/bin/x"), "as it was called");
}

#[test]
fn a_child_that_ended_before_it_could_be_read_keeps_its_name_and_is_counted() {
    let mut scene = Scene::new();
    scene.socket(200, SocketOperation::Created, 7, 17, "");
    scene.trace.note_flow(flow(17, 1, 53), 7);
    assert_eq!(users(&scene, flow(17, 1, 53), OUT), ["thread socket maker"]);
    let result = scene.result(&[(flow(17, 1, 53), OUT)]);
    assert_eq!(result.processes.lost.gone, 1);
    assert_eq!(result.processes.list[1].cmdline, None);
}

#[test]
fn finds_a_live_child_that_no_event_reported() {
    let mut scene = Scene::new();
    let image = Image { comm: "found".into(), ..Image::default() };
    scene.machine.living.insert(200, LiveProcess { origin: Scene::origin(200, COMMAND), image });
    scene.socket(200, SocketOperation::Created, 7, 17, "");
    scene.trace.note_flow(flow(17, 1, 53), 7);
    let result = scene.result(&[(flow(17, 1, 53), OUT)]);
    assert_eq!(users_by_name(&result, &result.users, &flow(17, 1, 53)), ["found socket maker"]);
    assert_eq!(result.processes.list[1].parent, Some(ProcessId(0)));
    assert_eq!(result.processes.lost.gone, 0);
}

#[test]
fn counts_programs_that_could_not_be_read_completely() {
    let mut scene = Scene::new();
    let image = |exe: Option<&str>, is_unreadable| Image {
        comm: "x".into(),
        exe: exe.map(str::to_owned),
        is_unreadable,
        ..Image::default()
    };
    let count = |scene: &Scene| scene.result(&[]).processes.lost.unreadable;
    scene.apply(COMMAND, ProcessAction::Exec(Scene::origin(COMMAND, 1), image(Some("/bin/x"), false)));
    assert_eq!(count(&scene), 0);
    scene.apply(COMMAND, ProcessAction::Exec(Scene::origin(COMMAND, 1), image(Some("/bin/x"), true)));
    assert_eq!(count(&scene), 1, "its arguments");
    scene.apply(COMMAND, ProcessAction::Exec(Scene::origin(COMMAND, 1), image(Some("/dev/fd/3"), false)));
    assert_eq!(count(&scene), 2, "its path cannot be resolved");
    let found = LiveProcess { origin: Scene::origin(200, COMMAND), image: image(None, true) };
    scene.machine.living.insert(200, found);
    scene.socket(200, SocketOperation::Created, 7, 17, "");
    assert_eq!(count(&scene), 3, "found alive, without its path");
}

#[test]
fn leaves_out_processes_that_did_nothing_except_ancestors_of_others() {
    let mut scene = Scene::new();
    for pid in 101..150 {
        scene.fork(COMMAND, pid);
    }
    scene.fork(149, 150);
    scene.socket(150, SocketOperation::Created, 7, 17, "");
    scene.trace.note_flow(flow(17, 1, 53), 7);
    let result = scene.result(&[(flow(17, 1, 53), OUT)]);
    let pids: Vec<u32> = result.processes.list.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [COMMAND, 149, 150]);
    let parents: Vec<_> = result.processes.list.iter().map(|process| process.parent).collect();
    assert_eq!(parents, [None, Some(ProcessId(0)), Some(ProcessId(1))]);
    let user = result.users.of(&flow(17, 1, 53))[0];
    assert_eq!((user.process, user.evidence), (ProcessId(2), Evidence::Socket));
}

#[test]
fn lists_the_processes_of_both_ends_on_the_loopback() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "server");
    scene.socket(101, SocketOperation::Used, 8, 6, "");
    scene.socket(COMMAND, SocketOperation::Created, 7, 6, "");
    let key = FlowKey { point: ObservationPoint::Loopback, ..flow(6, 9, 40000) };
    let turned = FlowKey { local: key.remote, remote: key.local, ..key };
    scene.trace.note_flow(key, 7);
    scene.trace.note_flow(turned, 8);
    assert_eq!(users(&scene, key, OUT), ["sh socket maker", "server socket"]);
}

#[test]
fn counts_sockets_of_one_flow_beyond_the_limit() {
    let mut scene = Scene::new();
    for cookie in 1..20 {
        scene.trace.note_flow(flow(17, 1, 53), cookie);
        scene.trace.note_flow(flow(17, 1, 53), cookie);
    }
    assert_eq!(scene.result(&[]).processes.lost.beyond, 6);
}
