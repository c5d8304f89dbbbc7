//! `netwatch attach` to the sockets of cgroups: of units, and of processes in the network namespace
//! of netwatch.

use std::io;
use std::os::fd::AsRawFd;
use std::process::Child;

use netwatch_tests::{RunningNetwatch, TestHost, addresses::*, internet, report, wait_until};
use serde_json::Value;

use crate::TRAFFIC;

/// Bytes of an IP packet that carries a UDP payload of 200 bytes over IPv4.
const PACKET: i64 = 20 + 8 + 200;

/// Sets `$cgroup` to the path of a cgroup of this name, which it creates.
fn make_cgroup(name: &str) -> String {
    format!("cgroup=$(findmnt -n -l -t cgroup2 -o TARGET | head -n 1)/{name}; mkdir -p $cgroup")
}

/// Runs a script in a cgroup.
fn sh_in(host: &TestHost, cgroup: &str, script: &str) {
    host.sh(&format!("{}; echo 0 > $cgroup/cgroup.procs; {script}", make_cgroup(cgroup)));
}

/// Starts a script in a cgroup.
fn start_in(host: &TestHost, cgroup: &str, script: &str) -> Child {
    let script = format!("{}; echo 0 > $cgroup/cgroup.procs; {script}", make_cgroup(cgroup));
    host.command("sh").args(["-euc", &script]).spawn().expect("start a shell")
}

fn udp(count: u32) -> String {
    format!("{TRAFFIC} udp {APP_V4}:{ECHO} {count} 200")
}

fn interrupt(attached: &RunningNetwatch) {
    attached.signal(libc::SIGINT);
}

fn notes(document: &Value) -> String {
    report::list(document, "notes").iter().filter_map(|note| note.as_str()).collect::<Vec<_>>().join("\n")
}

fn assert_echo(document: &Value, packets: i64) {
    let endpoint = report::endpoint(document, "udp", APP_V4, ECHO);
    report::DIRECTIONS.into_iter().for_each(|direction| report::assert_packets(endpoint, direction, packets, PACKET));
}

/// The names of the processes of a flow.
fn user_names<'r>(document: &'r Value, flow: &Value) -> Vec<&'r str> {
    let users = report::users(flow).into_iter();
    users.map(|user| report::text(report::process(document, user.process), "comm")).collect()
}

/// Number of programs at both hooks of a cgroup.
fn programs(host: &TestHost, cgroup: &str) -> u32 {
    /// `BPF_CGROUP_INET_INGRESS` and `BPF_CGROUP_INET_EGRESS`.
    const HOOKS: [u32; 2] = [0, 1];
    let path = host.sh(&format!("{}; stat -c %i $cgroup", make_cgroup(cgroup)));
    let inode: u64 = path.lines().last().and_then(|line| line.trim().parse().ok()).expect("an inode");
    let found = host
        .cgroups()
        .expect("cgroup v2")
        .into_iter()
        .find(|path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("a cgroup")) == inode);
    let directory = std::fs::File::open(found.expect("the cgroup")).expect("opened");
    HOOKS.into_iter().map(|hook| query(&directory, hook).expect("query a hook")).sum()
}

fn query(cgroup: &std::fs::File, hook: u32) -> io::Result<u32> {
    const BPF_PROG_QUERY: libc::c_int = 16;
    /// `union bpf_attr` of a query, without what follows the number of programs.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        cgroup: u32,
        hook: u32,
        flags: [u32; 2],
        ids: u64,
        count: u32,
        rest: [u32; 11],
    }
    let mut attr = Query { cgroup: cgroup.as_raw_fd() as u32, hook, ..Query::default() };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes `size` bytes of the structure, which contains no pointer.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(attr.count) }
}

#[test]
fn a_unit_is_counted_exactly_and_nothing_else_is() {
    let net = internet!();
    sh_in(&net.host, "web.service", "true");
    let before = net.host.state();
    let attached = net.host.attach(&["--unit", "web"]);
    assert_eq!(programs(&net.host, "web.service"), 2);
    sh_in(&net.host, "web.service", &udp(100));
    sh_in(&net.host, "web.service/worker", &udp(50));
    // Another program of the machine, and one whose cgroup only begins alike.
    net.host.sh(&udp(20));
    sh_in(&net.host, "web.service2", &udp(20));
    interrupt(&attached);
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 150);
    assert_eq!(report::list(document, "flows").len(), 2, "{run}");
    for flow in report::flows(document, "udp", APP_V4, ECHO) {
        assert_eq!(user_names(document, flow), ["traffic"], "{run}");
    }
    assert_eq!(report::text(document, "balance.state"), "not_applicable");
    assert_eq!(report::text(document, "interface.name"), "cgroup:/web.service");
    assert!(notes(document).contains("metered: the sockets of cgroup /web.service"), "{run}");
    assert_eq!(programs(&net.host, "web.service"), 0);
    net.host.sh(&format!("{}; rmdir $cgroup", make_cgroup("web.service2")));
    net.host.sh(&format!("{}; rmdir $cgroup", make_cgroup("web.service/worker")));
    net.host.assert_nothing_left(&before);
}

/// Both ends in the cgroup, only the server, and only the client.
#[test]
fn packets_on_the_loopback_count_once() {
    let net = internet!();
    sh_in(&net.host, "web.service", "true");
    let served = format!("{TRAFFIC} serve-udp 127.0.0.1:{ECHO}");
    let wait = "until grep -q :0007 /proc/net/udp; do sleep 0.01; done";
    let asked = format!("{TRAFFIC} udp 127.0.0.1:{ECHO} 1 200");
    let scenes: [(&str, &dyn Fn()); 3] = [
        ("both", &|| sh_in(&net.host, "web.service", &format!("{served} & {wait}; {asked}; wait"))),
        ("the server", &|| {
            let mut server = start_in(&net.host, "web.service", &format!("exec {served}"));
            net.host.sh(&format!("{wait}; {asked}"));
            assert!(server.wait().expect("waited").success());
        }),
        ("the client", &|| {
            let mut server = start_in(&net.host, "other", &format!("exec {served}"));
            sh_in(&net.host, "web.service", &format!("{wait}; {asked}"));
            assert!(server.wait().expect("waited").success());
        }),
    ];
    for (ends, exchange) in scenes {
        let attached = net.host.attach(&["--cgroup", "/web.service"]);
        exchange();
        interrupt(&attached);
        let run = attached.finish();
        let document = run.assert_ok().report();
        for direction in report::DIRECTIONS {
            let counted = |unit| report::number(document, &format!("loopback.totals.{direction}.{unit}"));
            assert_eq!((counted("packets"), counted("bytes")), (1, PACKET), "{direction} of {ends}: {run}");
        }
        assert!(report::list(document, "flows").is_empty(), "{run}");
    }
}

/// The counters of a firewall at the same place count the same buffers, before segmentation.
#[test]
fn segments_are_counted_as_the_firewall_does() {
    let net = internet!();
    sh_in(&net.host, "web.service", "true");
    net.host.sh(&format!(
        "nft 'table inet counts {{
            chain out {{ type filter hook postrouting priority 300; tcp dport {SOURCE} counter name sent; }}
            chain in {{ type filter hook input priority 300; tcp sport {SOURCE} counter name got; }}
            counter sent {{}}; counter got {{}}
        }}'"
    ));
    let attached = net.host.attach(&["--unit", "web.service"]);
    // The server closes first, so that the socket receives the last packet.
    sh_in(&net.host, "web.service", &format!("{TRAFFIC} fetch {APP_V4}:{SOURCE}"));
    let counted = |name: &str| {
        let text = net.host.sh(&format!("nft -j list counter inet counts {name}"));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let counter = &value["nftables"][1]["counter"];
        (counter["packets"].as_i64().expect("a number"), counter["bytes"].as_i64().expect("a number"))
    };
    // The last acknowledgment.
    net.host.wait_for("! ss -Htan | grep -q :9001");
    let expected = [counted("sent"), counted("got")];
    interrupt(&attached);
    let run = attached.finish();
    let endpoint = report::endpoint(run.assert_ok().report(), "tcp", APP_V4, SOURCE);
    let of = |direction| ["skbs", "bytes"].map(|unit| report::number(endpoint, &format!("{direction}.{unit}")));
    let [sent, got] = report::DIRECTIONS.map(of);
    assert_eq!([(sent[0], sent[1]), (got[0], got[1])], expected, "{run}");
    // Each packet on the wire has 52 bytes of headers, those of the handshake 60.
    let wire = |unit| report::number(endpoint, &format!("ingress.{unit}"));
    assert_eq!(wire("wire_bytes"), SOURCE_BYTES as i64 + 52 * wire("packets") + 8, "{run}");
    assert!(wire("packets") >= SOURCE_BYTES as i64 / 1448, "{run}");
}

#[test]
fn nothing_stays_attached_to_a_cgroup_when_netwatch_is_killed() {
    let net = internet!();
    sh_in(&net.host, "web.service", "true");
    let attached = net.host.attach(&["--unit", "web"]);
    assert_eq!(programs(&net.host, "web.service"), 2);
    attached.signal(libc::SIGKILL);
    attached.finish();
    wait_until(|| programs(&net.host, "web.service") == 0, || "the programs are detached".to_owned());
    sh_in(&net.host, "web.service", &udp(10));
    assert!(net.host.netwatch(&["clean"]).assert_ok().stderr.contains("cleaned up after 1 run"));
}

/// A process in the network namespace of netwatch, with a connection that is open already, ends the
/// session.
#[test]
fn a_process_is_metered_by_its_cgroup() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!(
        "exec bash -c 'exec 3<>/dev/tcp/{APP_V4}/{ECHO}; echo open >connected
            until [ -e {} ]; do sleep 0.02 3>&-; done; echo hello >&3; read -r line <&3; exec 3>&-; {}; read -r line <end'",
        gate.path(),
        udp(10)
    );
    net.host.sh("mkfifo end");
    let mut process = start_in(&net.host, "job.scope", &script);
    net.host.wait_for("[ -s connected ]");
    let attached = net.host.attach(&["-p", &process.id().to_string()]);
    gate.open();
    net.host.sh("echo over > end");
    process.wait().expect("waited");
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 10);
    let open = report::flows(document, "tcp", APP_V4, ECHO);
    assert_eq!(open.len(), 1, "{run}");
    assert_eq!(open[0]["started_before"], true, "{run}");
    assert!(user_names(document, open[0]).contains(&"bash"), "{run}");
    assert_eq!(report::text(document, "run.ended_by"), "command", "{run}");
    assert!(notes(document).contains("has ended"), "{run}");
}

/// A socket belongs to the cgroup in which it was created.
#[test]
fn sockets_of_another_cgroup_are_noted() {
    let net = internet!();
    let script = format!(
        "exec 3<>/dev/tcp/{APP_V4}/{ECHO}; {}; echo 0 > $cgroup/cgroup.procs; echo moved >moved; read -r line <end",
        make_cgroup("late.scope")
    );
    net.host.sh("mkfifo end");
    let mut process = net.host.command("bash").args(["-euc", &script]).spawn().expect("start bash");
    net.host.wait_for("[ -s moved ]");
    let attached = net.host.attach(&["--cgroup", "/late.scope"]);
    interrupt(&attached);
    let run = attached.finish();
    assert!(
        notes(run.assert_ok().report()).contains("1 socket of its processes was created in another cgroup"),
        "{run}"
    );
    net.host.sh("echo over > end");
    process.wait().expect("waited");
}

/// A stopped server has not accepted the connection when netwatch attaches.
#[test]
fn a_connection_that_waits_to_be_accepted_is_metered() {
    let net = internet!();
    let gate = net.host.gate();
    let mut server = start_in(&net.host, "session.scope", &format!("exec {TRAFFIC} serve 127.0.0.1:81"));
    net.host.wait_for("grep -q ':0051 .* 0A ' /proc/net/tcp");
    let pid = server.id().to_string();
    net.host.sh(&format!("kill -STOP {pid}"));
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/81; echo open >connected
            until [ -e {} ]; do sleep 0.02 3>&-; done; echo hello >&3; read -r line <&3",
        gate.path()
    );
    let mut client = net.host.command("bash").args(["-euc", &script]).spawn().expect("start bash");
    net.host.wait_for("[ -s connected ]");
    let attached = net.host.attach(&["-p", &pid, "--pid-only"]);
    net.host.sh(&format!("kill -CONT {pid}"));
    gate.open();
    assert!(client.wait().expect("waited").success());
    assert!(server.wait().expect("waited").success());
    let run = attached.finish();
    let document = run.assert_ok().report();
    let [flow] = report::list(document, "loopback.flows") else { panic!("{run}") };
    assert_eq!(flow["started_before"], true, "{run}");
    // Both the word and its echo.
    for direction in report::DIRECTIONS {
        assert!(report::number(flow, &format!("{direction}.bytes")) > 6, "{run}");
    }
    assert!(user_names(document, flow).contains(&"traffic"), "{run}");
}

/// Other programs use the same cgroup, as in the session of a shell.
#[test]
fn only_the_sockets_of_a_process_are_metered() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!(
        "exec bash -c 'exec 3<>/dev/tcp/{APP_V4}/{ECHO}; {TRAFFIC} serve 127.0.0.1:81 3>&- & echo open >connected
            until [ -e {} ]; do sleep 0.02 3>&-; done; echo hello >&3; read -r line <&3; exec 3>&-
            {}; wait; read -r line <end'",
        gate.path(),
        udp(10)
    );
    net.host.sh("mkfifo end");
    let mut process = start_in(&net.host, "session.scope", &script);
    net.host.wait_for("[ -s connected ] && grep -q ':0051 .* 0A ' /proc/net/tcp");
    let mut other = start_in(&net.host, "session.scope", "exec sleep 300");
    let pid = process.id().to_string();
    wait_until(|| net.host.try_sh(&format!("[ $(cat /proc/{}/comm) = sleep ]", other.id())).0, || "sleep".to_owned());
    net.host.netwatch(&["attach", "-p", &pid]).assert_error(2, &["has another process", "--pid-only"]);
    let attached = net.host.attach(&["-p", &pid, "--pid-only"]);
    sh_in(&net.host, "session.scope", &udp(20));
    sh_in(&net.host, "session.scope", &format!("{TRAFFIC} send {APP_V4}:{SINK} 1000"));
    sh_in(&net.host, "session.scope", &format!("{TRAFFIC} send 127.0.0.1:81 1000"));
    gate.open();
    net.host.sh("echo over > end");
    process.wait().expect("waited");
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 10);
    assert_eq!(report::list(document, "flows").len(), 2, "{run}");
    let open = report::flows(document, "tcp", APP_V4, ECHO);
    assert_eq!(open[0]["started_before"], true, "{run}");
    assert!(user_names(document, open[0]).contains(&"bash"), "{run}");
    // The accepted connection of a socket that listened before.
    let accepted = report::list(document, "loopback.flows");
    assert_eq!(accepted.len(), 1, "{run}");
    assert!(report::number(&accepted[0], "egress.bytes") > 1000, "{run}");
    assert!(user_names(document, &accepted[0]).contains(&"traffic"), "{run}");
    other.kill().expect("killed");
    other.wait().expect("waited");
}
