//! `--ipfix`: flow records, read back by the collectors of others.

use std::collections::BTreeMap;

use netwatch_tests::addresses::ROUTER_V4;
use netwatch_tests::{FinishedRun, internet, needs};
use serde_json::Value;

/// Ends of a flow, and its packets in both directions.
type Exported = BTreeMap<(String, String, u64, u64), (u64, u64)>;

/// A command with flows over IPv4 and IPv6, of TCP and UDP.
const COMMAND: [&str; 3] =
    ["sh", "-c", "curl -s -4 -o /dev/null http://app.example/; curl -s -6 -o /dev/null http://app.example/"];

/// The flows of the report that have ports.
fn reported(run: &FinishedRun) -> Exported {
    let flows = run.assert_ok().report()["flows"].as_array().expect("flows");
    let with_ports = flows.iter().filter(|flow| flow["local_port"].as_u64() > Some(0));
    let flow = |flow: &Value| {
        assert_ne!(flow["direction"], "in", "the command opened every flow: {flow}");
        let text = |key: &str| flow[key].as_str().expect("an address").to_owned();
        let number = |key: &str| flow[key].as_u64().expect("a port");
        let packets = |way: &str| flow[way]["packets"].as_u64().unwrap_or_default();
        let ends = (text("local"), text("remote"), number("local_port"), number("remote_port"));
        (ends, (packets("egress"), packets("ingress")))
    };
    let all: Exported = with_ports.map(flow).collect();
    assert!(all.len() >= 4, "connections and lookups: {run}");
    all
}

#[test]
fn tshark_reads_the_file_without_a_complaint() {
    needs!("tshark");
    let net = internet!();
    let file = net.host.dir().join("flows.ipfix");
    let file = file.to_str().expect("a plain name");
    let run = net.host.run(&["--ipfix", &format!("file:{file}")], &COMMAND);
    let expected = reported(&run);
    let complaints = net.host.sh(&format!("tshark -r {file} -Y '_ws.malformed || _ws.expert' 2>/dev/null"));
    assert_eq!(complaints, "", "malformed, or remarkable in the opinion of tshark");
    let fields = ["cflow.srcaddr", "cflow.srcaddrv6", "cflow.srcport", "cflow.dstport", "cflow.packets"];
    let fields = fields.map(|field| format!("-e {field}")).join(" ");
    let text = net.host.sh(&format!("tshark -r {file} -T fields -E occurrence=a {fields} 2>/dev/null"));
    for (local, _, local_port, _) in expected.keys() {
        assert!(text.contains(local) && text.contains(&local_port.to_string()), "{local}:{local_port} in {text}");
    }
    let details = net.host.sh(&format!("tshark -r {file} -V 2>/dev/null"));
    assert!(!details.contains("no template found"), "{details}");
    // A file of the user who called sudo exists once only.
    let again = net.host.run(&["--ipfix", &format!("file:{file}")], &["true"]);
    again.assert_error(125, &["export flows to file:", "EEXIST"]);
}

/// A collector that accepts and never reads, one that does not exist, and one that refuses.
#[test]
fn stuck_and_dead_collectors_do_not_delay_the_run() {
    let net = internet!();
    let stuck = net.inet.inside(|| {
        let listener = std::net::TcpListener::bind((ROUTER_V4, 4739)).expect("a listener");
        std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>())
    });
    drop(stuck.join().expect("listening"));
    let targets = format!("tcp:{ROUTER_V4}:4739,tcp:203.0.113.99,tcp:{ROUTER_V4}:1,udp:{ROUTER_V4}:1");
    let run = net.host.run(&["--ipfix", &targets], &COMMAND);
    reported(&run);
    assert!(run.stderr.contains(&format!("flow records for tcp:{ROUTER_V4}:1 were dropped")), "{run}");
    assert!(!run.stderr.contains(&format!("flow records for tcp:{ROUTER_V4}:4739 were dropped")), "{run}");
    // 60 seconds is what a consumer may take in the worst case.
    assert!(run.took.as_secs() < 40, "{run}");
}
