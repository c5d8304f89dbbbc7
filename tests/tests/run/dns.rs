//! Names resolve as on the host, whatever the host's resolver looks like.

use std::fs;
use std::process::{Child, Command};

use netwatch_tests::{FinishedRun, InternetShape, TestInternet, addresses::*, eventually, internet, needs, report};

/// Looks a name up by glibc, in both families.
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
fn through_resolvers_of_every_kind() {
    let net = internet!();
    let table: [(&str, &[&str], &str); 4] = [
        ("on 127.0.0.53 only", &["--listen-address=127.0.0.53", "--bind-interfaces"], "nameserver 127.0.0.53\n"),
        ("on ::1 only", &["--listen-address=::1", "--bind-interfaces"], "nameserver ::1\n"),
        ("on 0.0.0.0:53", &[], "nameserver 127.0.0.1\n"),
        ("on 0.0.0.0:53, not the one asked", &[], "nameserver 203.0.113.53\n"),
    ];
    for (what, arguments, conf) in table {
        eprintln!("a resolver {what}");
        let _resolver = LocalResolver::start(&net, arguments);
        resolv_conf(&net, conf);
        let before = net.host.state();
        assert_resolves(&net.host.watch(LOOKUP));
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn reports_name_the_resolver_behind_the_gateway() {
    let net = internet!();
    let run = net.host.watch(LOOKUP);
    let real = format!("{DNS_V4}:53");
    let endpoints = report::list(run.assert_ok().report(), "endpoints").iter();
    let dns: Vec<_> = endpoints.filter(|endpoint| endpoint["port"] == 53).collect();
    assert!(!dns.is_empty() && dns.iter().all(|one| one["forwarded_to"][0] == real.as_str()), "{run}");
    assert!(run.stderr.contains(&DNS_V4.to_string()), "the summary too: {run}");
}

#[test]
fn by_tcp_and_with_large_answers() {
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
    assert!(run.stdout.contains("NXDOMAIN"), "answers come back as they are: {run}");
}

#[test]
fn search_and_options_are_kept() {
    let net = internet!();
    resolv_conf(&net, "search example\noptions ndots:2 timeout:1\nnameserver 203.0.113.53\n");
    let run = net.host.watch(&["sh", "-c", "cat /etc/resolv.conf; getent ahostsv4 app"]);
    for text in ["search example", "ndots:2", &APP_V4.to_string()] {
        assert!(run.stdout.contains(text), "{text}: {run}");
    }
    assert!(!run.stdout.contains("203.0.113.53\n"), "the gateway is asked: {run}");
}

#[test]
fn the_host_s_file_is_untouched_while_it_runs() {
    let net = internet!();
    let before = fs::read_to_string(net.host.etc().join("resolv.conf")).unwrap();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    assert_eq!(net.host.sh("cat /etc/resolv.conf"), before);
}

#[test]
fn a_missing_file_and_a_dangling_link_are_no_errors() {
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
fn another_resolver_can_be_asked() {
    let net = internet!();
    resolv_conf(&net, "nameserver 198.51.100.99\n");
    for dns in [DNS_V4.to_string(), DNS_V6.to_string(), format!("{DNS_V4}:53")] {
        assert_resolves(&net.host.run(&["--dns", &dns], LOOKUP));
    }
}

#[test]
fn a_resolver_that_refuses_gives_an_answer_soon() {
    let net = internet!(InternetShape::default());
    resolv_conf(&net, "nameserver 198.51.100.1\nnameserver 203.0.113.53\n");
    assert_resolves(&net.host.watch(LOOKUP));
}

#[test]
fn etc_hosts_stays() {
    let net = internet!();
    let hosts = net.host.etc().join("hosts");
    let text = fs::read_to_string(&hosts).unwrap_or_default();
    fs::write(&hosts, text + "203.0.113.10 by-file.example\n").unwrap();
    let run = net.host.watch(&["getent", "ahostsv4", "by-file.example"]);
    assert!(run.assert_ok().stdout.contains("203.0.113.10"), "{run}");
}

#[test]
fn side_doors_of_glibc_are_closed() {
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
    assert_ne!(run.code, Some(0), "nobody answers there: {run}");
    assert!(net.host.sh("cat /etc/nsswitch.conf").contains("resolve"), "the host's own is untouched");
}

#[test]
fn the_servers_see_the_queries() {
    let net = internet!();
    assert_resolves(&net.host.watch(LOOKUP));
    eventually(|| net.dns_log().contains("query[A] app.example from 198.51.100.2").then_some(()).ok_or(net.dns_log()))
        .unwrap();
}
