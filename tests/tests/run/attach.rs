//! `netwatch attach`: a network namespace and interfaces that netwatch did not create.

use std::io;

use netwatch_tests::{
    RunningNetwatch, TestHost, TestInternet, TestNamespace, addresses::*, internet, report, wait_until,
};

use crate::TRAFFIC;

/// The ends of the link between the host and the client.
const GATEWAY: &str = "203.0.113.129";
const CLIENT: &str = "203.0.113.130";
/// Bytes of a frame that carries a UDP payload of 200 bytes over IPv4.
const FRAME: i64 = 14 + 20 + 8 + 200;

/// A namespace whose link to the host has the ends `web0` and `eth0`, and which reaches the
/// internet.
pub(crate) fn client(net: &TestInternet) -> TestNamespace {
    let client = TestNamespace::new("client");
    net.host.sh(&format!(
        "ip link add web0 type veth peer name eth0 netns {}; ip link set web0 addrgenmode none
        ip addr add {GATEWAY}/30 dev web0; ip link set web0 up
        echo 1 > /proc/sys/net/ipv4/ip_forward",
        client.pid()
    ));
    client.sh(&format!(
        "ip link set lo up; ip link set eth0 addrgenmode none; ip addr add {CLIENT}/30 dev eth0; ip link set eth0 up
        ip route add default via {GATEWAY}"
    ));
    net.inet.sh(&format!("ip route add 203.0.113.128/29 via {HOST_V4}"));
    client.wait_for("ip link show dev eth0 | grep -q 'state UP'");
    client
}

pub(crate) fn netns(client: &TestNamespace) -> String {
    format!("/proc/{}/ns/net", client.pid())
}

/// Sends 100 datagrams of 200 bytes and receives the same.
pub(crate) fn echo(client: &TestNamespace) {
    client.sh(&format!("{TRAFFIC} udp {APP_V4}:{ECHO} 100 200"));
}

pub(crate) fn assert_echo(document: &serde_json::Value, times: i64) {
    let endpoint = report::endpoint(document, "udp", APP_V4, ECHO);
    report::DIRECTIONS
        .into_iter()
        .for_each(|direction| report::assert_packets(endpoint, direction, 100 * times, FRAME));
}

/// Number of programs at the hooks of an interface of the host.
pub(crate) fn programs(host: &TestHost, interface: &str) -> u32 {
    let index = host.sh(&format!("cat /sys/class/net/{interface}/ifindex"));
    let index = index.trim().parse().expect("an index");
    host.inside(move || tcx_programs(index)).join().expect("counted")
}

/// Number of programs at both tcx hooks of an interface in the network namespace of the calling
/// thread.
fn tcx_programs(ifindex: u32) -> u32 {
    /// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
    const HOOKS: [u32; 2] = [46, 47];
    HOOKS.into_iter().map(|hook| query(ifindex, hook).expect("query a tcx hook")).sum()
}

fn query(ifindex: u32, hook: u32) -> io::Result<u32> {
    const BPF_PROG_QUERY: libc::c_int = 16;
    /// `union bpf_attr` of a query, without what follows the number of programs.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        ifindex: u32,
        hook: u32,
        flags: [u32; 2],
        ids: u64,
        count: u32,
        rest: [u32; 11],
    }
    let mut attr = Query { ifindex, hook, ..Query::default() };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes `size` bytes of the structure, which contains no pointer.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut attr, size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(attr.count) }
}

fn notes(document: &serde_json::Value) -> String {
    report::list(document, "notes").iter().filter_map(|note| note.as_str()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn interrupt(attached: &RunningNetwatch) {
    attached.signal(libc::SIGINT);
}

#[test]
fn a_namespace_is_counted_exactly_and_not_changed() {
    let net = internet!();
    let client = client(&net);
    net.host.netwatch(&["attach", "-q", "-i", "lo", "--duration", "1ms"]).assert_ok();
    let scene = |of: &TestNamespace| {
        of.sh("ip -4 addr; ip -4 route; ip rule; nft list ruleset; cat /proc/sys/net/ipv4/conf/*/forwarding")
    };
    let (before, inside, outside) = (net.host.state(), scene(&client), scene(&net.host));
    let attached = net.host.attach(&["-N", &netns(&client)]);
    assert!(attached.stderr().contains("web0 (the other end of eth0 in /proc/"), "{}", attached.stderr());
    assert_eq!(programs(&net.host, "web0"), 2);
    assert_eq!((scene(&client), scene(&net.host)), (inside, outside), "while it is attached");
    let listed = net.host.netwatch(&["list"]);
    assert!(listed.assert_ok().stdout.contains("web0 ") && listed.stdout.contains("attach -N /proc/"), "{listed}");
    echo(&client);
    client.sh(&format!(
        "{TRAFFIC} serve-udp 127.0.0.1:{ECHO} & until grep -q :0007 /proc/net/udp; do sleep 0.01; done
        {TRAFFIC} udp 127.0.0.1:{ECHO} 1 200; wait"
    ));
    interrupt(&attached);
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 1);
    assert_eq!(report::number(document, "loopback.totals.egress.packets"), 1, "{run}");
    assert_eq!(report::number(document, "loopback.totals.ingress.packets"), 1, "{run}");
    assert_eq!(report::text(document, "run.ended_by"), "signal");
    assert_eq!(report::text(document, "interface.name"), "web0");
    assert_eq!(report::list(document, "interface.local_addresses")[0], CLIENT);
    assert!(notes(document).contains("metered: lo in /proc/"), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn nothing_stays_attached_when_netwatch_is_killed() {
    let net = internet!();
    let client = client(&net);
    let attached = net.host.attach(&["-N", &netns(&client)]);
    assert_eq!(programs(&net.host, "web0"), 2);
    attached.signal(libc::SIGKILL);
    attached.finish();
    wait_until(|| programs(&net.host, "web0") == 0, || "the programs are detached".to_owned());
    let index = 1;
    let inside = client.inside(move || tcx_programs(index)).join().expect("counted");
    assert_eq!(inside, 0, "programs at the loopback of the namespace");
    echo(&client);
    assert!(net.host.netwatch(&["clean"]).assert_ok().stderr.contains("cleaned up after 1 run"));
}

#[test]
fn interfaces_that_come_and_go_are_followed() {
    let net = internet!();
    let client = client(&net);
    let attached = net.host.attach(&["-N", &netns(&client)]);
    echo(&client);
    net.host.sh(&format!("ip link add web1 type veth peer name eth1 netns {}", client.pid()));
    wait_until(|| programs(&net.host, "web1") == 2, || format!("attached to web1: {}", attached.stderr()));
    // The way to the server is the new link now.
    net.host.sh("ip addr add 203.0.113.133/30 dev web1; ip link set web1 up");
    client.sh("ip addr add 203.0.113.134/30 dev eth1; ip link set eth1 up");
    client.wait_for("ip link show dev eth1 | grep -q 'state UP'");
    client.sh(&format!("ip route add {APP_V4} via 203.0.113.133 src {CLIENT}"));
    net.host.sh(&format!("ip route replace {CLIENT} via 203.0.113.134"));
    echo(&client);
    assert!(client.sh("cat /sys/class/net/eth1/statistics/tx_packets").trim().parse::<u32>().expect("a number") >= 100);
    net.host.sh("ip link del web1");
    client.wait_for("! ip link show dev eth1 2>/dev/null");
    echo(&client);
    interrupt(&attached);
    let run = attached.finish_without_interface();
    let document = run.assert_ok().report();
    assert_echo(document, 3);
    let notes = notes(document);
    assert!(notes.contains("web1 (the other end of eth1 in /proc/"), "{run}");
    assert!(notes.contains("before its first packet") && notes.contains("disappeared"), "{run}");
}

/// A macvlan has no other end on the host, and neither has an interface that was moved.
#[test]
fn interfaces_without_another_end_are_metered_inside() {
    let net = internet!();
    let client = TestNamespace::new("client");
    net.host
        .sh(&format!("ip link add mac0 link uplink type macvlan mode bridge; ip link set mac0 netns {}", client.pid()));
    client.sh(&format!(
        "ip addr add 198.51.100.77/24 dev mac0; ip link set mac0 up; ip route add default via {ROUTER_V4}"
    ));
    let attached = net.host.attach(&["-N", &netns(&client), "--events=json"]);
    assert!(attached.stderr().contains("mac0 in /proc/"), "{}", attached.stderr());
    echo(&client);
    attached.signal(libc::SIGTERM);
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 1);
    assert_eq!(report::text(document, "interface.name"), "mac0");
    assert!(run.stderr.contains("\"event\""), "{run}");
}

/// The names of the processes of a flow.
fn user_names<'r>(document: &'r serde_json::Value, flow: &serde_json::Value) -> Vec<&'r str> {
    let users = report::users(flow).into_iter();
    users.map(|user| report::text(report::process(document, user.process), "comm")).collect()
}

/// Processes of another cgroup than that of netwatch, whose root the namespace of the test hides,
/// are not followed: these are started by the host.
#[test]
fn processes_in_a_namespace_have_names() {
    let net = internet!();
    let client = client(&net);
    let inside = format!("nsenter --net=/proc/{}/ns/net", client.pid());
    let attached = net.host.attach(&["-N", &netns(&client)]);
    net.host.sh(&format!("{inside} {TRAFFIC} send {APP_V4}:{SINK} 1000; {TRAFFIC} send {APP_V4}:{SINK} 500"));
    net.host.sh(&format!("{inside} {TRAFFIC} udp {APP_V4}:{ECHO} 100 200"));
    interrupt(&attached);
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_echo(document, 1);
    for (protocol, port) in [("tcp", SINK), ("udp", ECHO)] {
        let flows = report::flows(document, protocol, APP_V4, port);
        assert_eq!(flows.len(), 1, "the host's own connection is not counted: {run}");
        assert_eq!(user_names(document, flows[0]), ["traffic"], "{run}");
    }
    assert!(!notes(document).contains("another network namespace"), "{run}");
    assert!(report::list(document, "local_sockets").is_empty(), "{run}");
}

/// A connection that is open when netwatch attaches, and one that begins afterwards.
#[test]
fn a_connection_that_was_open_is_marked() {
    let net = internet!();
    let client = client(&net);
    let gate = net.host.gate();
    let script = format!(
        "exec 3<>/dev/tcp/{APP_V4}/{ECHO}; echo open >connected; until [ -e {} ]; do sleep 0.02 3>&-; done; echo hello >&3; read -r line <&3",
        gate.path()
    );
    let mut open = client.command("bash").args(["-c", &script]).spawn().expect("start bash");
    client.wait_for("[ -s connected ]");
    let attached = net.host.attach(&["-N", &netns(&client)]);
    gate.open();
    assert!(open.wait().expect("waited").success());
    client.sh(&format!("{TRAFFIC} send {APP_V4}:{SINK} 1000"));
    interrupt(&attached);
    let run = attached.finish();
    let of = |port| report::flows(run.assert_ok().report(), "tcp", APP_V4, port);
    let (before, after) = (of(ECHO), of(SINK));
    assert_eq!((before.len(), after.len()), (1, 1), "{run}");
    assert_eq!(before[0]["started_before"], true, "{run}");
    // A child that the shell has just forked may have the socket too.
    assert!(user_names(run.report(), before[0]).contains(&"bash"), "{run}");
    assert_eq!(report::number(before[0], "connections"), 0, "{run}");
    assert!(after[0].get("started_before").is_none(), "{run}");
    assert!(notes(run.report()).contains("1 connection started before netwatch attached"), "{run}");
}

#[test]
fn the_direction_is_that_of_the_target() {
    let net = internet!();
    let client = client(&net);
    for (flags, more) in [(&["-i", "web0", "--peer"][..], "ingress"), (&["-i", "web0"], "egress")] {
        let attached = net.host.attach(flags);
        client.sh(&format!("{TRAFFIC} fetch {APP_V4}:{SOURCE}"));
        interrupt(&attached);
        let run = attached.finish();
        let bytes = report::number(run.assert_ok().report(), &format!("totals.{more}.bytes"));
        assert!(bytes > SOURCE_BYTES as i64, "{flags:?}: {run}");
    }
}

#[test]
fn several_targets_are_metered_at_once_and_recorded() {
    let net = internet!();
    let client = client(&net);
    let attached = net.host.attach(&["-N", &netns(&client), "-i", "lo", "--record", "attached.netwatch"]);
    echo(&client);
    interrupt(&attached);
    let run = attached.finish();
    assert_echo(run.assert_ok().report(), 1);
    assert!(notes(run.report()).contains("metered: lo, lo in /proc/"), "{run}");
    let read = net.host.netwatch(&["report", "--format", "json", "attached.netwatch"]);
    let recorded: serde_json::Value = serde_json::from_str(&read.assert_ok().stdout).expect("JSON");
    assert_echo(&recorded, 1);
    let summary = net.host.netwatch(&["report", "attached.netwatch"]);
    let first = summary.assert_ok().stdout.lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("netwatch attach -N /proc/"), "{summary}");
    assert!(summary.stdout.contains("attached for") && summary.stdout.contains("(received SIGINT)"), "{summary}");
}

#[test]
fn the_end_of_a_namespace_ends_the_session() {
    let net = internet!();
    net.host.sh("ip netns add web");
    let attached = net.host.attach(&["-N", "web"]);
    net.host.sh("ip netns del web");
    let run = attached.finish();
    let document = run.assert_ok().report();
    assert_eq!(report::text(document, "run.ended_by"), "command");
    assert!(notes(document).contains("web has ended"), "{run}");
}

#[test]
fn the_namespace_of_a_process_ends_with_it() {
    let net = internet!();
    let mut process = net.host.command("unshare").args(["--net", "sleep", "300"]).spawn().expect("start unshare");
    let pid = process.id().to_string();
    // unshare has to have made the namespace.
    wait_until(|| net.host.try_sh(&format!("[ $(cat /proc/{pid}/comm) = sleep ]")).0, || "sleep runs".to_owned());
    let attached = net.host.attach(&["-p", &pid]);
    assert!(attached.stderr().contains(&format!("lo in process {pid}")), "{}", attached.stderr());
    process.kill().expect("killed");
    process.wait().expect("waited");
    let run = attached.finish();
    assert_eq!(report::text(run.assert_ok().report(), "run.ended_by"), "command", "{run}");
}

/// What an engine starts: a process in a cgroup with the id, and the state file with the name.
#[test]
fn a_container_is_found_by_its_name_and_its_id() {
    let net = internet!();
    let client = client(&net);
    let id = "0123456789abcdef".repeat(4);
    let script = format!(
        "mount=$(findmnt -n -l -t cgroup2 -o TARGET | head -n 1)
        mkdir $mount/libpod-{id}.scope; echo 0 > $mount/libpod-{id}.scope/cgroup.procs
        touch inside; exec nsenter --net=/proc/{}/ns/net sleep 300",
        client.pid()
    );
    let mut process = net.host.command("sh").args(["-euc", &script]).spawn().expect("start a shell");
    let pid = process.id();
    wait_until(|| net.host.try_sh(&format!("[ $(cat /proc/{pid}/comm) = sleep ]")).0, || "sleep runs".to_owned());
    // The monitor of podman, whose command line has the name.
    net.host.sh("echo 'until [ -e over ]; do sleep 0.05; done' > monitor");
    let conmon = format!("exec -a conmon sh monitor -c {id} -n shop");
    let mut monitor = net.host.command("bash").args(["-c", &conmon]).spawn().expect("start bash");
    for (name, times) in [(&id[..12], 1), ("shop", 2)] {
        let attached = net.host.attach(&["--container", name]);
        (0..times).for_each(|_| echo(&client));
        interrupt(&attached);
        let run = attached.finish();
        assert_echo(run.assert_ok().report(), times);
        assert!(notes(run.report()).contains(&format!("lo in container {name}")), "{run}");
    }
    net.host.sh("touch over");
    monitor.wait().expect("waited");
    process.kill().expect("killed");
    process.wait().expect("waited");
}

#[test]
fn thresholds_and_the_duration_end_with_their_codes() {
    let net = internet!();
    let attach =
        |flags: &[&str]| net.host.netwatch(&[&["attach", "-i", "uplink", "--duration", "10ms"], flags].concat());
    let run = attach(&[]);
    assert!(run.assert_ok().stderr.contains("attached for") && run.stderr.contains("(--duration)"), "{run}");
    attach(&["--fail-if", "failed < 1"]).assert_code(121);
    attach(&["--fail-if", "failed < 1", "--fail-code", "7"]).assert_code(7);
    attach(&["--fail-if", "failed > 0"]).assert_ok();
}

#[test]
fn targets_that_do_not_exist_are_errors() {
    let net = internet!();
    let attach = |flags: &[&str]| net.host.netwatch(&[&["attach"], flags].concat());
    attach(&["-i", "nothere"]).assert_error(2, &["attach to interface nothere"]);
    attach(&["-N", "nothere"]).assert_error(2, &["open network namespace nothere", "ENOENT"]);
    attach(&["-N", "/proc/self/ns/mnt"]).assert_error(2, &["no network namespace"]);
    attach(&["-N", "/proc/self/ns/net"]).assert_error(2, &["it uses the network namespace of netwatch", "-i"]);
    let own = net.host.pid().to_string();
    attach(&["-p", &own]).assert_error(2, &["attach to process", "its cgroup", "--cgroup"]);
    attach(&["--cgroup", "/nothere"]).assert_error(2, &["open cgroup /nothere: there is no such cgroup"]);
    attach(&["--unit", "nothere"]).assert_error(2, &["find unit nothere.service", "does not run"]);
    attach(&["--cgroup", "/", "-i", "lo"]).assert_error(2, &["either interfaces or cgroups"]);
    attach(&["-p", "4194304"]).assert_error(2, &["attach to process 4194304: there is no such process"]);
    attach(&["--container", "nothere"]).assert_error(2, &["find container nothere"]);
    attach(&["--duration", "1s"]).assert_code(2);
}
