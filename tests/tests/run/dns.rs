//! Names resolve as on the host, with every kind of resolver that a host can have.

use std::fs;
use std::process::{Child, Command};

use netwatch_tests::{FinishedRun, InternetShape, TestInternet, addresses::*, eventually, internet, needs, report};

/// A lookup by glibc, in both families.
const LOOKUP: &[&str] = &["sh", "-c", "getent ahostsv4 app.example | head -1; getent ahostsv6 app.example | head -1"];

/// A dnsmasq on the host itself; ends with the test.
struct LocalResolver(Child);

impl LocalResolver {
    fn start(net: &TestInternet, arguments: &[&str]) -> Self {
        let mut command: Command = net.host.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]);
        command.args(["--user=root", &format!("--server={DNS_V4}"), "--log-facility=/dev/null"]).args(arguments);
        let resolver = Self(command.spawn().expect("start dnsmasq"));
        net.host.wait_for("ss -Hlun 'sport = :53' | grep -q .");
        resolver
    }
}

impl Drop for LocalResolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resolv_conf(net: &TestInternet, text: &str) {
    fs::write(net.host.etc().join("resolv.conf"), text).expect("write resolv.conf");
}

#[track_caller]
fn assert_resolves(run: &FinishedRun) {
    run.assert_ok();
    assert!(run.stdout.contains(&APP_V4.to_string()) && run.stdout.contains(&APP_V6.to_string()), "{run}");
}

#[test]
fn names_resolve_through_every_kind_of_resolver() {
    let net = internet!();
    let table: [(&str, &[&str], &str); 4] = [
        ("on 127.0.0.53 only", &["--listen-address=127.0.0.53", "--bind-interfaces"], "nameserver 127.0.0.53\n"),
        ("on ::1 only", &["--listen-address=::1", "--bind-interfaces"], "nameserver ::1\n"),
        ("on 0.0.0.0:53", &[], "nameserver 127.0.0.1\n"),
        ("on 0.0.0.0:53, not the configured one", &[], "nameserver 203.0.113.53\n"),
    ];
    for (what, arguments, conf) in table {
        eprintln!("resolver {what}");
        let _resolver = LocalResolver::start(&net, arguments);
        resolv_conf(&net, conf);
        let before = net.host.state();
        assert_resolves(&net.host.watch(LOOKUP));
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn reports_contain_the_resolver_behind_the_gateway() {
    let net = internet!();
    let run = net.host.watch(LOOKUP);
    let real = format!("{DNS_V4}:53");
    let endpoints = report::list(run.assert_ok().report(), "endpoints").iter();
    let dns: Vec<_> = endpoints.filter(|endpoint| endpoint["port"] == 53).collect();
    assert!(!dns.is_empty() && dns.iter().all(|one| one["forwarded_to"][0] == real.as_str()), "{run}");
    assert!(run.stderr.contains(&DNS_V4.to_string()), "the summary too: {run}");
}

#[test]
fn queries_over_tcp_and_large_responses_are_forwarded() {
    let net = internet!();
    needs!("dig");
    let cases = [
        ("+tcp", APP, "A", 1),
        ("+notcp", APP, "AAAA", 1),
        ("+bufsize=4096", BIG, "TXT", 12),
        ("+noedns", BIG, "TXT", 12),
    ];
    for (flag, name, kind, answers) in cases {
        let run = net.host.watch(&["dig", flag, "+short", "+tries=1", name, kind]);
        assert_eq!(run.assert_ok().stdout.lines().count(), answers, "{flag}: {run}");
    }
    let run = net.host.watch(&["dig", "+tries=1", "missing.example"]);
    assert!(run.stdout.contains("NXDOMAIN"), "responses are forwarded unchanged: {run}");
}

#[test]
fn search_domains_and_options_are_kept() {
    let net = internet!();
    resolv_conf(&net, "search example\noptions ndots:2 timeout:1\nnameserver 203.0.113.53\n");
    let run = net.host.watch(&["sh", "-c", "cat /etc/resolv.conf; getent ahostsv4 app"]);
    for text in ["search example", "ndots:2", &APP_V4.to_string()] {
        assert!(run.stdout.contains(text), "{text}: {run}");
    }
    assert!(!run.stdout.contains("203.0.113.53\n"), "the gateway is the resolver: {run}");
}

#[test]
fn the_resolv_conf_of_the_host_is_unchanged_during_a_run() {
    let net = internet!();
    let before = fs::read_to_string(net.host.etc().join("resolv.conf")).unwrap();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    assert_eq!(net.host.sh("cat /etc/resolv.conf"), before);
}

#[test]
fn a_missing_resolv_conf_or_a_dangling_link_is_no_error() {
    let net = internet!();
    let conf = net.host.etc().join("resolv.conf");
    fs::remove_file(&conf).unwrap();
    for dangling in [false, true] {
        if dangling {
            std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", &conf).unwrap();
        }
        let before = net.host.state();
        net.host.watch(&["true"]).assert_ok();
        assert_resolves(&net.host.run(&["--dns", &DNS_V4.to_string()], LOOKUP));
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn another_resolver_can_be_chosen() {
    let net = internet!();
    resolv_conf(&net, "nameserver 198.51.100.99\n");
    for dns in [DNS_V4.to_string(), DNS_V6.to_string(), format!("{DNS_V4}:53")] {
        assert_resolves(&net.host.run(&["--dns", &dns], LOOKUP));
    }
}

#[test]
fn the_next_resolver_is_used_when_one_refuses() {
    let net = internet!(InternetShape::default());
    resolv_conf(&net, "nameserver 198.51.100.1\nnameserver 203.0.113.53\n");
    assert_resolves(&net.host.watch(LOOKUP));
}

#[test]
fn the_hosts_file_of_the_host_is_used() {
    let net = internet!();
    let hosts = net.host.etc().join("hosts");
    let text = fs::read_to_string(&hosts).unwrap_or_default();
    fs::write(&hosts, text + "203.0.113.10 in-hosts.example\n").unwrap();
    let run = net.host.watch(&["getent", "ahostsv4", "in-hosts.example"]);
    assert!(run.assert_ok().stdout.contains("203.0.113.10"), "{run}");
}

#[test]
fn nscd_and_resolved_are_not_used() {
    let net = internet!();
    let conf = net.host.etc().join("nsswitch.conf");
    fs::write(&conf, "passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n").unwrap();
    net.host.sh("mkdir -p /run/nscd /run/systemd/resolve; python3 -c '
import socket
for path in (\"/run/nscd/socket\", \"/run/systemd/resolve/io.systemd.Resolve\"):
    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
'");
    let script = "grep ^hosts /etc/nsswitch.conf; ls -d /run/nscd/socket /run/systemd/resolve/io.systemd.Resolve; getent ahostsv4 app.example";
    let run = net.host.watch(&["sh", "-c", script]);
    assert!(!run.stdout.contains("resolve [") && run.stdout.contains(&APP_V4.to_string()), "{run}");
    let connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/nscd/socket')";
    let run = net.host.watch(&["python3", "-c", connect]);
    assert_ne!(run.code, Some(0), "the socket of nscd is not reachable: {run}");
    assert!(net.host.sh("cat /etc/nsswitch.conf").contains("resolve"), "the file of the host is unchanged");
}

#[test]
fn queries_reach_the_server_from_the_address_of_the_host() {
    let net = internet!();
    assert_resolves(&net.host.watch(LOOKUP));
    eventually(|| net.dns_log().contains("query[A] app.example from 198.51.100.2").then_some(()).ok_or(net.dns_log()))
        .unwrap();
}

/// Lookups by 100 threads at once, with few descriptors for netwatch and the command. The last line
/// of the output is how many were answered.
const MANY_LOOKUPS: &str = "
import concurrent.futures, socket
def look_up(_):
    try:
        return len(socket.getaddrinfo('app.example', 80)) > 0
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(100) as pool:
    print(sum(pool.map(look_up, range(500))))
";

#[test]
fn every_thread_of_a_busy_program_receives_its_answer() {
    needs!("python3", "prlimit");
    let net = internet!();
    let run = net.host.watch(&["prlimit", "--nofile=1024:1024", "python3", "-c", MANY_LOOKUPS]);
    assert_eq!(run.assert_ok().stdout.trim(), "500", "{run}");
}

/// 1,500 queries from one socket, each for a name of its own, before the first response is read.
const BURST: &str = "
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE, else the answers overflow this socket
s.settimeout(10)
with open('/etc/resolv.conf') as conf:
    server = next(line.split()[1] for line in conf if line.startswith('nameserver') and '.' in line)
for number in range(1500):
    name = b''.join(bytes([len(part)]) + part for part in (b'n%d' % number, b'app', b'example'))
    s.sendto(struct.pack('>HHHHHH', number, 0x100, 1, 0, 0, 0) + name + b'\\0\\0\\1\\0\\1', (server, 53))
answered = set()
try:
    while len(answered) < 1500:
        answered.add(s.recv(512)[:2])
except TimeoutError:
    pass
print(len(answered))
";

#[test]
fn a_burst_of_queries_from_one_socket_is_answered() {
    needs!("python3");
    let net = internet!();
    let run = net.host.run(&["-u", "root"], &["python3", "-c", BURST]);
    assert_eq!(run.assert_ok().stdout.trim(), "1500", "{run}");
}

#[test]
fn the_forwarder_answers_no_program_of_the_host() {
    needs!("dig");
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("echo ready; {}; dig +short A app.example", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    let gateway = net.host.sh("sed -n 's/^nameserver //p' /run/netwatch/????????/resolv.conf");
    let (_, answer) = net.host.try_sh(&format!("dig +tcp +short +tries=1 @{} A app.example", gateway.trim()));
    assert!(!answer.contains(&APP_V4.to_string()), "{answer}");
    gate.open();
    let run = running.finish();
    assert_eq!(run.assert_ok().stdout, format!("ready\n{APP_V4}\n"), "{run}");
    assert!(run.report()["notes"].to_string().contains("from other programs of the host"), "{run}");
}
