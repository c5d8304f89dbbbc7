//! Failed attempts and local sockets.

use super::*;

fn attempts(result: TraceResult) -> Vec<(AttemptTarget, &'static str, u64)> {
    result.attempts.iter().map(|Attempt { target, cause, count, .. }| (target.clone(), cause.name(), *count)).collect()
}

fn address(text: &str) -> AttemptTarget {
    AttemptTarget::Address(text.parse().expect("an address"))
}

#[test]
fn a_connection_without_a_packet_is_a_failed_attempt() {
    let mut scene = Scene::new();
    for (cookie, protocol) in [(7, 6), (8, 6), (9, 17)] {
        scene.socket(COMMAND, SocketOperation::Created, cookie, protocol, "");
        scene.socket(COMMAND, SocketOperation::Connect, cookie, protocol, "198.51.100.2:80");
    }
    scene.trace.note_flow(flow(6, 40000, 80), 8);
    let result = scene.result(&[(flow(6, 40000, 80), OUT)]);
    assert_eq!(attempts(result), [(address("198.51.100.2:80"), "failed_at_once", 1)]);
    let interim = scene.trace.result(std::iter::empty(), PacketCoverage::SoFar);
    assert_eq!(attempts(interim), []);
}

#[test]
fn ignores_attempts_in_namespaces_that_the_target_created() {
    let mut scene = Scene { trace: Trace::of_namespaces(vec![1]), ..Scene::default() };
    scene.exec(COMMAND, 1, "sh");
    for netns in [1, 2] {
        scene.netns = netns;
        scene.socket(COMMAND, SocketOperation::Created, netns, 6, "");
        scene.socket(COMMAND, SocketOperation::Bound, netns, 6, "0.0.0.0:4000");
        scene.socket(COMMAND, SocketOperation::Connect, netns, 6, &format!("127.0.0.1:{netns}"));
        scene.socket(COMMAND, SocketOperation::Created, 10 + netns, 17, "");
        scene.netns = 0;
        scene.socket(COMMAND, SocketOperation::SendFailed(101), 10 + netns, 17, &format!("127.0.0.1:1{netns}"));
    }
    let expected = [(address("127.0.0.1:11"), "no_route", 1), (address("127.0.0.1:1"), "failed_at_once", 1)];
    assert_eq!(attempts(scene.result(&[])), expected);
}

#[test]
fn with_strangers_a_message_not_sent_counts_only_if_its_socket_is_known_to_be_here() {
    let mut scene = Scene { trace: Trace::of_namespaces(vec![1]), ..Scene::default() };
    scene.trace.set_has_strangers();
    scene.exec(COMMAND, 1, "sh");
    scene.netns = 1;
    scene.socket(COMMAND, SocketOperation::Used, 7, 17, "");
    scene.netns = 0;
    for cookie in [7, 8] {
        scene.socket(COMMAND, SocketOperation::SendFailed(101), cookie, 17, &format!("203.0.113.1:{cookie}"));
    }
    assert_eq!(attempts(scene.result(&[])), [(address("203.0.113.1:7"), "no_route", 1)]);
}

#[test]
fn a_failed_call_gives_the_errno_of_a_connection_without_packets() {
    let mut scene = Scene::new();
    let target = || CallTarget::Address("198.51.100.2:80".parse().expect("an address"));
    scene.socket(COMMAND, SocketOperation::Connect, 7, 6, "198.51.100.2:80");
    scene.call(COMMAND, CallName::Connect, 101, target());
    scene.socket(COMMAND, SocketOperation::Connect, 8, 6, "198.51.100.2:80");
    scene.trace.note_flow(flow(6, 40000, 80), 8);
    scene.call(COMMAND, CallName::Connect, 113, target());
    scene.socket(COMMAND, SocketOperation::Connect, 9, 6, "198.51.100.2:80");
    scene.call(COMMAND, CallName::Connect, 111, target());
    scene.trace.note_flow(flow(6, 40001, 80), 9);
    let result = scene.result(&[]);
    assert_eq!(attempts(result.clone()), [(address("198.51.100.2:80"), "no_route", 1)]);
    assert_eq!(result.attempts[0].protocol, Some(Protocol::TCP));
}

#[test]
fn a_message_that_could_not_be_sent_is_one_attempt_with_or_without_its_failed_call() {
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::SendFailed(101), 7, 17, "203.0.113.1:9");
    scene.call(COMMAND, CallName::Send, 101, CallTarget::Address("203.0.113.1:9".parse().expect("an address")));
    scene.socket(COMMAND, SocketOperation::SendFailed(111), 7, 17, "203.0.113.1:9");
    scene.socket(COMMAND, SocketOperation::SendFailed(32), 8, 6, "203.0.113.1:9");
    assert_eq!(attempts(scene.result(&[])), [(address("203.0.113.1:9"), "no_route", 1)]);
}

#[test]
fn a_message_that_failed_before_its_destination_was_read_is_not_blamed_on_the_previous_one() {
    const EMSGSIZE: i32 = 90;
    let target = || CallTarget::Address("198.51.100.8:7777".parse().expect("an address"));
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::SendFailed(EMSGSIZE), 7, 17, "198.51.100.7:9000");
    assert_eq!(attempts(scene.result(&[])), [(address("0.0.0.0:0"), "errno", 1)]);
    // The failed call has the destination.
    scene.call(COMMAND, CallName::Send, EMSGSIZE, target());
    assert_eq!(attempts(scene.result(&[])), [(address("198.51.100.8:7777"), "errno", 1)]);
    assert_eq!(scene.result(&[]).attempts[0].protocol, Some(Protocol::UDP));
    // That of a connected socket is certain.
    scene.socket(COMMAND, SocketOperation::Connect, 8, 17, "198.51.100.9:53");
    scene.socket(COMMAND, SocketOperation::SendFailed(EMSGSIZE), 8, 17, "198.51.100.9:53");
    assert_eq!(attempts(scene.result(&[])).len(), 2);
    assert!(attempts(scene.result(&[])).contains(&(address("198.51.100.9:53"), "errno", 1)));
}

#[test]
fn an_unsupported_address_family_is_an_attempt_without_an_address() {
    let mut scene = Scene::new();
    scene.call(COMMAND, CallName::Socket, 97, CallTarget::Address("[::]:0".parse().expect("an address")));
    scene.call(COMMAND, CallName::Socket, 97, CallTarget::Other);
    scene.call(COMMAND, CallName::Connect, 4, CallTarget::Address("203.0.113.1:9".parse().expect("an address")));
    assert_eq!(attempts(scene.result(&[])), [(address("[::]:0"), "no_address_family", 1)]);
}

#[test]
fn sums_up_local_sockets_by_path() {
    let mut scene = Scene::new();
    scene.machine.bound.extend(["@there", "/run/docker.sock"]);
    let paths =
        ["/run/docker.sock", "/run/docker.sock", "@there", "@gone", "@closed", "/run/gone.sock", "/run/unknown"];
    for path in paths {
        scene.apply(COMMAND, ProcessAction::LocalSocket(path.into()));
    }
    // It existed once.
    scene.machine.bound.clear();
    scene.apply(COMMAND, ProcessAction::LocalSocket("/run/docker.sock".into()));
    scene.call(COMMAND, CallName::Connect, 2, CallTarget::LocalSocket("/run/gone.sock".into()));
    scene.call(COMMAND, CallName::Connect, 111, CallTarget::LocalSocket("@gone".into()));
    let result = scene.result(&[]);
    let peers = result
        .processes
        .local_sockets
        .iter()
        .map(|socket| (socket.path.as_str(), socket.connections, socket.failed, socket.missing));
    let peers: Vec<_> = peers.collect();
    let expected = [
        ("/run/docker.sock", 3, 0, 0),
        ("/run/gone.sock", 1, 1, 1),
        ("/run/unknown", 1, 0, 0),
        ("@closed", 1, 0, 1),
        ("@gone", 1, 1, 1),
        ("@there", 1, 0, 0),
    ];
    assert_eq!(peers, expected);
    assert!(result.processes.local_sockets.iter().all(|socket| socket.processes == [ProcessId(0)]));
    let failed = [
        (AttemptTarget::LocalSocket("/run/gone.sock".into()), "errno", 1),
        (AttemptTarget::LocalSocket("@gone".into()), "errno", 1),
    ];
    assert_eq!(attempts(result), failed);
}

#[test]
fn a_connection_has_not_failed_if_a_flow_without_a_socket_may_belong_to_it() {
    let mut scene = Scene::new();
    scene.socket(COMMAND, SocketOperation::Created, 7, 6, "");
    scene.socket(COMMAND, SocketOperation::Connect, 7, 6, "198.51.100.2:80");
    assert_eq!(attempts(scene.result(&[(flow(6, 40000, 80), OUT)])), []);
    assert_eq!(attempts(scene.result(&[(flow(6, 40000, 81), OUT)])).len(), 1);
}
