//! Attribution by ports and ends holds only for the time during which a socket had them.

use super::*;

/// The users of a flow that lasted for this time.
fn users_within(scene: &Scene, key: FlowKey, first_ns: u64, last_ns: u64) -> Vec<String> {
    let flow = FlowToAttribute { key, opened_by: OUT, first_ns, last_ns };
    let result = scene.trace.result(std::iter::once(flow), PacketCoverage::Final);
    users_by_name(&result, &result.users, &key)
}

#[test]
fn a_port_belongs_to_the_process_that_had_it_bound_at_the_time() {
    const SECOND: u64 = 1_000_000_000;
    let mut scene = Scene::new();
    for (number, comm) in [(1, "first"), (2, "second")] {
        let pid = 100 + number as u32;
        scene.fork(COMMAND, pid);
        scene.exec(pid, COMMAND, comm);
        scene.now = number * 10 * SECOND;
        scene.socket(pid, SocketOperation::Created, number, 17, "");
        scene.socket(pid, SocketOperation::Bound, number, 17, "0.0.0.0:5353");
        scene.now += SECOND;
        scene.close(pid, number, 17, None);
    }
    let within = |first, last| users_within(&scene, flow(17, 5353, 53), first * SECOND, last * SECOND);
    assert_eq!(within(5, 6), ["sh netns"], "before the first was bound");
    assert_eq!(within(10, 10), ["first tuple maker"]);
    assert_eq!(within(15, 16), ["sh netns"], "after it was closed");
    assert_eq!(within(20, 30), ["second tuple maker"]);
    assert_eq!(within(5, 30), ["first tuple maker", "second tuple maker"]);
    assert_eq!(within(25, 30), ["sh netns"]);
}

#[test]
fn a_forwarded_flow_is_not_that_of_a_socket_with_the_same_port() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "resolver");
    scene.socket(101, SocketOperation::Bound, 7, 17, "0.0.0.0:53");
    scene.trace.set_has_strangers();
    let (own, late) = (flow(17, 53, 5353), scene.now);
    let mut forwarded = own;
    forwarded.local.addr = [192, 0, 2, 7].into();
    let mut group = own;
    group.local.addr = [224, 0, 0, 251].into();
    assert_eq!(users_within(&scene, forwarded, late, late), ["resolver tuple"], "the addresses are not known");
    scene.trace.set_own_addresses(vec![own.local.addr]);
    assert_eq!(users_within(&scene, own, late, late), ["resolver tuple"]);
    assert_eq!(users_within(&scene, forwarded, late, late), Vec::<String>::new());
    assert_eq!(users_within(&scene, group, late, late), ["resolver tuple"]);
}

#[test]
fn a_closed_raw_socket_has_no_later_flows() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "ping");
    scene.socket(101, SocketOperation::Created, 7, 1, "");
    scene.close(101, 7, 1, None);
    let later = scene.now + 1_000_000_000;
    assert_eq!(users_within(&scene, flow(1, 0, 0), later, later), ["sh netns"]);
    assert_eq!(users_within(&scene, flow(1, 0, 0), 0, later), ["ping tuple maker"]);
}

#[test]
fn attributes_a_flow_whose_record_was_lost_by_the_ends_of_a_closed_socket() {
    let mut scene = Scene { trace: Trace::of_namespaces(vec![1]), netns: 1, ..Scene::default() };
    scene.exec(COMMAND, 1, "sh");
    for (pid, comm) in [(101, "curl"), (102, "wget")] {
        scene.fork(COMMAND, pid);
        scene.exec(pid, COMMAND, comm);
        let (cookie, key) = (u64::from(pid), flow(6, 40_000 + pid as u16, 80));
        scene.socket(pid, SocketOperation::Created, cookie, 6, "");
        scene.socket(pid, SocketOperation::Connect, cookie, 6, "198.51.100.2:80");
        scene.close(pid, cookie, 6, Some((key.local, key.remote)));
    }
    assert_eq!(users(&scene, flow(6, 40_101, 80), OUT), ["curl tuple maker"]);
    assert_eq!(users(&scene, flow(6, 40_102, 80), OUT), ["wget tuple maker"]);
    assert_eq!(users(&scene, flow(6, 40_103, 80), OUT), ["sh netns"]);
    scene.netns = 2;
    scene.socket(101, SocketOperation::Used, 7, 6, "");
    let key = flow(6, 40_103, 80);
    scene.close(101, 7, 6, Some((key.local, key.remote)));
    assert_eq!(users(&scene, key, OUT), ["sh netns"], "a socket in another namespace");
}

#[test]
fn a_port_that_the_kernel_assigned_is_known_from_the_close() {
    let mut scene = Scene::new();
    scene.fork(COMMAND, 101);
    scene.exec(101, COMMAND, "resolver");
    scene.socket(101, SocketOperation::Created, 7, 17, "");
    scene.socket(101, SocketOperation::Used, 7, 17, "198.51.100.2:53");
    assert_eq!(users(&scene, flow(17, 50_000, 53), OUT), ["sh netns"]);
    let local = Some(TransportAddress { addr: [0; 4].into(), port: 50_000 });
    let closed = ClosedSocket { cookie: 7, netns: 0, protocol: Some(Protocol(17)), local, remote: None };
    scene.apply(101, ProcessAction::ClosedSocket(closed));
    assert_eq!(users(&scene, flow(17, 50_000, 53), OUT), ["resolver tuple maker"]);
    assert_eq!(users(&scene, flow(17, 50_001, 53), OUT), ["sh netns"]);
}

/// `env app` and a shell that ends with `exec app`: one process runs both.
#[test]
fn without_a_socket_a_flow_is_that_of_the_program_that_the_command_ran_at_its_start() {
    let mut scene = Scene::default();
    let mut started_ns = Vec::new();
    for (time_ns, comm) in [(100, "sh"), (200, "ping"), (300, "tail")] {
        scene.now = time_ns;
        scene.exec(COMMAND, 1, comm);
        started_ns.push(scene.now);
        scene.fork(COMMAND, 200 + time_ns as u32);
    }
    let begins = |first_ns| users_within(&scene, flow(132, 1, 2), first_ns, 1_000_000);
    assert_eq!(begins(0), ["sh netns"], "before its exec was reported");
    assert_eq!(begins(started_ns[1] - 1), ["sh netns"]);
    assert_eq!(begins(started_ns[1]), ["ping netns"]);
    assert_eq!(begins(started_ns[2] + 500_000), ["tail netns"]);
}

#[test]
fn a_process_with_the_reused_process_id_of_the_command_is_not_the_command() {
    let mut scene = Scene::new();
    scene.now = 500;
    let origin = Origin { start_ns: 1_000_000_000, ppid: 1, maker: 1 };
    scene.apply(COMMAND, ProcessAction::Exec(origin, Image { comm: "other".into(), ..Image::default() }));
    assert_eq!(users_within(&scene, flow(132, 1, 2), 1_000, 2_000), ["sh netns"]);
}
