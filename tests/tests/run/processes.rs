//! Attribution of flows to processes: real programs, short-lived ones, other users, sockets passed
//! between processes, and failed attempts without a packet.

use netwatch_tests::{FinishedRun, HostIpv6, InternetShape, USER_ID, addresses::*, internet, needs, report};
use serde_json::Value;

use crate::TRAFFIC;

/// Debian's Python. A version manager's would be a script that starts another program.
const PYTHON: &str = "/usr/bin/python3";

/// The process with this number.
fn process(run: &FinishedRun, number: i64) -> &Value {
    report::process(run.report(), number)
}

/// For each process that used a flow: its name, the evidence, and `creator` if it created the
/// socket.
fn users(run: &FinishedRun, flow: &Value) -> Vec<String> {
    let user = |user: &report::ProcessUse| {
        let comm = report::text(process(run, user.process), "comm");
        format!("{comm} {}{}", user.evidence, if user.inherited { "" } else { " creator" })
    };
    report::users(flow).iter().map(user).collect()
}

fn users_of(run: &FinishedRun, protocol: &str, port: u16) -> Vec<Vec<String>> {
    let flows = report::list(run.report(), "flows").iter();
    let flows = flows.filter(|flow| flow["protocol"] == protocol && flow["remote_port"] == port);
    flows.map(|flow| users(run, flow)).collect()
}

/// Names of a process and its ancestors up to the command.
fn chain<'a>(run: &'a FinishedRun, comm: &str) -> Vec<&'a str> {
    let mut next = report::list(run.report(), "processes").iter().find(|process| process["comm"] == comm);
    assert!(next.is_some(), "no process {comm}: {run}");
    let mut chain = Vec::new();
    while let Some(process) = next {
        chain.push(report::text(process, "comm"));
        next = process.get("parent").and_then(Value::as_i64).map(|number| self::process(run, number));
    }
    chain
}

#[track_caller]
fn assert_nothing_lost(run: &FinishedRun) {
    for reason in ["events", "sockets", "exited", "unreadable", "unknown_records", "over_limit"] {
        assert_eq!(report::number(run.report(), &format!("attribution.lost.{reason}")), 0, "{reason}: {run}");
    }
}

#[test]
fn real_programs_are_reported_with_their_parents_and_arguments() {
    needs!("curl", "dig");
    let net = internet!();
    let run = net.host.watch(&["sh", "-c", "curl -s4 http://app.example/; dig +short app.example A; true"]);
    run.assert_ok();
    assert_eq!(users_of(&run, "tcp", 80), [["curl socket creator"]], "{run}");
    let mut dns: Vec<_> = users_of(&run, "udp", 53).concat();
    dns.sort();
    dns.dedup();
    assert_eq!(dns, ["curl socket creator", "dig socket creator"], "{run}");
    assert_eq!(chain(&run, "curl"), ["curl", "sh"], "{run}");
    let list = report::list(run.report(), "processes");
    let curl = list.iter().find(|process| process["comm"] == "curl").expect("just found");
    assert_eq!(curl["cmdline"], serde_json::json!(["curl", "-s4", "http://app.example/"]), "{run}");
    assert!(report::text(curl, "exe").ends_with("/curl"), "{run}");
    assert_eq!(report::number(curl, "uid"), 0, "{run}");
    let served = report::list(curl, "endpoints").iter().find(|one| one["port"] == 80).expect("an endpoint");
    let endpoint = report::endpoint(run.report(), "tcp", APP_V4, 80);
    assert_eq!((&served["egress"], &served["ingress"]), (&endpoint["egress"], &endpoint["ingress"]), "{run}");
    assert_eq!(report::list(endpoint, "processes")[0], curl["number"], "{run}");
    assert_nothing_lost(&run);
    assert!(run.stderr.contains("curl"), "{run}");
}

#[test]
fn processes_that_exist_for_a_millisecond_are_reported() {
    let net = internet!();
    let script = format!(
        "for i in $(seq 150); do {TRAFFIC} udp {APP_V4}:{ECHO} 1 10 & {TRAFFIC} send {APP_V4}:{SINK} 1 & wait; done"
    );
    let run = net.host.watch(&["sh", "-c", &script]);
    run.assert_ok();
    for (protocol, port) in [("udp", ECHO), ("tcp", SINK)] {
        let flows = report::flows(run.report(), protocol, APP_V4, port);
        let mut pids = Vec::new();
        for flow in &flows {
            let users = report::users(flow);
            assert_eq!((users.len(), users[0].evidence), (1, "socket"), "{flow:#}");
            let process = process(&run, users[0].process);
            let target = format!("{APP_V4}:{port}");
            assert!(report::list(process, "cmdline").contains(&target.into()), "{process:#}");
            pids.push(report::number(process, "pid"));
        }
        pids.sort_unstable();
        pids.dedup();
        // Two processes may have used the same port, but no process has two flows.
        assert_eq!(pids.len(), flows.len(), "{run}");
        assert!(flows.len() > 140, "{} flows: {run}", flows.len());
    }
    assert_nothing_lost(&run);
}

#[test]
fn a_process_of_another_user_is_reported_with_its_user() {
    needs!("curl", "setpriv");
    let net = internet!();
    let script =
        format!("setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups curl -s4 http://app.example/; true");
    let run = net.host.watch(&["sh", "-c", &script]);
    assert_eq!(users_of(run.assert_ok(), "tcp", 80), [["curl socket creator"]], "{run}");
    let list = report::list(run.report(), "processes");
    let curl = list.iter().find(|process| process["comm"] == "curl").expect("named");
    assert_eq!(report::number(curl, "uid"), i64::from(USER_ID), "{run}");
}

/// A client that connects and passes its socket to a child without using it.
const HANDED_ON: &str = "
import array, os, socket, sys
here, there = socket.socketpair(socket.AF_UNIX)
if os.fork() == 0:
    open('/proc/self/comm', 'w').write('user')
    _, [(_, _, data)], _, _ = there.recvmsg(1, 1024)
    got = socket.socket(fileno=array.array('i', data)[0])
    got.sendall(b'x' * 1000)
    got.shutdown(socket.SHUT_WR)
    os._exit(0)
made = socket.create_connection((sys.argv[1], int(sys.argv[2])))
here.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [made.fileno()]))])
made.close()
os.wait()
";

#[test]
fn a_socket_passed_by_scm_rights_is_attributed_to_its_user_and_its_creator() {
    needs!(PYTHON);
    let net = internet!();
    let run = net.host.watch(&[PYTHON, "-c", HANDED_ON, &APP_V4.to_string(), &SINK.to_string()]);
    run.assert_ok();
    let flow = report::flows(run.report(), "tcp", APP_V4, SINK)[0];
    let users = report::users(flow);
    let command = report::number(run.report(), "run.pid");
    let [user, creator] = users[..] else { panic!("two of them: {run}") };
    let user_process = process(&run, user.process);
    assert_ne!(report::number(user_process, "pid"), command, "{run}");
    let creator_pid = report::number(process(&run, creator.process), "pid");
    assert_eq!((creator_pid, user.inherited, creator.inherited), (command, true, false), "{run}");
    assert!(users.iter().all(|user| user.evidence == "socket"), "{run}");
    assert_eq!(report::number(user_process, "ppid"), command, "{run}");
}

#[test]
fn without_a_cgroup_flows_are_counted_but_not_attributed() {
    let net = internet!();
    net.host.forbid_cgroups();
    let run = net.host.watch(&[TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "1", "10"]);
    let document = run.assert_ok().report();
    assert_eq!(report::text(document, "attribution.state"), "off", "{run}");
    assert!(report::list(document, "processes").is_empty(), "{run}");
    assert_eq!(report::flows(document, "udp", APP_V4, ECHO).len(), 1, "{run}");
    assert!(run.stderr.contains("processes are not named"), "{run}");
}

#[test]
fn a_failed_lookup_is_attributed_to_the_process_that_made_it() {
    needs!("dig");
    let net = internet!();
    let run = net.host.watch(&["sh", "-c", "dig +short gone.example A; true"]);
    let expected = [("gone.example".to_owned(), "dns".to_owned(), 1)];
    assert_eq!(attempts(run.assert_ok()), expected, "{run}");
}

/// A program that sends a UDP datagram as a frame of a packet socket, which has no flow of its own,
/// and starts another program in its place.
const FRAME: &str = "
import os, socket, struct, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect((sys.argv[1], 9))
source, remote = socket.inet_aton(probe.getsockname()[0]), socket.inet_aton(sys.argv[1])
probe.close()
udp = struct.pack('!4H', 7000, int(sys.argv[2]), 12, 0) + b'data'
ip = struct.pack('!2B3H2BH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + source + remote
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(('eth0', 0))
link.send(b'\\xff' * 6 + b'\\x02' + b'\\0' * 5 + b'\\x08\\0' + ip + udp)
os.execvp('sleep', ['sleep', '0.1'])
";

#[test]
fn a_flow_without_a_socket_is_that_of_the_program_that_ran_when_it_began() {
    needs!(PYTHON);
    let net = internet!();
    let script = format!("exec {PYTHON} -c \"$0\" {APP_V4} {SINK}");
    let run = net.host.watch(&["sh", "-c", &script, FRAME]);
    let programs = users_of(run.assert_ok(), "udp", SINK).concat();
    assert_eq!(programs.len(), 1, "{run}");
    assert!(programs[0].starts_with("python3 netns"), "neither sh nor sleep: {run}");
    assert!(run.stderr.contains("python3"), "{run}");
}

/// A server that serves in a child process, and its client, on the loopback.
const FORKED: &str = "
import os, socket
server = socket.create_server(('127.0.0.1', 0))
if os.fork() == 0:
    if os.fork() == 0:
        peer, _ = server.accept()
        peer.sendall(b'y' * 500)
        os._exit(0)
    os.wait()
    os._exit(0)
client = socket.create_connection(server.getsockname())
while client.recv(4096): pass
os.wait()
";

#[test]
fn both_ends_of_a_loopback_flow_are_attributed() {
    needs!(PYTHON);
    let net = internet!();
    let run = net.host.watch(&[PYTHON, "-c", FORKED]);
    let flows = report::list(run.assert_ok().report(), "loopback.flows");
    assert_eq!(flows.len(), 1, "{run}");
    let pids = report::user_pids(run.report(), &flows[0]);
    let command = report::number(run.report(), "run.pid");
    assert_eq!((pids.len(), pids[0]), (2, command), "the client first: {run}");
    let server =
        report::list(run.report(), "processes").iter().find(|process| process["pid"] == pids[1]).expect("listed");
    assert_eq!(chain(&run, "python3").len(), 1, "{run}");
    let grandparent = process(&run, report::number(server, "parent"));
    assert_eq!(report::number(grandparent, "ppid"), command, "{run}");
}

const DATAGRAMS: &str = "
import socket, sys
# Waits for the answer: an answer to a closed socket causes an ICMP error.
for family, address in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.sendto(b'x', (address, 7))
    one.recv(10)
";

#[test]
fn unconnected_datagrams_ping_and_raw_sockets_are_attributed() {
    needs!(PYTHON, "ping");
    let net = internet!();
    let script = format!("{PYTHON} -c \"$0\" {APP_V4} {APP_V6}; ping -c1 {APP_V4}; ping -c1 {APP_V6}");
    let run = net.host.watch(&["sh", "-c", &script, DATAGRAMS]);
    run.assert_ok();
    assert_eq!(users_of(&run, "udp", 7), [["python3 socket creator"], ["python3 socket creator"]], "{run}");
    let of = |protocol| users_of(&run, protocol, 0).concat();
    assert_eq!(
        (of("icmp"), of("icmpv6")),
        (vec!["ping socket creator".to_owned()], vec!["ping socket creator".to_owned()]),
        "{run}"
    );
}

#[test]
fn an_incoming_flow_is_attributed_to_the_server() {
    let net = internet!();
    let mut running = net.host.start(&["--publish", "8080:80"], &[TRAFFIC, "serve", "0.0.0.0:80"]);
    running.wait_for_stdout("listening");
    assert_eq!(net.inet.sh(&format!("printf hi | socat -t60 - TCP4:{HOST_V4}:8080")), "hi");
    let run = running.finish();
    let flow = report::list(run.assert_ok().report(), "flows").iter().find(|flow| flow["direction"] == "in");
    assert_eq!(users(&run, flow.expect("a flow from outside")), ["traffic socket"], "{run}");
}

/// Connects to local sockets, behind which another process does the work, such as a resolver or a
/// message bus.
const UNIX: &str = "
import socket, sys
for kind, path in ((socket.SOCK_STREAM, sys.argv[1]), (socket.SOCK_STREAM, '\\0/tmp/no-such-bus')):
    try: socket.socket(socket.AF_UNIX, kind).connect(path)
    except OSError: pass
sys.exit(int(sys.argv[2]))
";

#[test]
fn local_sockets_are_listed_by_path_and_a_missing_abstract_one_is_explained() {
    needs!(PYTHON);
    let net = internet!();
    let path = net.host.dir().join("daemon.sock");
    let _daemon = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let path = path.to_str().expect("a plain name");
    let run = net.host.watch(&[PYTHON, "-c", UNIX, path, "1"]);
    let sockets = report::list(run.report(), "local_sockets");
    let found: Vec<_> = sockets
        .iter()
        .map(|one| {
            (report::text(one, "path"), report::number(one, "connections"), report::number(one, "failed_connections"))
        })
        .collect();
    assert_eq!(found, [(path, 1, 0), ("@/tmp/no-such-bus", 1, 0)], "{run}");
    assert_eq!(attempts(&run), [], "without --failed-calls the result of connect is unknown: {run}");
    let caller = process(&run, report::number(&sockets[0], "processes.0"));
    assert_eq!(caller["pid"], run.report()["run"]["pid"], "{run}");
    let notes = |run: &FinishedRun| report::value(run.report(), "notes").to_string();
    assert!(run.stderr.contains("daemon.sock") && notes(&run).contains("abstract Unix sockets"), "{run}");
    let run = net.host.run(&["--failed-calls"], &[PYTHON, "-c", UNIX, path, "0"]);
    assert!(!notes(run.assert_ok()).contains("abstract Unix sockets"), "{run}");
    assert_eq!(attempts(&run), expected([("@/tmp/no-such-bus", "errno")]), "{run}");
}

/// Tries a local socket that does not exist, and stays until the event is read.
const MISSING: &str = "
import socket, time
try: socket.socket(socket.AF_UNIX).connect('/no/such/socket')
except OSError: time.sleep(1)
";

#[test]
fn a_local_socket_that_does_not_exist_is_not_listed_for_people() {
    needs!(PYTHON);
    let net = internet!();
    let run = net.host.watch(&[PYTHON, "-c", MISSING]);
    let sockets = report::list(run.report(), "local_sockets");
    let found: Vec<_> =
        sockets.iter().map(|one| (report::text(one, "path"), report::number(one, "missing_connections"))).collect();
    assert_eq!(found, [("/no/such/socket", 1)], "{run}");
    assert!(!run.stderr.contains("/no/such/socket"), "{run}");
}

/// A connection and a datagram without a route, and a missing local socket.
const FAILING_CALLS: &str = "
import socket
def attempt(kind, call):
    try: call(socket.socket(socket.AF_INET6, kind))
    except OSError: pass
attempt(socket.SOCK_STREAM, lambda one: one.connect(('2001:db8:9::9', 443)))
attempt(socket.SOCK_DGRAM, lambda one: one.sendto(b'x', ('2001:db8:9::9', 53)))
try: socket.socket(socket.AF_UNIX).connect('/no/such/socket')
except OSError: pass
";

fn attempts(run: &FinishedRun) -> Vec<(String, String, i64)> {
    let attempt = |one: &Value| {
        let target =
            one.get("path").or(one.get("remote")).or(one.get("name")).and_then(Value::as_str).unwrap_or_default();
        let port = one.get("port").map(|port| format!(" {port}")).unwrap_or_default();
        assert!(one.get("process").is_some(), "{one:#}");
        (format!("{target}{port}"), report::text(one, "cause").to_owned(), report::number(one, "count"))
    };
    report::list(run.report(), "attempts").iter().map(attempt).collect()
}

fn expected<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String, i64)> {
    expected.iter().map(|(target, cause)| ((*target).to_owned(), (*cause).to_owned(), 1)).collect()
}

#[test]
fn failed_attempts_without_a_packet_are_reported() {
    needs!(PYTHON);
    let net = internet!(InternetShape { ipv6: HostIpv6::None, ..InternetShape::default() });
    let run = net.host.watch(&[PYTHON, "-c", FAILING_CALLS]);
    let found = attempts(run.assert_ok());
    assert_eq!(found, expected([("2001:db8:9::9 443", "failed_at_once"), ("2001:db8:9::9 53", "no_route")]), "{run}");
    let run = net.host.run(&["-v", "--failed-calls"], &[PYTHON, "-c", FAILING_CALLS]);
    let found = attempts(run.assert_ok());
    let exact = [("2001:db8:9::9 443", "no_route"), ("2001:db8:9::9 53", "no_route"), ("/no/such/socket", "errno")];
    assert_eq!(found, expected(exact), "{run}");
    assert!(run.stderr.contains("no route (network is unreachable) (python3)"), "{run}");
    let run = net.host.run(&["-q", "--failed-calls", "--events=json"], &[PYTHON, "-c", FAILING_CALLS]);
    let events = run.assert_ok().stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut failed: Vec<Value> = events.filter(|event| event["event"] == "failed").collect();
    failed.sort_by_key(|event| event["remote_port"].as_u64());
    let ports: Vec<_> = failed.iter().map(|event| event["remote_port"].as_u64()).collect();
    assert_eq!(ports, [Some(53), Some(443)], "{run}");
    for event in failed {
        assert_eq!((&event["failed"]["no_route"], &event["errno"]), (&1.into(), &libc::ENETUNREACH.into()), "{run}");
        assert_eq!(
            (&event["remote"], &event["process"]["comm"]),
            (&"2001:db8:9::9".into(), &"python3".into()),
            "{run}"
        );
    }
}

/// A server and its client on the loopback of a namespace that the command creates.
const ELSEWHERE: &str = "
import socket
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.9', 9))
except OSError: pass
";

#[test]
fn connections_inside_a_namespace_that_the_command_creates_are_no_attempts() {
    needs!(PYTHON, "unshare", "ip");
    let net = internet!();
    let run =
        net.host.watch(&["unshare", "-n", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh", PYTHON, "-c", ELSEWHERE]);
    assert_eq!(attempts(run.assert_ok()), [], "{run}");
    assert_nothing_lost(&run);
}

#[test]
fn refused_and_unanswered_attempts_are_attributed() {
    let net = internet!();
    let script = format!("{TRAFFIC} connect {APP_V4}:{REFUSED} 500; {TRAFFIC} connect {APP_V4}:{SILENT} 500");
    for flags in [&[][..], &["--failed-calls"]] {
        let run = net.host.run(flags, &["sh", "-c", &script]);
        let target = |port: u16| format!("{APP_V4} {port}");
        let expected = [(target(REFUSED), "refused".to_owned(), 1), (target(SILENT), "timeout".to_owned(), 1)];
        assert_eq!(attempts(run.assert_ok()), expected, "{run}");
    }
}

#[test]
fn no_cmdline_omits_the_arguments() {
    let net = internet!();
    let flags = ["--no-cmdline"];
    let run = net.host.run(&flags, &["sh", "-c", &format!("{TRAFFIC} udp {APP_V4}:{ECHO} 1 10; true")]);
    assert_eq!(run.assert_ok().report()["run"]["command"], serde_json::json!(["sh"]), "{run}");
    let list = report::list(run.assert_ok().report(), "processes");
    assert!(list.iter().all(|process| process.get("cmdline").is_none()), "{run}");
    assert_eq!(chain(&run, "traffic"), ["traffic", "sh"], "{run}");
}

#[test]
fn by_process_prints_the_summary_as_a_tree_of_processes() {
    let net = internet!();
    let script = format!("{TRAFFIC} fetch {APP_V4}:{SOURCE}; true");
    let run = net.host.netwatch(&["run", "--by", "process", "--", "sh", "-c", &script]);
    run.assert_ok();
    let tree: Vec<&str> = run.stderr.lines().skip_while(|line| !line.starts_with("process ")).collect();
    assert!(tree[1].starts_with("└ sh ["), "{run}");
    assert!(tree[2].starts_with("  └ traffic ["), "{run}");
    assert!(tree[3].contains(&format!("{APP_V4} tcp/{SOURCE} out")), "{run}");
}

/// Every TCP and UDP flow is attributed by its socket, and at least 99 % of all flows.
#[test]
fn nearly_all_flows_are_attributed() {
    needs!("curl", "dig", "ping");
    let net = internet!();
    let script = format!(
        "curl -s http://app.example/ https://app.example/ -k; dig +short big.example TXT; dig +tcp +short app.example;\
         for i in 1 2 3 4 5 6 7 8; do {TRAFFIC} udp {APP_V4}:{ECHO} 2 100 & {TRAFFIC} send {APP_V6}:{SINK} 1000 & done; wait;\
         ping -c1 {APP_V6}; {TRAFFIC} daemon 50 {TRAFFIC} fetch {APP_V4}:{SOURCE}"
    );
    let run = net.host.run(&["--linger"], &["sh", "-c", &script]);
    let flows = report::list(run.assert_ok().report(), "flows");
    let of = |flow: &&Value, evidence: &str| report::users(flow).first().is_some_and(|user| user.evidence == evidence);
    for flow in flows.iter().filter(|flow| ["tcp", "udp"].contains(&report::text(flow, "protocol"))) {
        assert!(of(&flow, "socket"), "{flow:#} of {run}");
    }
    let exact = flows.iter().filter(|flow| of(flow, "socket")).count();
    assert!(exact * 100 >= flows.len() * 99, "{exact} of {}: {run}", flows.len());
    assert_eq!(report::number(run.report(), "attribution.flows.socket"), exact as i64, "{run}");
    assert_nothing_lost(&run);
}
