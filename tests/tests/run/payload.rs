//! Payload: what applications sent and received is counted exactly, whatever the wire carried.

use std::net::IpAddr;

use netwatch_tests::{addresses::*, internet, report};
use serde_json::{Value, json};

use crate::TRAFFIC;

fn families() -> [(IpAddr, String); 2] {
    [(APP_V4.into(), format!("{APP_V4}")), (APP_V6.into(), format!("[{APP_V6}]"))]
}

/// The payload of an endpoint, of its only flow, and of the run have to be these.
#[track_caller]
fn assert_payload(document: &Value, protocol: &str, (remote, port): (IpAddr, u16), expected: &Value) {
    assert_eq!(&report::endpoint(document, protocol, remote, port)["payload"], expected, "{document:#}");
    let flows = report::list(document, "flows");
    let of_flow = flows.iter().find(|flow| flow["remote_port"] == port).expect("a flow");
    assert_eq!((&of_flow["payload"], &document["payload"]), (expected, expected), "{document:#}");
}

#[test]
fn datagrams_also_those_in_fragments() {
    let net = internet!();
    for (remote, shown) in families() {
        for (count, size) in [(1, 1), (30, 500), (5, 3_000)] {
            let to = format!("{shown}:{ECHO}");
            let run = net.host.watch(&[TRAFFIC, "udp", &to, &count.to_string(), &size.to_string()]);
            let bytes = count * size;
            let expected = json!({ "egress_bytes": bytes, "ingress_bytes": bytes });
            assert_payload(run.assert_ok().report(), "udp", (remote, ECHO), &expected);
        }
    }
}

#[test]
fn streams_in_both_directions() {
    let net = internet!();
    for (remote, shown) in families() {
        let run = net.host.watch(&[TRAFFIC, "fetch", &format!("{shown}:{SOURCE}")]);
        let expected = json!({ "ingress_bytes": SOURCE_BYTES });
        assert_payload(run.assert_ok().report(), "tcp", (remote, SOURCE), &expected);
        let run = net.host.watch(&[TRAFFIC, "send", &format!("{shown}:{SINK}"), "700001"]);
        assert_payload(run.assert_ok().report(), "tcp", (remote, SINK), &json!({ "egress_bytes": 700_001 }));
    }
}

/// Before the hook (from the server) or after it (to the server), so that netwatch sees gaps or
/// retransmits.
#[test]
fn retransmits_are_no_payload() {
    let net = internet!();
    net.inet.sh("nft add table inet losses");
    for (hook, port) in [("output", SOURCE), ("input", SINK)] {
        let side = if hook == "output" { "sport" } else { "dport" };
        net.inet.sh(&format!("nft 'add chain inet losses {hook} {{ type filter hook {hook} priority 0; }}'"));
        // Neither the SYN nor the last packets.
        net.inet.sh(&format!("nft add rule inet losses {hook} tcp {side} {port} numgen inc mod 7 == 3 drop"));
    }
    let shown = |port: u16| format!("{APP_V4}:{port}");
    let run = net.host.watch(&[TRAFFIC, "fetch", &shown(SOURCE)]);
    assert_eq!(run.assert_ok().stdout.trim(), SOURCE_BYTES.to_string());
    assert_payload(run.report(), "tcp", (APP_V4.into(), SOURCE), &json!({ "ingress_bytes": SOURCE_BYTES }));
    let run = net.host.watch(&[TRAFFIC, "send", &shown(SINK), "1000003"]);
    assert_payload(run.assert_ok().report(), "tcp", (APP_V4.into(), SINK), &json!({ "egress_bytes": 1_000_003 }));
    let sent = &report::list(run.report(), "flows")[0]["egress"];
    assert!(sent["retransmitted_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{run}");
}

#[test]
fn a_refused_connection_has_none() {
    let net = internet!();
    let run = net.host.watch(&[TRAFFIC, "connect", &format!("{APP_V4}:{REFUSED}"), "5000"]);
    assert_payload(run.assert_ok().report(), "tcp", (APP_V4.into(), REFUSED), &json!({}));
}
