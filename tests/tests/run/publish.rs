//! Inbound traffic: `--publish`.

use netwatch_tests::{RunningNetwatch, addresses::*, internet, needs, report};

use crate::TRAFFIC;

const PYTHON: &str = "/usr/bin/python3";

fn serve(net: &netwatch_tests::TestInternet, flags: &[&str], kind: &str) -> RunningNetwatch {
    let mut running = net.host.start(flags, &[TRAFFIC, kind, "0.0.0.0:80"]);
    running.wait_for_stdout("listening");
    running
}

#[test]
fn tcp_from_outside_keeps_the_client_s_address() {
    let net = internet!();
    let before = net.host.state();
    let running = serve(&net, &["--publish", "8080:80"], "serve");
    let echoed = net.inet.sh(&format!("printf hi | socat -t60 - TCP4:{HOST_V4}:8080"));
    assert_eq!(echoed, "hi");
    let run = running.finish();
    assert!(run.assert_ok().stdout.contains(&ROUTER_V4.to_string()), "the client as it is: {run}");
    let endpoint = report::endpoint(run.report(), "tcp", ROUTER_V4, 80);
    assert_eq!(endpoint["direction"], "in", "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn both_ports_are_confirmed_before_the_command_starts_and_reported() {
    let net = internet!();
    let flags = ["--publish", "8080:80", "--publish", "127.0.0.1:8053:5353/udp"];
    let run = net.host.run(&flags, &["sh", "-c", "echo the command >&2"]);
    let words = "netwatch: published, host to command: tcp 8080 to 80, udp 127.0.0.1:8053 to 5353";
    let lines: Vec<&str> = run.assert_ok().stderr.lines().collect();
    let at = |line: &str| lines.iter().position(|known| *known == line).unwrap_or_else(|| panic!("{line}: {run}"));
    assert!(at(words) < at("the command"), "{run}");
    let published = serde_json::json!([
        { "protocol": "tcp", "host_port": 8080, "port": 80 },
        { "protocol": "udp", "address": "127.0.0.1", "host_port": 8053, "port": 5353 },
    ]);
    assert_eq!(run.report()["interface"]["published"], published, "{run}");
    // From the recording.
    let summary = net.host.netwatch(&["report"]);
    let line = "published  host to command: tcp 8080 to 80, udp 127.0.0.1:8053 to 5353";
    assert!(summary.assert_ok().stdout.lines().any(|known| known == line), "{summary}");
    let quiet = net.host.run(&["-q", "--publish", "8080:80"], &["true"]);
    assert!(!quiet.assert_ok().stderr.contains("published"), "{quiet}");
}

#[test]
fn udp_from_outside_reaches_the_command() {
    let net = internet!();
    let running = serve(&net, &["--publish", "8053:80/udp"], "serve-udp");
    net.inet.sh(&format!("{TRAFFIC} udp {HOST_V4}:8053 1 10"));
    assert!(running.finish().assert_ok().stdout.contains(&ROUTER_V4.to_string()));
}

#[test]
fn a_published_port_is_reached_from_the_addresses_and_the_loopback_of_the_host() {
    let net = internet!();
    for to in [HOST_V4.to_string(), "127.0.0.1".into()] {
        let before = net.host.state();
        let running = serve(&net, &["--publish", "8080:80"], "serve");
        assert_eq!(net.host.sh(&format!("printf hi | socat -t60 - TCP4:{to}:8080")), "hi", "{to}");
        running.finish().assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_port_is_published_only_on_the_given_address() {
    let net = internet!();
    let mut running = serve(&net, &["--publish", "127.0.0.1:8080:80"], "serve");
    let (reached, _) = net.inet.try_sh(&format!("socat -u TCP4:{HOST_V4}:8080,connect-timeout=0.3 -"));
    assert!(!reached && running.is_running(), "not from outside");
    assert_eq!(net.host.sh("printf hi | socat -t60 - TCP4:127.0.0.1:8080"), "hi");
    running.finish().assert_ok();
}

#[test]
fn ports_are_published_by_ipv6_too() {
    let net = internet!();
    let mut running = net.host.start(&["--publish", "8080:80"], &[TRAFFIC, "serve", "[::]:80"]);
    running.wait_for_stdout("listening");
    assert_eq!(net.inet.sh(&format!("printf hi | socat -t60 - TCP6:[{HOST_V6}]:8080")), "hi");
    assert!(running.finish().assert_ok().stdout.contains(&ROUTER_V6.to_string()));
}

#[test]
fn nothing_is_published_by_default() {
    let net = internet!();
    let mut running = serve(&net, &[], "serve");
    let local = net.host.sh("ip -4 -br addr | grep ^nw | grep -o '[0-9.]*/' | tr -d /");
    net.inet
        .sh(&format!("ip route add {}/24 via {HOST_V4}", local.trim().rsplit_once('.').unwrap().0.to_owned() + ".0"));
    let target = format!("{}.2", local.trim().rsplit_once('.').unwrap().0);
    assert!(!net.inet.try_sh(&format!("socat -u TCP4:{target}:80,connect-timeout=0.3 -")).0, "not routed in");
    assert!(running.is_running());
}

#[test]
fn a_port_in_use_is_an_error_before_the_command_starts() {
    let net = internet!();
    let mut holder = net.host.command("socat").args(["-u", "TCP-LISTEN:8080", "-"]).spawn().unwrap();
    net.host.wait_for("ss -Hltn 'sport = :8080' | grep -q .");
    let before = net.host.state();
    net.host.run(&["--publish", "8080:80"], &["echo", "started"]).assert_error(125, &["8080", "in use"]);
    net.host.assert_nothing_left(&before);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// Answers the requests of one connection after 50 ms, with the status that is their path.
const ANSWERS: &str = "
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        time.sleep(0.05)
        self.send_response(int(self.path[1:]))
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
server = http.server.HTTPServer(('0.0.0.0', 80), Handler)
print('listening', flush=True)
server.handle_request()
";

#[test]
fn a_service_has_its_response_times_and_statuses() {
    needs!(PYTHON);
    let net = internet!();
    let mut running = net.host.start(&["--publish", "8080:80"], &[PYTHON, "-c", ANSWERS]);
    running.wait_for_stdout("listening");
    let client = "
import http.client, sys
server = http.client.HTTPConnection(sys.argv[1], 8080)
for status in (200, 201, 404, 503):
    server.request(\"GET\", f\"/{status}\")
    server.getresponse().read()
server.close()
";
    net.inet.sh(&format!("{PYTHON} -c '{client}' {HOST_V4}"));
    let run = running.finish();
    let [service] = report::list(run.assert_ok().report(), "services") else { panic!("one service: {run}") };
    assert_eq!(service["published_ports"], serde_json::json!([8080]), "{run}");
    let exchanges = &service["exchanges"];
    let statuses = serde_json::json!({ "2xx": 2, "4xx": 1, "5xx": 1 });
    assert_eq!((&exchanges["statuses"], report::number(exchanges, "response.count")), (&statuses, 4), "{run}");
    assert_eq!((&exchanges["unmeasured"], &exchanges["unsampled_request_bytes"]), (&0.into(), &0.into()), "{run}");
    assert!(report::number(exchanges, "response.p50_ns") >= 50_000_000, "{run}");
    // From the recording.
    let summary = net.host.netwatch(&["report", "-v"]).assert_ok().stdout.replace(['\u{a0}', '\n'], " ");
    let summary = summary.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["tcp/80, published as 8080: 1 client", "4 measured)", "2xx 2, 4xx 1, 5xx 1"] {
        assert!(summary.contains(words), "{words}: {summary}");
    }
}
