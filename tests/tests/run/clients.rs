//! Real clients and unusual ways to send: each flow is attributed to its process by socket, and its
//! endpoint is named where a name exists.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use netwatch_tests::{
    FinishedRun, StartOptions, TestInternet, USER, USER_ID, addresses::*, internet, needs, report, skip,
};
use serde_json::Value;

use crate::TRAFFIC;

/// Debian's Python. A version manager's would be a script that starts another program.
const PYTHON: &str = "/usr/bin/python3";
const SENDERS: &str = env!("CARGO_BIN_EXE_senders");

/// The run of a client below a shell that prints the pid of the client.
struct ClientRun {
    run: FinishedRun,
    pid: i64,
}

/// Runs a client below a shell.
fn run_client(net: &TestInternet, command: &[&str]) -> ClientRun {
    let shell = ["sh", "-c", "\"$@\" >&2 & echo $!; wait $!", "sh"];
    let run = net.host.watch(&[&shell, command].concat());
    run.assert_ok();
    let pid = run.stdout.trim().parse().unwrap_or_else(|_| panic!("no pid: {run}"));
    ClientRun { run, pid }
}

impl ClientRun {
    fn flows(&self, protocol: &str, port: u16) -> Vec<&Value> {
        let flows = report::list(self.run.report(), "flows").iter();
        flows.filter(|flow| flow["protocol"] == protocol && flow["remote_port"] == port).collect()
    }

    /// There are flows of this protocol and port, and all of them are attributed to this client by
    /// their sockets.
    #[track_caller]
    fn assert_used(&self, exe: &str, protocol: &str, port: u16) -> &Self {
        let flows = self.flows(protocol, port);
        assert!(!flows.is_empty(), "no flow to {protocol} {port}: {}", self.run);
        flows.iter().for_each(|flow| assert_user(&self.run, flow, self.pid, exe));
        assert_all_by_socket(&self.run);
        self
    }

    /// The endpoint has this name, from this source.
    #[track_caller]
    fn assert_named(&self, protocol: &str, port: u16, name: &str, source: &str) -> &Self {
        let run = &self.run;
        let endpoints = report::list(run.report(), "endpoints").iter();
        let mut endpoints = endpoints.filter(|one| one["protocol"] == protocol && one["port"] == port);
        let endpoint = endpoints.next().unwrap_or_else(|| panic!("no endpoint {protocol} {port}: {run}"));
        assert_eq!((report::text(endpoint, "name"), report::text(endpoint, "name_source")), (name, source), "{run}");
        self
    }
}

/// The first process of a flow, which has the strongest evidence, is this one.
#[track_caller]
fn assert_user(run: &FinishedRun, flow: &Value, pid: i64, exe: &str) {
    let user = report::users(flow)[0];
    let process = report::process(run.report(), user.process);
    let found = (report::number(process, "pid"), user.evidence);
    assert_eq!(found, (pid, "socket"), "{flow:#} of {run}");
    let path = Path::new(report::text(process, "exe"));
    assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(exe), "{process:#} of {run}");
}

#[track_caller]
fn assert_all_by_socket(run: &FinishedRun) {
    let of = |evidence: &str| report::number(run.report(), &format!("attribution.flows.{evidence}"));
    let flows = report::list(run.report(), "flows").len() as i64;
    assert_eq!((of("socket"), of("tuple"), of("netns"), of("kernel")), (flows, 0, 0, 0), "{run}");
    for reason in ["events", "sockets", "exited", "unreadable", "unknown_records", "over_limit"] {
        assert_eq!(report::number(run.report(), &format!("attribution.lost.{reason}")), 0, "{reason}: {run}");
    }
}

#[test]
fn curl_by_each_version_of_http_it_has() {
    needs!("curl");
    let net = internet!();
    let plain = run_client(&net, &["curl", "-4s", "http://app.example/"]);
    plain.assert_used("curl", "tcp", 80).assert_named("tcp", 80, APP, "http");
    for (version, alpn) in [("--http1.1", "http/1.1"), ("--http2", "h2")] {
        for family in ["-4", "-6"] {
            let one = run_client(&net, &["curl", "-ks", family, version, "https://app.example/"]);
            one.assert_used("curl", "tcp", 443).assert_named("tcp", 443, APP, "sni");
            one.assert_used("curl", "udp", 53);
            let offered = &one.flows("tcp", 443)[0]["tls"]["alpn"];
            assert_eq!(offered[0], alpn, "{}", one.run);
            let is_v6 = report::text(one.flows("tcp", 443)[0], "remote").contains(':');
            assert_eq!(is_v6, family == "-6", "{}", one.run);
        }
    }
}

/// HTTP/3 by aioquic: `server ADDRESSES`, or `client NAME`.
const HTTP3: &str = r#"
import asyncio, os, ssl, sys
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
class Http3(QuicConnectionProtocol):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http, self.status = H3Connection(self._quic), asyncio.get_running_loop().create_future()
    def quic_event_received(self, event):
        for one in self.http.handle_event(event):
            if not isinstance(one, HeadersReceived): continue
            headers = dict(one.headers)
            if b':status' in headers: self.status.set_result(headers[b':status'])
            else: self.answer(one.stream_id)
    def answer(self, stream):
        self.http.send_headers(stream, [(b':status', b'204')], end_stream=True)
        self.transmit()
    async def get(self, name):
        pseudo = [(b':method', b'GET'), (b':scheme', b'https'), (b':authority', name), (b':path', b'/')]
        self.http.send_headers(self._quic.get_next_available_stream_id(), pseudo, end_stream=True)
        self.transmit()
        return await self.status
async def server(addresses):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain('certificate.pem', 'key.pem')
    for address in addresses: await serve(address, 443, configuration=configuration, create_protocol=Http3)
    print('listening', flush=True)
    await asyncio.Future()
async def client(name):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    keys = os.environ.get('SSLKEYLOGFILE')
    if keys: configuration.secrets_log_file = open(keys, 'a')
    async with connect(name, 443, configuration=configuration, create_protocol=Http3) as one:
        assert await one.get(name.encode()) == b'204'
asyncio.run(server(sys.argv[2:]) if sys.argv[1] == 'server' else client(sys.argv[2]))
"#;

/// The interpreter in the virtual environment of `cargo xtask setup`, if it has aioquic.
fn python_with_quic() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let python = target.join("venv/bin/python3");
    let done = Command::new(&python).args(["-c", "import aioquic"]).output();
    done.is_ok_and(|done| done.status.success()).then_some(python)
}

/// A server of HTTP/3, and its client.
pub(crate) struct Http3 {
    server: Child,
    python: String,
}

impl Http3 {
    /// Starts the server. `None`, and the reason is printed, without the packages of Python.
    pub(crate) fn start(net: &TestInternet) -> Option<Self> {
        let Some(python) = python_with_quic() else {
            skip("there is no Python with aioquic (`cargo xtask setup` makes it, with a network)");
            return None;
        };
        let python = python.to_str().expect("a plain name").to_owned();
        let mut server = net.inet.command(&python);
        server.args(["-c", HTTP3, "server", &APP_V4.to_string(), &APP_V6.to_string()]);
        let log = std::fs::File::create(net.inet.dir().join("http3")).expect("create a file");
        let server = server.stdout(log).spawn().expect("start the server");
        net.inet.wait_for("grep -q listening http3");
        Some(Self { server, python })
    }

    /// The words of the client.
    pub(crate) fn client(&self) -> [&str; 5] {
        [&self.python, "-c", HTTP3, "client", APP]
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).expect("end the server");
    }
}

#[test]
fn a_client_of_http_3() {
    let net = internet!();
    let Some(http3) = Http3::start(&net) else { return };
    let one = run_client(&net, &http3.client());
    one.assert_used("python3", "udp", 443).assert_named("udp", 443, APP, "quic");
    assert_eq!(report::text(one.flows("udp", 443)[0], "application"), "quic", "{}", one.run);
    assert_eq!(one.flows("udp", 443)[0]["tls"]["alpn"][0], "h3", "{}", one.run);
}

#[test]
fn s_client_and_netcat() {
    needs!("openssl", "nc");
    let net = internet!();
    let tls = run_client(&net, &["openssl", "s_client", "-connect", "app.example:443"]);
    tls.assert_used("openssl", "tcp", 443).assert_named("tcp", 443, APP, "sni");
    let plain = run_client(&net, &["sh", "-c", &format!("exec nc -d {APP} {SOURCE} > /dev/null")]);
    plain.assert_used("nc", "tcp", SOURCE).assert_named("tcp", SOURCE, APP, "dns");
    let datagram = run_client(&net, &["sh", "-c", &format!("exec nc -u -w1 {APP_V4} {ECHO} <<!\nhi\n!\n")]);
    datagram.assert_used("nc", "udp", ECHO);
}

#[test]
fn dig_by_datagrams_and_by_a_connection() {
    needs!("dig");
    let net = internet!();
    for (how, protocol) in [("+notcp", "udp"), ("+tcp", "tcp")] {
        let one = run_client(&net, &["dig", "+short", how, APP, "AAAA"]);
        one.assert_used("dig", protocol, 53);
        let lookup = &report::list(one.run.report(), "dns.lookups")[0];
        assert_eq!((&lookup["name"], &lookup["type"]), (&APP.into(), &"AAAA".into()), "{}", one.run);
    }
}

#[test]
fn ping_by_both_families() {
    needs!("ping");
    let net = internet!();
    for (family, protocol) in [("-4", "icmp"), ("-6", "icmpv6")] {
        let one = run_client(&net, &["ping", family, "-n", "-c1", APP]);
        one.assert_used("ping", protocol, 0).assert_named(protocol, 0, APP, "dns");
    }
}

#[test]
fn the_http_client_of_python() {
    needs!(PYTHON);
    let net = internet!();
    let script = "import urllib.request as u; u.urlopen('http://app.example/').read()";
    let one = run_client(&net, &[PYTHON, "-c", script]);
    // The name of the executable is that of the link in /usr/bin that was executed.
    one.assert_used("python3", "tcp", 80).assert_named("tcp", 80, APP, "http");
}

#[test]
fn a_process_started_by_sudo_is_reported_with_its_new_user() {
    needs!("sudo");
    let net = internet!();
    net.host
        .sh(&format!("echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/tester; chmod 440 /etc/sudoers.d/tester"));
    // The user becomes root by a set-uid program, and root becomes the user.
    for (caller, to, uid) in [(USER, "root", 0), ("root", USER, USER_ID)] {
        let command = format!("echo $$; exec {TRAFFIC} fetch {APP_V4}:{SOURCE}");
        let run = net.host.run(&["--user", caller], &["sudo", "-n", "-u", to, "sh", "-c", &command]);
        let pid = run.assert_ok().stdout.lines().next().expect("its pid").parse().expect("a number");
        assert_user(&run, report::flows(run.report(), "tcp", APP_V4, SOURCE)[0], pid, "traffic");
        let list = report::list(run.report(), "processes");
        let one = list.iter().find(|process| process["pid"] == pid && process["comm"] == "traffic").expect("listed");
        assert_eq!(report::number(one, "uid"), i64::from(uid), "{run}");
        let above = report::process(run.report(), report::number(one, "parent"));
        assert_eq!(report::text(above, "comm"), "sudo", "{run}");
        assert_all_by_socket(&run);
    }
}

#[test]
fn a_loop_of_a_thousand_short_lived_clients() {
    let net = internet!();
    let script =
        format!("i=0; while [ $i -lt 1000 ]; do {TRAFFIC} send {APP_V4}:{SINK} 1 & echo $!; wait; i=$((i+1)); done");
    let options = StartOptions { limit: Duration::from_secs(300), ..StartOptions::default() };
    let run = net.host.run_with(options, &[], &["sh", "-c", &script]);
    let flows = report::flows(run.assert_ok().report(), "tcp", APP_V4, SINK);
    assert_eq!(flows.len(), 1000, "one flow per client: {run}");
    let mut printed: Vec<i64> = run.stdout.lines().map(|pid| pid.parse().expect("a pid")).collect();
    let mut found = Vec::new();
    for flow in flows {
        let pids = report::user_pids(run.report(), flow);
        assert_eq!(pids.len(), 1, "{flow:#}");
        found.push(pids[0]);
        assert_user(&run, flow, found[found.len() - 1], "traffic");
    }
    printed.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, printed);
    assert_all_by_socket(&run);
}

/// Five connections, each served by a child that prints its pid and the port of the client.
const FORKING: &str = "
import os, socket
server = socket.create_server(('0.0.0.0', 80))
print('listening', flush=True)
for _ in range(5):
    peer, (_, port) = server.accept()
    if os.fork() == 0:
        peer.sendall(peer.recv(100))
        print(os.getpid(), port, flush=True)
        os._exit(0)
    peer.close()
for _ in range(5): os.wait()
";

#[test]
fn each_child_of_a_forking_server_is_attributed_the_flow_that_it_served() {
    needs!(PYTHON, "socat");
    let net = internet!();
    let mut running = net.host.start(&["--publish", "8080:80"], &[PYTHON, "-c", FORKING]);
    running.wait_for_stdout("listening");
    for _ in 0..5 {
        assert_eq!(net.inet.sh(&format!("printf hi | socat -t60 - TCP4:{HOST_V4}:8080")), "hi");
    }
    let run = running.finish();
    let flows = report::list(run.assert_ok().report(), "flows");
    let served = run.stdout.lines().skip(1).map(|line| line.split_once(' ').expect("two numbers"));
    let served: Vec<_> = served.collect();
    assert_eq!((served.len(), flows.len()), (5, 5), "{run}");
    for (pid, port) in served {
        let port: u16 = port.parse().expect("a port");
        let flow = flows.iter().find(|flow| flow["remote_port"] == port).expect("the client's flow");
        assert_user(&run, flow, pid.parse().expect("a pid"), "python3");
    }
    assert_all_by_socket(&run);
}

/// A server that serves one connection, closes its port and keeps running.
const ONCE: &str = "
import os, socket, sys, time
server = socket.create_server(('0.0.0.0', 80))
print('listening', flush=True)
peer, _ = server.accept()
peer.sendall(peer.recv(100))
peer.close()
server.close()
# The end of a socket and packets are compared by time, and the time of a packet is that of the
# kernel's last tick, at most 10 ms ago (CONFIG_HZ=100). The next packet has to be later than the
# end of the socket; no event follows a tick.
time.sleep(0.1)
print('closed', flush=True)
while not os.path.exists(sys.argv[1]): time.sleep(0.02)
";

#[test]
fn a_packet_after_the_port_was_closed_is_attributed_to_no_process() {
    needs!(PYTHON, "socat");
    let net = internet!();
    let gate = net.host.gate();
    let mut running = net.host.start(&["--publish", "8080:80"], &[PYTHON, "-c", ONCE, gate.path()]);
    running.wait_for_stdout("listening");
    let connect = format!("printf hi | socat -t60 - TCP4:{HOST_V4}:8080");
    assert_eq!(net.inet.sh(&connect), "hi");
    running.wait_for_stdout("closed");
    assert!(!net.inet.try_sh(&connect).0, "refused");
    gate.open();
    let run = running.finish();
    let flows = report::list(run.assert_ok().report(), "flows");
    let [served, refused] = flows else { panic!("two flows: {run}") };
    assert_user(&run, served, report::number(run.report(), "run.pid"), "python3");
    assert!(refused.get("processes").is_none() && report::number(refused, "refused") == 1, "{run}");
}

#[test]
fn a_flow_is_attributed_to_a_daemon_after_the_end_of_its_parents() {
    let net = internet!();
    let daemon = format!("echo $$; exec {TRAFFIC} fetch {APP_V4}:{SOURCE}");
    let run = net.host.run(&["--linger"], &[TRAFFIC, "daemon", "100", "sh", "-c", &daemon]);
    let pid = run.assert_ok().stdout.lines().next().expect("its number").parse().expect("a number");
    assert_ne!(report::number(run.report(), "run.pid"), pid, "{run}");
    assert_user(&run, report::flows(run.report(), "tcp", APP_V4, SOURCE)[0], pid, "traffic");
    assert_all_by_socket(&run);
}

/// netwatch is stopped, as on an overloaded machine. The event of a closed socket contains its
/// port, which identifies the process of its flow.
#[test]
fn flows_whose_announcement_was_lost_are_attributed_by_the_port_of_their_socket() {
    const COUNT: usize = 8_000;
    let net = internet!();
    // Dropped there, so that no ICMP error comes back.
    net.inet.sh(&format!("nft add rule inet silence input ip daddr {APP_V4} udp dport '>= 20000' drop"));
    let spray = format!("{SENDERS} spray {APP_V4}:20000 {COUNT}");
    let gate = net.host.gate();
    let script = format!("echo ready; {}; {spray} & echo pid $!; wait; echo over", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGSTOP);
    gate.open();
    running.wait_for_stdout("over");
    running.signal(libc::SIGCONT);
    let run = running.finish();
    let pid: i64 =
        run.assert_ok().stdout.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).expect("a pid");
    let flows = report::list(run.report(), "flows");
    let of = |path: &str| report::number(run.report(), path);
    assert!(flows.len() == COUNT && of("lost.new_flows") > 0, "{} flows, {}", flows.len(), of("lost.new_flows"));
    for flow in flows {
        assert_eq!(report::user_pids(run.report(), flow), [pid], "{flow:#}");
    }
    assert_eq!((of("attribution.flows.tuple"), of("attribution.flows.netns")), (of("lost.new_flows"), 0));
}

/// A statically linked client, without the resolver of the C library. Returns its path.
fn static_client(dir: &Path) -> String {
    let program = dir.join("own_resolver").to_str().expect("a plain name").to_owned();
    // The compiler that built the tests, beside their cargo.
    let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
    rustc.args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o", &program]);
    rustc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/own_resolver.rs"));
    let done = rustc.output().expect("start rustc");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let bytes = std::fs::read(&program).expect("read the program");
    assert!(!bytes.windows(9).any(|some| some == b"/ld-linux"), "it needs a dynamic linker");
    program
}

#[test]
fn a_static_program_with_a_resolver_of_its_own() {
    let net = internet!();
    let program = static_client(net.host.dir());
    let one = run_client(&net, &[&program, APP, &SOURCE.to_string()]);
    one.assert_used("own_resolver", "udp", 53).assert_used("own_resolver", "tcp", SOURCE);
    one.assert_named("tcp", SOURCE, APP, "dns");
}

#[test]
fn sendmmsg_sendfile_and_splice() {
    let net = internet!();
    for address in [APP_V4.to_string(), format!("[{APP_V6}]")] {
        let many = run_client(&net, &[SENDERS, "sendmmsg", &format!("{address}:{ECHO}"), "20", "100"]);
        many.assert_used("senders", "udp", ECHO);
        assert_eq!(report::number(many.flows("udp", ECHO)[0], "egress.packets"), 20, "{}", many.run);
        for how in ["sendfile", "splice"] {
            let one = run_client(&net, &[SENDERS, how, &format!("{address}:{SINK}"), "100000"]);
            one.assert_used("senders", "tcp", SINK);
        }
    }
    assert_eq!(net.sunk(), [100_000; 4]);
}

#[test]
fn io_uring_in_each_of_its_modes() {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if disabled.is_ok_and(|value| value.trim() != "0") {
        return skip("io_uring is disabled (sysctl kernel.io_uring_disabled)");
    }
    let net = internet!();
    for how in ["io_uring", "io_uring-workers", "io_uring-polled"] {
        for address in [APP_V4.to_string(), format!("[{APP_V6}]")] {
            let one = run_client(&net, &[SENDERS, how, &format!("{address}:{SINK}"), "10000"]);
            one.assert_used("senders", "tcp", SINK);
        }
    }
    assert_eq!(net.sunk(), [10_000; 6]);
}

/// A socket that a child inherits as its standard output.
const INHERITED: &str = "
import socket, subprocess, sys
made = socket.create_connection((sys.argv[1], int(sys.argv[2])))
child = subprocess.Popen(['head', '-c', '1000', '/dev/zero'], stdout=made)
print(child.pid)
made.close()
child.wait()
";

#[test]
fn an_inherited_socket_is_attributed_to_its_user_and_its_maker() {
    needs!(PYTHON);
    let net = internet!();
    let run = net.host.watch(&[PYTHON, "-c", INHERITED, &APP_V4.to_string(), &SINK.to_string()]);
    let flow = report::flows(run.assert_ok().report(), "tcp", APP_V4, SINK)[0];
    assert_user(&run, flow, run.stdout.trim().parse().expect("a pid"), "head");
    let users = report::users(flow);
    assert_eq!((users[0].inherited, users[1].inherited), (true, false), "{run}");
    let creator = report::process(run.report(), users[1].process);
    assert_eq!((users.len(), &creator["pid"]), (2, report::value(run.report(), "run.pid")), "{run}");
    assert_all_by_socket(&run);
}
