//! Reads the JSON reports of netwatch. Functions panic with the whole report when an element is
//! missing.

use std::net::IpAddr;

use serde_json::Value;

/// Names of both directions in a report.
pub const DIRECTIONS: [&str; 2] = ["egress", "ingress"];

/// Names of the counters of failed connection attempts in a report.
pub const FAILURES: [&str; 4] = ["refused", "timeout", "handshake_resets", "unreachable"];

/// Names of the counters of traffic in a report.
const COUNTED: [&str; 4] = ["skbs", "packets", "bytes", "wire_bytes"];

/// Counters that a report omits when they are 0.
const COUNTERS: &[&str] = &[
    "skbs",
    "packets",
    "bytes",
    "wire_bytes",
    "connections",
    "failed_connections",
    "flows",
    "icmp_errors",
    "rtt_count",
    "retransmitted_packets",
    "retransmitted_bytes",
    "resets",
    "zero_windows",
    "refused",
    "timeout",
    "timeout_syns",
    "handshake_resets",
    "unreachable",
    "queries",
    "responses",
    "truncated_responses",
    "samples",
    "unreadable",
    "table_full",
    "insert_failed",
    "new_flows",
    "unselected",
    "events",
    "sockets",
    "exited",
    "unknown_records",
    "over_limit",
    "socket",
    "tuple",
    "netns",
    "kernel",
    "unattributed",
    "epoch",
    "duration_ns",
    "truncated_frames",
];

/// The flags that a TCP flow omits.
pub const USUAL_FLAGS: &str = "FSPA";

/// Counters that a flow omits when they equal another.
const EQUAL_COUNTERS: [(&str, &str); 2] = [("skbs", "packets"), ("bytes", "wire_bytes")];

/// The number at a dotted path (`totals.egress.bytes`). For an omitted counter that is 0, or the
/// counter that it equals.
#[track_caller]
pub fn number(report: &Value, path: &str) -> i64 {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, key) = path.rsplit_once('.').map_or(("", path), |(parent, key)| (parent, key));
    if COUNTERS.contains(&key) && report.pointer(&pointer).is_none() {
        let equal = EQUAL_COUNTERS.into_iter().find(|(omitted, _)| *omitted == key);
        return equal.map_or(0, |(_, equal)| number(report, format!("{parent}.{equal}").trim_start_matches('.')));
    }
    value(report, path).as_i64().unwrap_or_else(|| panic!("{path} is not a number in {report:#}"))
}

/// The text at a dotted path.
#[track_caller]
pub fn text<'a>(report: &'a Value, path: &str) -> &'a str {
    value(report, path).as_str().unwrap_or_else(|| panic!("{path} is not a text in {report:#}"))
}

/// The value at a dotted path.
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

/// Evidence for the process of a flow, the strongest first.
const EVIDENCE: [&str; 3] = ["socket", "tuple", "netns"];

/// A process that used a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// Number of the process in the report.
    pub process: i64,
    /// `socket`, `tuple` or `netns`.
    pub evidence: &'static str,
    /// Another process created the socket.
    pub inherited: bool,
}

/// The processes that used a flow, the strongest evidence first.
#[track_caller]
pub fn users(flow: &Value) -> Vec<ProcessUse> {
    let inherited = flow.pointer("/processes/inherited").and_then(Value::as_array);
    let users = |evidence: &'static str| {
        let numbers = flow.pointer(&format!("/processes/{evidence}")).and_then(Value::as_array);
        numbers.into_iter().flatten().map(move |number| ProcessUse {
            process: number.as_i64().unwrap_or_else(|| panic!("{number} is not a number in {flow:#}")),
            evidence,
            inherited: inherited.is_some_and(|inherited| inherited.contains(number)),
        })
    };
    EVIDENCE.into_iter().flat_map(users).collect()
}

/// The process with this number.
#[track_caller]
pub fn process(report: &Value, number: i64) -> &Value {
    let list = list(report, "processes");
    list.iter()
        .find(|process| process["number"] == number)
        .unwrap_or_else(|| panic!("no process {number} in {report:#}"))
}

/// Process ids of [`users`].
#[track_caller]
pub fn user_pids(report: &Value, flow: &Value) -> Vec<i64> {
    users(flow).iter().map(|user| number(process(report, user.process), "pid")).collect()
}

/// The array at a dotted path.
#[track_caller]
pub fn list<'a>(report: &'a Value, path: &str) -> &'a [Value] {
    value(report, path).as_array().unwrap_or_else(|| panic!("{path} is not a list in {report:#}"))
}

/// Panics unless all four counters agree with this number of packets of this many bytes each.
#[track_caller]
pub fn assert_packets(of: &Value, direction: &str, packets: i64, frame_bytes: i64) {
    let counted = ["skbs", "packets", "bytes", "wire_bytes"].map(|name| number(of, &format!("{direction}.{name}")));
    let bytes = packets * frame_bytes;
    assert_eq!(counted, [packets, packets, bytes, bytes], "skbs, packets, bytes, wire_bytes, {direction} of {of:#}");
}

/// Checks the invariant of every report, of a run and of a replay: flows + folded flows +
/// remainders = totals = counters of the interface or the file. Interim reports, those of a cgroup
/// and those of a deleted interface have no counters to compare with; the other equations hold for
/// them too.
#[track_caller]
pub fn assert_balanced(report: &Value) {
    assert_conserved(report);
    if report.get("series").is_some() && value(report, "complete") == true {
        assert_series(report);
    }
    if report["balance"].get("file").is_some() {
        assert_file(report);
    } else if report["balance"].get("interface").is_some() && text(report, "balance.state") != "live" {
        DIRECTIONS.iter().for_each(|direction| assert_interface(report, direction));
    }
    match (text(report, "balance.state"), value(report, "complete") == true) {
        ("closed", true) | ("live", false) | ("unknown" | "not_applicable", _) => {}
        (state, complete) => panic!("the balance is {state}, complete: {complete}: {report:#}"),
    }
}

/// The intervals of a complete run add up to the numbers of its report.
#[track_caller]
fn assert_series(report: &Value) {
    let sum_of = |pointer: &str| -> i64 {
        let intervals = list(report, "series.intervals").iter();
        intervals.filter_map(|interval| interval.pointer(pointer)?.as_i64()).sum()
    };
    for (direction, unit) in DIRECTIONS.iter().flat_map(|direction| COUNTED.map(|unit| (direction, unit))) {
        let totals = number(report, &format!("totals.{direction}.{unit}"));
        assert_eq!(sum_of(&format!("/{direction}/{unit}")), totals, "{unit} of {direction}, series: {report:#}");
    }
    let own = || list(report, "endpoints").iter().filter(|one| one["direction"] == "out");
    let failed: i64 = FAILURES.iter().map(|cause| own().map(|one| number(one, cause)).sum::<i64>()).sum();
    assert_eq!(sum_of("/failed_attempts"), failed, "failed attempts of the series: {report:#}");
    if value(report, "folded").get("at_least").is_none() {
        let flows = list(report, "flows").len() as i64 + number(report, "folded.flows");
        assert_eq!(sum_of("/opened_flows"), flows, "flows of the series: {report:#}");
    }
    if let Some(cpu) = report["run"].get("cpu") {
        let used = ["user_ns", "system_ns"].map(|key| cpu.get(key).and_then(Value::as_i64).unwrap_or(0));
        assert_eq!(sum_of("/cpu_ns"), used.iter().sum::<i64>(), "CPU time of the series: {report:#}");
    }
}

/// Flows and named remainders add up to everything that was counted: no packet is missing or
/// counted twice.
#[track_caller]
fn assert_conserved(report: &Value) {
    for direction in DIRECTIONS {
        for unit in ["skbs", "bytes"] {
            let counted = of_balance(report, "counted", direction, unit);
            assert_eq!(assigned(report, direction, unit), counted, "{unit} of {direction}, counted: {report:#}");
            assert_eq!(of_balance(report, "unassigned", direction, unit), 0, "{report:#}");
            let flows = sum(report, "flows", direction, unit) + folded(report, direction, unit);
            assert_eq!(flows, of_balance(report, "flows", direction, unit), "{unit} of {direction}, flows: {report:#}");
        }
        assert_sums(report, direction);
    }
    if report.get("loopback").is_some() {
        assert_loopback(report);
    }
}

/// Packets to the target that veth dropped are an exception: the kernel counts them separately, and
/// without their bytes.
#[track_caller]
fn assert_interface(report: &Value, direction: &str) {
    let dropped = if direction == "ingress" { number(report, "balance.dropped_skbs") } else { 0 };
    let missing = |unit| assigned(report, direction, unit) - of_balance(report, "interface", direction, unit);
    assert_eq!(missing("skbs"), dropped, "skbs of {direction}, interface against flows and rest: {report:#}");
    let bytes = missing("bytes");
    let explained = if dropped == 0 { bytes == 0 } else { bytes >= 14 * dropped && bytes <= 65_549 * dropped };
    assert!(explained, "bytes of {direction}, {bytes} more than the interface's, {dropped} dropped: {report:#}");
    assert_eq!(of_balance(report, "difference", direction, "skbs"), 0, "{report:#}");
    assert_eq!(of_balance(report, "difference", direction, "bytes"), -bytes, "{report:#}");
}

/// A file has frames without a direction.
#[track_caller]
fn assert_file(report: &Value) {
    for unit in ["skbs", "bytes"] {
        let of_file = |part: &str| number(report, &format!("balance.file.{part}.{unit}"));
        let taken: i64 = DIRECTIONS.iter().map(|direction| assigned(report, direction, unit)).sum();
        assert_eq!(taken + of_file("left_out"), of_file("frames"), "{unit}, counted and left out: {report:#}");
        assert_eq!(of_file("difference"), 0, "{report:#}");
    }
}

/// The flows of the loopback add up to at most its totals, and to exactly those where all flows are
/// listed.
#[track_caller]
fn assert_loopback(report: &Value) {
    let none_left_out =
        ["folded.flows", "lost.table_full", "lost.insert_failed"].iter().all(|why| number(report, why) == 0);
    for direction in DIRECTIONS {
        let (flows, totals) = ("loopback.flows", number(report, &format!("loopback.totals.{direction}.bytes")));
        let flows = sum(report, flows, direction, "bytes");
        assert!(flows <= totals && (flows == totals || !none_left_out), "{direction} of the loopback: {report:#}");
    }
}

fn of_balance(report: &Value, part: &str, direction: &str, unit: &str) -> i64 {
    number(report, &format!("balance.{part}.{direction}.{unit}"))
}

fn assigned(report: &Value, direction: &str, unit: &str) -> i64 {
    let names = value(report, "balance.remainders").as_object().expect("remainders have names").keys();
    let rest: i64 = names.map(|name| of_balance(report, &format!("remainders.{name}"), direction, unit)).sum();
    of_balance(report, "flows", direction, unit) + rest
}

fn folded(report: &Value, direction: &str, unit: &str) -> i64 {
    number(report, &format!("folded.{direction}.{unit}"))
}

fn sum(report: &Value, all: &str, direction: &str, unit: &str) -> i64 {
    let path = format!("{direction}.{unit}");
    list(report, all).iter().map(|one| number(one, &path)).sum()
}

/// For each counter: flows and folded flows add up to the endpoints, and with the remainders to the
/// totals.
#[track_caller]
fn assert_sums(report: &Value, direction: &str) {
    for unit in COUNTED {
        let flows = sum(report, "flows", direction, unit) + folded(report, direction, unit);
        let endpoints = sum(report, "endpoints", direction, unit);
        assert_eq!(flows, endpoints, "{unit} of {direction}, flows and endpoints of {report:#}");
        let totals = number(report, &format!("totals.{direction}.{unit}"));
        let all = flows + sum(report, "remainders", direction, unit);
        assert_eq!(all, totals, "{unit} of {direction}, flows and rest against totals of {report:#}");
    }
}
