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

/// The invariant of every report: what the interface counted is what the flows and the named remainders sum up to. Packets to the target that
/// veth dropped are the one exception: the kernel counts them apart, and without their bytes.
#[track_caller]
pub fn assert_balanced(report: &Value) {
    let dropped = number(report, "balance.dropped_skbs");
    for direction in DIRECTIONS {
        let dropped = if direction == "ingress" { dropped } else { 0 };
        let missing = |unit| assigned(report, direction, unit) - of_balance(report, "interface", direction, unit);
        assert_eq!(missing("skbs"), dropped, "skbs of {direction}, interface against flows and rest: {report:#}");
        let bytes = missing("bytes");
        let explained = if dropped == 0 { bytes == 0 } else { bytes >= 14 * dropped && bytes <= 65_549 * dropped };
        assert!(explained, "bytes of {direction}, {bytes} more than the interface's, {dropped} dropped: {report:#}");
        assert_eq!(of_balance(report, "difference", direction, "skbs"), 0, "{report:#}");
        assert_eq!(of_balance(report, "difference", direction, "bytes"), -bytes, "{report:#}");
        assert_sums(report, direction);
    }
    assert_eq!(text(report, "balance.state"), "closed", "{report:#}");
}

fn of_balance(report: &Value, part: &str, direction: &str, unit: &str) -> i64 {
    number(report, &format!("balance.{part}.{direction}.{unit}"))
}

fn assigned(report: &Value, direction: &str, unit: &str) -> i64 {
    let names = value(report, "balance.remainders").as_object().expect("remainders have names").keys();
    let rest: i64 = names.map(|name| of_balance(report, &format!("remainders.{name}"), direction, unit)).sum();
    of_balance(report, "flows", direction, unit) + rest
}

/// Flows, endpoints and what is neither sum up to the totals, by every measure.
#[track_caller]
fn assert_sums(report: &Value, direction: &str) {
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
