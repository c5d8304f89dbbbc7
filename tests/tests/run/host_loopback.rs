//! The host's services on its loopback, by `--host-loopback`.

use std::process::{Child, Stdio};

use netwatch_tests::{StartOptions, TestHost, USER, internet, report};

use crate::TRAFFIC;

/// A program on the host, killed when the test ends.
struct HostProgram(Child);

impl HostProgram {
    /// Answers each connection or datagram to `listen`, a socat address, with `from-the-host`.
    fn answer(host: &TestHost, listen: &str, port: u16) -> Self {
        let command = ["-T", "5", &format!("{listen},fork,reuseaddr"), "EXEC:echo from-the-host"].map(str::to_owned);
        let program = Self(host.command("socat").args(command).spawn().unwrap());
        host.wait_for(&format!("ss -Hltun 'sport = :{port}' | grep -q ."));
        program
    }

    /// Echoes one datagram.
    fn echo(host: &TestHost, address: &str, port: u16) -> Self {
        let mut command = host.command(TRAFFIC);
        let program = Self(command.args(["serve-udp", address]).stdout(Stdio::null()).spawn().unwrap());
        host.wait_for(&format!("ss -Hlun 'sport = :{port}' | grep -q ."));
        program
    }
}

impl Drop for HostProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const GET: &str = "socat -t5 -u TCP4:127.0.0.1:9090,connect-timeout=5 -";

#[test]
fn a_check_takes_the_service_for_the_host() {
    let net = internet!();
    let _service = HostProgram::answer(&net.host, "TCP4-LISTEN:9090,bind=127.0.0.1", 9090);
    net.host.run(&["--host-loopback=9090"], &["sh", "-c", GET]).assert_ok();
    let report = net.host.dir().join("report.json").display().to_string();
    net.host.netwatch(&["report", "--format", "json", "-o", &report]).assert_ok();
    let policy = net.host.dir().join("netwatch.toml");
    for run in ["1", report.as_str()] {
        std::fs::write(&policy, "[[allow]]\naddress = \"0.0.0.0/0\"\n").unwrap();
        let refused = net.host.netwatch(&["check", run]);
        assert!(refused.assert_code(1).stdout.contains("VIOLATION  tcp/9090 to the host itself\n"), "{refused}");
        std::fs::write(&policy, "[[allow]]\naddress = \"host\"\nport = 9090\n").unwrap();
        net.host.netwatch(&["check", run]).assert_ok();
    }
}

#[test]
fn every_family_and_protocol_reaches_the_service() {
    let net = internet!();
    let _services = [
        HostProgram::answer(&net.host, "TCP4-LISTEN:9090,bind=127.0.0.1", 9090),
        HostProgram::answer(&net.host, "TCP6-LISTEN:9091,bind=[::1]", 9091),
    ];
    let before = net.host.state();
    let script = format!(
        "{GET}; socat -t5 -u TCP6:[::1]:9091 -; for to in 127.0.0.1:9092 [::1]:9093; do {TRAFFIC} udp $to 1 1000; done"
    );
    for flag in ["--host-loopback", "--host-loopback=9090,9091,9092,9093"] {
        let _echoes =
            [("127.0.0.1:9092", 9092), ("[::1]:9093", 9093)].map(|(at, port)| HostProgram::echo(&net.host, at, port));
        let run = net.host.run(&[flag, "-u", USER], &["sh", "-c", &script]);
        assert_eq!(run.assert_ok().stdout, "from-the-host\n".repeat(2), "{run}");
        let flows = report::list(run.report(), "loopback.flows");
        assert_eq!(flows.len(), 4, "{run}");
        for flow in flows {
            assert_eq!(flow["host_loopback"], true, "{run}");
            assert!(!report::user_pids(run.report(), flow).is_empty(), "the flow belongs to the command: {run}");
        }
        assert_eq!(report::number(run.report(), "totals.egress.packets"), 0, "{run}");
        assert_eq!(report::list(run.report(), "interface.host_loopback").len(), 4, "{run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_proxy_of_the_environment_works() {
    let net = internet!();
    let forward = "TCP4-LISTEN:3128,bind=127.0.0.1,fork,reuseaddr";
    let mut proxy = net.host.command("socat").args([forward, "TCP4:app.example:80"]).spawn().unwrap();
    net.host.wait_for("ss -Hltn 'sport = :3128' | grep -q .");
    let options = StartOptions::env(&[("http_proxy", "http://127.0.0.1:3128")]);
    let run = net.host.run_with(options, &["--host-loopback"], &["curl", "-s", "http://app.example/"]);
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    assert_eq!(run.assert_ok().stdout, "hello\n", "{run}");
    assert!(run.stderr.contains("localhost  host loopback: tcp 127.0.0.1:3128 "), "{run}");
}

#[test]
fn only_listed_ports_are_served_and_the_note_gives_the_flag() {
    let net = internet!();
    let _service = HostProgram::answer(&net.host, "TCP4-LISTEN:9090,bind=127.0.0.1", 9090);
    for flags in [&[][..], &["--host-loopback=9099"]] {
        let run = net.host.run(flags, &["sh", "-c", GET]);
        assert_ne!(run.code, Some(0), "{run}");
        assert!(run.report()["notes"].to_string().contains("with --host-loopback=9090 it leads to that of"), "{run}");
    }
}

#[test]
fn what_the_host_refuses_is_noted() {
    let net = internet!();
    let run = net
        .host
        .run(&["--host-loopback=9090"], &["sh", "-c", &format!("{TRAFFIC} fetch 127.0.0.1:9090 || echo reset")]);
    assert_eq!(run.assert_ok().stdout, "reset\n", "{run}");
    assert!(
        run.report()["notes"].to_string().contains("the host refused 1 connection, the last one to tcp 127.0.0.1:9090"),
        "{run}"
    );
}

#[test]
fn the_command_knows_the_gateway() {
    let net = internet!();
    let _service = HostProgram::answer(&net.host, "TCP4-LISTEN:9090", 9090);
    let script = "echo $NETWATCH_GATEWAY; socat -t5 -u TCP4:$NETWATCH_GATEWAY:9090,connect-timeout=5 -";
    let run = net.host.watch(&["sh", "-c", script]);
    let gateway = report::text(run.assert_ok().report(), "interface.gateway_addresses.0");
    assert_eq!(run.stdout, format!("{gateway}\nfrom-the-host\n"), "{run}");
}

/// A peer that neither reads nor closes, and a load, must not keep the run from ending.
#[test]
fn a_service_that_reads_nothing_does_not_keep_the_run() {
    let net = internet!();
    let mut service =
        net.host.command("socat").args(["TCP4-LISTEN:9090,bind=127.0.0.1", "EXEC:sleep 60"]).spawn().unwrap();
    net.host.wait_for("ss -Hltn 'sport = :9090' | grep -q .");
    let flags = ["--host-loopback=9090", "--drain-timeout", "200ms"];
    let run =
        net.host.run(&flags, &["sh", "-c", &format!("timeout 0.5 {TRAFFIC} send 127.0.0.1:9090 100000000; true")]);
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(run.assert_ok().report()["notes"].to_string().contains("drain-timeout"), "{run}");
}
