//! Endpoints have the names that the command used, each with its source. DNS lookups are reported.

use std::fs;

use netwatch_tests::{FinishedRun, addresses::*, internet, needs, report};
use serde_json::Value;

/// The endpoint of the application server with this port.
fn app_endpoint(run: &FinishedRun, port: u16) -> &Value {
    report::endpoint(run.report(), "tcp", APP_V4, port)
}

fn sources(of: &Value) -> Vec<(&str, &str)> {
    report::list(of, "names").iter().map(|name| (report::text(name, "source"), report::text(name, "name"))).collect()
}

fn lookup<'a>(run: &'a FinishedRun, name: &str, kind: &str) -> &'a Value {
    let lookups = report::list(run.report(), "dns.lookups");
    lookups
        .iter()
        .find(|one| one["name"] == name && one["type"] == kind)
        .unwrap_or_else(|| panic!("{name} {kind}: {run}"))
}

#[test]
fn tls_and_dns_give_the_name_of_a_server() {
    needs!("curl");
    let net = internet!();
    let run = net.host.run(&["-v"], &["curl", "-4ks", "https://app.example/"]);
    let endpoint = app_endpoint(run.assert_ok(), 443);
    assert_eq!((report::text(endpoint, "name"), report::text(endpoint, "name_source")), (APP, "sni"), "{run}");
    assert_eq!(sources(endpoint), [("dns", APP), ("sni", APP)], "{run}");
    assert_eq!(report::text(endpoint, "application"), "tls", "{run}");
    let flow = report::flows(run.report(), "tcp", APP_V4, 443)[0];
    assert!(report::list(flow, "tls.alpn").contains(&"h2".into()), "{run}");
    assert_eq!(lookup(&run, APP, "A")["addresses"], serde_json::json!([APP_V4.to_string()]), "{run}");
    assert_eq!(report::number(lookup(&run, APP, "A"), "response_time.count"), 1, "{run}");
    assert_eq!(report::number(run.report(), "naming.unnamed.flows"), 0, "{run}");
    assert!(report::list(run.report(), "dns.contacted_without_lookup").is_empty(), "{run}");
    // A long address of the gateway leaves no room for the address behind the name.
    let is_listed = ["app.example (203.0.113.10)", "└ 203.0.113.10"].iter().any(|text| run.stderr.contains(text));
    assert!(is_listed, "{run}");
}

#[test]
fn the_host_header_of_http_is_a_name() {
    needs!("curl");
    let net = internet!();
    let run = net.host.watch(&["curl", "-4s", "-H", "Host: other.example", "http://app.example/"]);
    let endpoint = app_endpoint(run.assert_ok(), 80);
    assert_eq!(
        (report::text(endpoint, "name"), report::text(endpoint, "name_source")),
        ("other.example", "http"),
        "{run}"
    );
    assert_eq!(sources(endpoint), [("dns", APP), ("http", "other.example")], "{run}");
    assert_eq!(report::text(endpoint, "application_evidence"), "request", "{run}");
}

#[test]
fn the_hosts_file_is_a_source_of_names() {
    let net = internet!();
    fs::write(net.host.etc().join("hosts"), format!("127.0.0.1 localhost\n{APP_V4} box.example box\n"))
        .expect("write hosts");
    let run = net.host.watch(&[crate::TRAFFIC, "fetch", &format!("{APP_V4}:{SOURCE}")]);
    let endpoint = app_endpoint(run.assert_ok(), SOURCE);
    assert_eq!(
        (report::text(endpoint, "name"), report::text(endpoint, "name_source")),
        ("box.example", "hosts"),
        "{run}"
    );
    assert!(endpoint.get("application").is_none(), "there is no evidence of the protocol: {run}");
}

#[test]
fn flows_without_a_name_are_reported() {
    needs!("curl");
    let net = internet!();
    let run = net.host.watch(&["curl", "-ks", &format!("https://{APP_V4}/")]);
    let endpoint = app_endpoint(run.assert_ok(), 443);
    assert!(endpoint.get("name").is_none() && endpoint.get("names").is_none(), "{run}");
    assert_eq!(report::number(run.report(), "naming.unnamed.flows"), 1, "{run}");
    assert_eq!(report::number(run.report(), "naming.hidden.no_server_name.flows"), 1, "{run}");
    assert_eq!(report::list(run.report(), "dns.contacted_without_lookup"), [APP_V4.to_string()], "{run}");
    assert!(run.stderr.contains("1 of 1 flow, 100 % of their bytes; hidden: no server name in 1 flow"), "{run}");
}

#[test]
fn dns_queries_and_their_outcomes_are_reported() {
    needs!("dig");
    let net = internet!();
    let script = "dig +short gone.example; dig +short +tcp app.example AAAA; dig +short big.example TXT | wc -c";
    let run = net.host.watch(&["sh", "-c", script]);
    run.assert_ok();
    assert_eq!(lookup(&run, "gone.example", "A")["response_codes"], serde_json::json!({ "nxdomain": 1 }), "{run}");
    let by_tcp = lookup(&run, APP, "AAAA");
    assert_eq!((report::number(by_tcp, "responses"), report::list(by_tcp, "addresses").len()), (1, 1), "{run}");
    assert_eq!(report::number(lookup(&run, BIG, "TXT"), "timeout"), 0, "{run}");
    assert_eq!(report::list(run.report(), "dns.unused_names"), ["app.example"], "{run}");
    let dns = report::list(run.report(), "endpoints");
    assert!(dns.iter().all(|endpoint| endpoint["application_evidence"] == "message"), "{run}");
}

#[test]
fn http_on_the_loopback_is_identified() {
    needs!("curl");
    let net = internet!();
    let script = "python3 -c 'import http.server as h; h.HTTPServer((\"127.0.0.1\", 8080), h.SimpleHTTPRequestHandler).handle_request()' & until ss -Hltn 'sport = :8080' | grep -q .; do sleep 0.02; done; curl -s -o /dev/null http://localhost:8080/";
    needs!("python3");
    let run = net.host.watch(&["sh", "-c", script]);
    let flow = &report::list(run.assert_ok().report(), "loopback.flows")[0];
    assert_eq!((report::text(flow, "application"), flow.get("direction")), ("http", None), "{run}");
}

#[test]
fn resolve_looks_up_the_names_of_addresses() {
    needs!("curl");
    let net = internet!();
    let run = net.host.run(&["--resolve"], &["curl", "-s", &format!("http://{APP_V4}:{REFUSED}/")]);
    let endpoint = app_endpoint(run.assert_code(7), REFUSED);
    assert_eq!((report::text(endpoint, "name"), report::text(endpoint, "name_source")), (APP, "ptr"), "{run}");
    assert_eq!(
        report::list(run.report(), "dns.contacted_without_lookup"),
        [APP_V4.to_string()],
        "the target did not look it up: {run}"
    );
    assert!(
        report::list(run.report(), "dns.lookups").is_empty(),
        "lookups by netwatch are not lookups of the target: {run}"
    );
}

/// Sends a ClientHello in segments of one byte.
const BYTE_BY_BYTE: &str = r#"
import socket, ssl, sys
into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(into, out, server_hostname="app.example")
try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    pass
connection = socket.create_connection((sys.argv[1], 443))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for byte in out.read():
    connection.send(bytes([byte]))
print(len(connection.recv(5)))
"#;

#[test]
fn a_client_hello_sent_byte_by_byte_is_parsed() {
    needs!("python3");
    let net = internet!();
    let run = net.host.watch(&["python3", "-c", BYTE_BY_BYTE, &APP_V4.to_string()]);
    let endpoint = app_endpoint(run.assert_ok(), 443);
    assert_eq!(run.stdout.trim(), "5", "the server responded: {run}");
    // On a busy machine the kernel joins waiting bytes.
    assert!(report::number(endpoint, "egress.packets") > 20, "{run}");
    assert_eq!((report::text(endpoint, "name"), report::text(endpoint, "name_source")), (APP, "sni"), "{run}");
}

/// Two hosts at one address and port, as behind a CDN.
#[test]
fn hosts_that_share_an_address_are_endpoints_of_their_own() {
    let net = internet!();
    let script = format!(
        "curl -s4 http://app.example/ -o /dev/null
        curl -s4 -H 'Host: other.example' http://app.example/ -o /dev/null
        exec 3<>/dev/tcp/{APP_V4}/80"
    );
    let run = net.host.run(&[], &["bash", "-ec", &script]);
    let document = run.assert_ok().report();
    let endpoints = report::list(document, "endpoints");
    let of_name = |name: &str| -> Vec<u64> {
        let named = endpoints.iter().filter(|known| known["port"] == 80 && known["name"] == name);
        named.map(|known| known["connections"].as_u64().expect("a number")).collect()
    };
    // The connection without a request has the name that was looked up for its address.
    assert_eq!((of_name("app.example"), of_name("other.example")), (vec![2], vec![1]), "{run}");
    let sent = |of: &Value| of["egress"]["wire_bytes"].as_u64().unwrap_or(0);
    assert_eq!(endpoints.iter().map(sent).sum::<u64>(), sent(&document["totals"]), "{run}");
}
