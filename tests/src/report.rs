//! Reading netwatch's JSON in tests: every look-up says what it wanted when it is not there.

use std::net::IpAddr;

use serde_json::Value;

/// Both directions, in the words of the report.
pub const DIRECTIONS: [&str; 2] = ["egress", "ingress"];

/// The number at a dotted path (`totals.egress.bytes`).
#[track_caller]
pub fn number(report: &Value, path: &str) -> i64 {
    value(report, path).as_i64().unwrap_or_else(|| panic!("{path} is not a number in {report:#}"))
}

/// The text at a dotted path.
#[track_caller]
pub fn text<'a>(report: &'a Value, path: &str) -> &'a str {
    value(report, path).as_str().unwrap_or_else(|| panic!("{path} is not a text in {report:#}"))
}

/// What is at a dotted path.
#[track_caller]
pub fn value<'a>(report: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    report.pointer(&pointer).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

/// The only endpoint with this protocol, address and port.
#[track_caller]
pub fn endpoint<'a>(report: &'a Value, protocol: &str, remote: impl Into<IpAddr>, port: u16) -> &'a Value {
    let remote = remote.into().to_string();
    let fits = |one: &&Value| {
        one["protocol"] == protocol
            && one["remote"] == remote.as_str()
            && one["port"].as_u64().unwrap_or(0) == u64::from(port)
    };
    let found: Vec<_> = list(report, "endpoints").iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "endpoints {protocol} {remote} port {port} in {report:#}");
    found[0]
}

/// The flows with this protocol, remote address and port.
#[track_caller]
pub fn flows<'a>(report: &'a Value, protocol: &str, remote: impl Into<IpAddr>, port: u16) -> Vec<&'a Value> {
    let remote = remote.into().to_string();
    let fits = |one: &&Value| {
        one["protocol"] == protocol
            && one["remote"] == remote.as_str()
            && one["remote_port"].as_u64().unwrap_or(0) == u64::from(port)
    };
    list(report, "flows").iter().filter(fits).collect()
}

/// The array at a dotted path.
#[track_caller]
pub fn list<'a>(report: &'a Value, path: &str) -> &'a [Value] {
    value(report, path).as_array().unwrap_or_else(|| panic!("{path} is not a list in {report:#}"))
}

/// Panics unless this many packets of this many bytes each were counted, by every measure.
#[track_caller]
pub fn assert_packets(of: &Value, direction: &str, packets: i64, frame_bytes: i64) {
    let counted = ["skbs", "packets", "bytes", "wire_bytes"].map(|name| number(of, &format!("{direction}.{name}")));
    let bytes = packets * frame_bytes;
    assert_eq!(counted, [packets, packets, bytes, bytes], "skbs, packets, bytes, wire_bytes, {direction} of {of:#}");
}

/// The invariant of every report: what the interface counted is what the flows and the named remainders sum up to.
#[track_caller]
pub fn assert_balanced(report: &Value) {
    for direction in DIRECTIONS {
        for unit in ["skbs", "bytes"] {
            let of = |part: &str| number(report, &format!("balance.{part}.{direction}.{unit}"));
            let remainders = value(report, "balance.remainders").as_object().expect("remainders have names");
            let rest: i64 = remainders.keys().map(|name| of(&format!("remainders.{name}"))).sum();
            assert_eq!(of("difference"), 0, "difference of {direction} {unit} in {report:#}");
            assert_eq!(
                of("interface"),
                of("flows") + rest,
                "interface against flows and rest, {direction} {unit}: {report:#}"
            );
        }
        for unit in ["skbs", "packets", "bytes", "wire_bytes"] {
            let path = format!("{direction}.{unit}");
            let sum = |all: &str| list(report, all).iter().map(|one| number(one, &path)).sum::<i64>();
            let totals = number(report, &format!("totals.{path}"));
            assert_eq!(sum("flows"), sum("endpoints"), "sum of {path}, flows and endpoints of {report:#}");
            assert!(sum("flows") <= totals, "the flows' {path} exceed the totals in {report:#}");
            if number(report, "folded.flows") == 0 {
                assert_eq!(sum("flows") + sum("other"), totals, "totals of {path} in {report:#}");
            }
        }
    }
    assert_eq!(text(report, "balance.state"), "closed", "{report:#}");
}
