//! Long sessions with small limits: ended entries are removed, new ones are exact, and what exceeds
//! a limit is counted.

use proptest::prelude::*;

use super::*;

const FEW: TraceLimits =
    TraceLimits { programs: 32, sockets: 64, flows: 64, local_sockets: 8, local_socket_users: 8, failures: 8 };

/// A report that has a flow for each of these ports, and whether it has no room for others.
struct Ports(Vec<u16>, bool);

impl ReportedFlows for Ports {
    fn contains(&self, flow: &FlowKey) -> bool {
        flow.point == ObservationPoint::Link && self.0.contains(&flow.local.port)
    }

    fn is_complete(&self) -> bool {
        self.1
    }
}

fn scene() -> Scene {
    let mut scene = Scene { trace: Trace::within(FEW), ..Scene::default() };
    scene.exec(COMMAND, 1, "sh");
    scene
}

/// A process that starts, uses a socket and ends.
fn client(scene: &mut Scene, number: u32, busy: impl FnOnce(&mut Scene, u32, u64)) {
    let pid = 1000 + number;
    scene.fork(COMMAND, pid);
    scene.exec(pid, COMMAND, "client");
    scene.socket(pid, SocketOperation::Created, u64::from(pid), 6, "");
    busy(scene, pid, pid.into());
    scene.apply(pid, ProcessAction::Exit);
    scene.close(pid, u64::from(pid), 6, None);
}

/// The flow and the failed connection of each of a thousand short processes are exact, although few
/// of them fit.
#[test]
fn a_long_session_stays_exact_for_new_processes() {
    let mut scene = scene();
    for number in 0..1000 {
        let port = 2000 + number as u16;
        client(&mut scene, number, |scene, pid, cookie| {
            scene.socket(pid, SocketOperation::Connect, cookie, 6, "198.51.100.2:80");
            if !(10..=990).contains(&number) {
                scene.trace.note_flow(flow(6, port, 80), cookie);
            }
        });
        let kept: Vec<u16> = (0..10).map(|port| 2000 + port).chain([port]).collect();
        scene.trace.tidy(&Ports(kept, true), std::iter::empty());
        assert!(scene.trace.processes.entries().len() < FEW.programs, "{number}");
    }
    assert_eq!(users(&scene, flow(6, 2005, 80), OUT), ["client socket maker"]);
    assert_eq!(users(&scene, flow(6, 2999, 80), OUT), ["client socket maker"]);
    let result = scene.result(&[(flow(6, 2005, 80), OUT), (flow(6, 2999, 80), OUT)]);
    let pids: Vec<u32> = result.processes.list.iter().map(|process| process.pid).collect();
    assert_eq!((pids[0], pids.contains(&1005), pids.contains(&1999)), (COMMAND, true, true), "{pids:?}");
    // The processes between them had no packet: each is an attempt, with its process as far as
    // there is room.
    let count: u64 = result.attempts.iter().map(|attempt| attempt.count).sum();
    assert_eq!((count, result.attempts.iter().all(|attempt| attempt.cause == AttemptCause::NoPacket)), (981, true));
    let (beyond, with_process) =
        (result.processes.lost.beyond, result.attempts.iter().filter(|one| one.process.is_some()));
    assert_eq!(beyond, 981 - with_process.count() as u64, "attempts without their process");
}

/// A program connects repeatedly from the same few ports: each flow has hundreds of sockets with
/// the same users.
#[test]
fn repeated_connections_from_the_same_ports_need_no_more_room() {
    let mut scene = scene();
    for cookie in 0..20_000 {
        let port = 2000 + (cookie % 10) as u16;
        scene.socket(COMMAND, SocketOperation::Created, cookie, 6, "");
        scene.trace.note_flow(flow(6, port, 80), cookie);
        scene.close(COMMAND, cookie, 6, Some((flow(6, port, 80).local, flow(6, port, 80).remote)));
        if cookie % 10 == 9 {
            scene.trace.tidy(&Ports((2000..2010).collect(), true), std::iter::empty());
        }
        assert!(scene.trace.sockets.all().count() < FEW.sockets, "{cookie}");
    }
    let flows: Vec<_> = (2000..2010).map(|port| (flow(6, port, 80), OUT)).collect();
    let result = scene.result(&flows);
    assert!(flows.iter().all(|(flow, _)| users_by_name(&result, &result.users, flow) == ["sh socket maker"]));
    assert_eq!((result.processes.lost, result.attempts), (ProcessLosses::default(), Vec::new()));
}

/// When flows end, so do the records of their sockets, without a search through all of them.
#[test]
fn sockets_of_ended_flows_need_no_room() {
    let mut scene = Scene::new();
    let per_second = TRACE_LIMITS.sockets as u64 / 16;
    let flow_of = |cookie: u64| FlowKey { point: ObservationPoint::Loopback, ..flow(6, cookie as u16, 80) };
    for second in 0..20 {
        for cookie in second * per_second..(second + 1) * per_second {
            let key = flow_of(cookie);
            scene.socket(COMMAND, SocketOperation::Created, cookie, 6, "");
            scene.close(COMMAND, cookie, 6, Some((key.local, key.remote)));
            scene.trace.note_flow(FlowKey { local: key.remote, remote: key.local, ..key }, cookie);
        }
        // Flows end three seconds after their last packet.
        if let Some(ended) = u64::checked_sub(second, 3) {
            assert_eq!(users(&scene, flow_of(ended * per_second), OUT), ["sh socket maker"], "{ended}");
            for cookie in ended * per_second..(ended + 1) * per_second {
                scene.trace.forget_flow(&flow_of(cookie), scene.now);
            }
        }
        scene.trace.tidy(&Ports(Vec::new(), false), std::iter::empty());
        assert!(scene.trace.sockets.all().count() as u64 <= 4 * per_second, "second {second}");
        assert!(scene.trace.sockets.index_sizes().iter().all(|size| *size as u64 <= 5 * per_second));
    }
    assert_eq!(scene.result(&[]).processes.lost, ProcessLosses::default());
}

/// The next connection on the same ports may begin before the flow of the previous one ends.
#[test]
fn the_end_of_a_flow_leaves_the_socket_of_the_next_connection() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "next");
    let key = flow(6, 1, 80);
    scene.socket(COMMAND, SocketOperation::Created, 7, 6, "");
    scene.trace.note_flow(key, 7);
    scene.close(COMMAND, 7, 6, Some((key.local, key.remote)));
    let last_ns = scene.now;
    scene.socket(101, SocketOperation::Created, 8, 6, "");
    scene.trace.note_flow(key, 8);
    scene.trace.forget_flow(&key, last_ns);
    assert_eq!(users(&scene, key, OUT), ["next socket maker"]);
}

/// Both connections may be over before the flow of the first one ends.
#[test]
fn the_end_of_a_flow_leaves_the_closed_socket_of_the_next_connection() {
    let mut scene = Scene::new();
    let key = flow(6, 1, 80);
    let mut last_ns = Vec::new();
    for (pid, cookie) in [(101, 7), (102, 8)] {
        scene.fork(COMMAND, pid);
        scene.exec(pid, COMMAND, if pid == 101 { "first" } else { "next" });
        scene.socket(pid, SocketOperation::Connect, cookie, 6, "198.51.100.2:80");
        scene.trace.note_flow(key, cookie);
        last_ns.push(scene.now + 5);
        scene.close(pid, cookie, 6, Some((key.local, key.remote)));
    }
    scene.trace.forget_flow(&key, last_ns[0]);
    assert_eq!(users(&scene, key, OUT), ["next socket"]);
    scene.trace.forget_flow(&key, last_ns[1]);
    assert_eq!(scene.trace.sockets.index_sizes()[0], 0, "no link is left");
}

/// If samples were lost, a socket that was closed and removed may have had a packet.
#[test]
fn reports_no_connection_as_failed_if_samples_were_lost() {
    let mut scene = scene();
    for number in 0..500 {
        client(&mut scene, number, |scene, _, cookie| {
            scene.socket(1000 + number, SocketOperation::Connect, cookie, 6, "198.51.100.2:80");
        });
        scene.trace.tidy(&Ports(Vec::new(), true), std::iter::empty());
    }
    let count = |coverage| {
        let result = scene.trace.result(std::iter::empty(), coverage);
        result.attempts.iter().map(|attempt| attempt.count).sum::<u64>()
    };
    let so_far = count(PacketCoverage::SoFar);
    assert!((400..500).contains(&so_far), "{so_far}: those of removed sockets");
    assert_eq!((count(PacketCoverage::Final), count(PacketCoverage::Lossy)), (500, 0));
}

/// The flow may belong to a socket that was closed and removed: it is attributed to no process, not
/// even the command.
#[test]
fn does_not_attribute_the_port_of_a_removed_socket_to_the_command() {
    let mut scene = scene();
    for number in 0..200 {
        let (pid, port) = (1000 + number, 3000 + number as u16);
        client(&mut scene, number, |scene, _, cookie| {
            scene.socket(pid, SocketOperation::Used, cookie, 17, "198.51.100.2:53");
            let local = Some(TransportAddress { addr: [0; 4].into(), port });
            scene.apply(
                pid,
                ProcessAction::ClosedSocket(ClosedSocket {
                    cookie,
                    netns: 0,
                    protocol: Some(Protocol(17)),
                    local,
                    remote: None,
                }),
            );
        });
        scene.trace.tidy(&Ports(Vec::new(), true), std::iter::empty());
    }
    assert_eq!(users(&scene, flow(17, 3199, 53), OUT), ["client tuple maker"]);
    assert_eq!(users(&scene, flow(17, 3001, 53), OUT), [""; 0]);
    assert_eq!(users(&scene, flow(17, 2999, 53), OUT), ["sh netns"]);
}

/// Sockets and processes that did nothing are removed without a loss, however many there are.
#[test]
fn removes_processes_that_did_nothing() {
    let mut scene = scene();
    for number in 0..20_000 {
        client(&mut scene, number, |_, _, _| ());
        scene.trace.tidy(&Ports(Vec::new(), false), std::iter::empty());
    }
    assert_eq!(scene.result(&[]).processes.lost, ProcessLosses::default());
    assert_eq!(users(&scene, flow(132, 1, 2), OUT), ["sh netns"], "no other process is left");
}

/// A command that starts itself again and again: its first and its current program are known, and a
/// flow of a removed one is attributed to none of the others.
#[test]
fn forgets_earlier_programs_of_the_command() {
    let mut scene = scene();
    let first_ns = scene.now;
    for _ in 0..10_000 {
        scene.exec(COMMAND, 1, "again");
        scene.trace.tidy(&Ports(Vec::new(), false), std::iter::empty());
    }
    let (between_ns, last_ns) = (first_ns + 1_000, scene.now);
    let users = |first_ns| {
        let flow = FlowToAttribute { key: flow(132, 1, 2), opened_by: OUT, first_ns, last_ns };
        let result = scene.trace.result(std::iter::once(flow), PacketCoverage::Final);
        users_by_name(&result, &result.users, &flow.key)
    };
    assert_eq!(users(first_ns), ["sh netns"]);
    assert_eq!(users(between_ns), [""; 0]);
    assert_eq!(users(last_ns), ["again netns"]);
    assert_eq!(scene.result(&[]).processes.lost, ProcessLosses::default());
}

/// Live processes, processes with a reported flow, and their ancestors stay.
#[test]
fn keeps_processes_that_are_needed() {
    let mut scene = scene();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "parent");
    scene.fork(101, 102);
    scene.exec(102, 101, "worker");
    scene.socket(102, SocketOperation::Created, 7, 6, "");
    scene.trace.note_flow(flow(6, 1, 80), 7);
    scene.apply(102, ProcessAction::Exit);
    scene.close(102, 7, 6, None);
    scene.apply(101, ProcessAction::Exit);
    scene.fork(COMMAND, 103);
    scene.exec(103, COMMAND, "daemon");
    for number in 0..100 {
        client(&mut scene, number, |_, _, _| ());
        scene.trace.tidy(&Ports(vec![1], true), std::iter::empty());
    }
    scene.socket(103, SocketOperation::Created, 8, 6, "");
    scene.trace.note_flow(flow(6, 2, 80), 8);
    let result = scene.result(&[(flow(6, 1, 80), OUT), (flow(6, 2, 80), OUT)]);
    let list: Vec<_> = result.processes.list.iter().map(|one| (one.comm.as_str(), one.parent)).collect();
    let expected =
        [("sh", None), ("parent", Some(ProcessId(0))), ("worker", Some(ProcessId(1))), ("daemon", Some(ProcessId(0)))];
    assert_eq!(list, expected);
    assert_eq!(result.processes.lost, ProcessLosses::default());
}

/// The sample of a packet may arrive after the close of its socket.
#[test]
fn keeps_a_socket_that_was_just_closed_until_its_samples_arrive() {
    let mut scene = scene();
    for number in 0..12 {
        client(&mut scene, number, |_, _, _| ());
    }
    scene.trace.tidy(&Ports(vec![2011], true), std::iter::empty());
    scene.trace.note_flow(flow(6, 2011, 80), 1011);
    scene.trace.tidy(&Ports(vec![2011], true), std::iter::empty());
    scene.trace.tidy(&Ports(vec![2011], true), std::iter::empty());
    assert_eq!(users(&scene, flow(6, 2011, 80), OUT), ["client socket maker"]);
}

#[test]
fn counts_what_exceeds_a_limit() {
    let mut scene = scene();
    for number in 0..FEW.local_sockets + 10 {
        scene.apply(COMMAND, ProcessAction::LocalSocket(format!("/{number}")));
    }
    assert_eq!(scene.result(&[]).processes.local_sockets.len(), FEW.local_sockets);
    assert_eq!(scene.result(&[]).processes.lost.beyond, 10);
    // All of them stay alive.
    for pid in 1000..1100 {
        scene.fork(COMMAND, pid);
        scene.trace.tidy(&Ports(Vec::new(), true), std::iter::empty());
    }
    assert_eq!(scene.result(&[]).processes.lost.beyond, 10 + 100 - (FEW.programs as u64 - 1));
    assert_eq!(users(&scene, flow(132, 1, 2), OUT), [""; 0], "it may belong to a process that is not stored");
    for pid in 1000..1100 {
        scene.apply(pid, ProcessAction::Exit);
    }
    scene.trace.tidy(&Ports(Vec::new(), true), std::iter::empty());
    client(&mut scene, 500, |scene, _, cookie| scene.trace.note_flow(flow(6, 1, 80), cookie));
    assert_eq!(users(&scene, flow(6, 1, 80), OUT), ["client socket maker"], "there is room again");
}

proptest! {
    /// Any events in any order: the limits hold, and every process that is referred to is listed
    /// with its ancestors.
    #[test]
    fn limits_hold_and_no_process_is_missing(steps in prop::collection::vec((0u8..10, 100u32..140, 1u64..90, 0u16..70), 0..600)) {
        let mut scene = scene();
        let flows: Vec<_> = (0..70).map(|port| (flow(17, port, 80), if port % 2 == 0 { OUT } else { IN })).collect();
        for (what, pid, cookie, port) in steps {
            match what {
                0 => scene.fork(100 + (pid + 7) % 40, pid),
                1 => scene.exec(pid, COMMAND, "x"),
                2 => scene.apply(pid, ProcessAction::Exit),
                3 => scene.socket(pid, SocketOperation::Created, cookie, 17, ""),
                4 => scene.socket(pid, SocketOperation::Connect, cookie, 6, "198.51.100.2:80"),
                5 => scene.socket(pid, SocketOperation::Used, cookie, 17, ""),
                6 => scene.close(pid, cookie, 17, Some((flow(17, port, 80).local, flow(17, port, 80).remote))),
                7 => scene.trace.note_flow(flow(17, port, 80), cookie),
                8 => scene.apply(pid, ProcessAction::LocalSocket(format!("/{port}"))),
                _ => scene.trace.tidy(&Ports((0..port / 2).collect(), port % 3 == 0), std::iter::empty()),
            }
            prop_assert!(scene.trace.processes.entries().len() <= FEW.programs);
        }
        let TraceResult { processes, users, attempts } = scene.result(&flows);
        let is_there = |id: &ProcessId| processes.get(*id).is_some();
        prop_assert!(users.iter().all(|(_, users)| users.iter().all(|user| is_there(&user.process))));
        prop_assert!(attempts.iter().all(|attempt| attempt.process.as_ref().is_none_or(is_there)));
        prop_assert!(processes.list.iter().enumerate().all(|(at, one)| one.parent.is_none_or(|parent| (parent.0 as usize) < at)));
        prop_assert!(processes.local_sockets.len() <= FEW.local_sockets && attempts.len() <= FEW.failures + FEW.sockets);
    }
}
