//! The series of a run: its resolution, what it has beside traffic, and interim reports of a soak.

use std::fs;

use netwatch_tests::internet;
use serde_json::Value;

fn intervals(report: &Value) -> &[Value] {
    report["series"]["intervals"].as_array().expect("a list")
}

fn sum(report: &Value, pointer: &str) -> u64 {
    intervals(report).iter().filter_map(|interval| interval.pointer(pointer)?.as_u64()).sum()
}

/// The sums of every report are compared in `assert_balanced`.
#[test]
fn a_short_run_has_intervals_of_tenths_of_a_second_with_connections_failures_times_and_cpu() {
    let net = internet!();
    let fetch = "curl -4 -sS -o /dev/null http://app.example/; curl -4 -s -o /dev/null http://app.example:81/";
    // Each turn is in an interval of its own, also where intervals are several times as long.
    let busy = "for turn in 1 2 3 4 5 6 7 8 9 10; do dd if=/dev/zero of=/dev/null bs=64k count=200 2>/dev/null; sleep 0.25; done";
    let run = net.host.run(&[], &["sh", "-c", &format!("{fetch}; {busy}; {fetch}; true")]);
    let report = run.assert_ok().report();
    let seconds = report["run"]["duration_ns"].as_u64().expect("a number") / 1_000_000_000;
    assert!(intervals(report).len() as u64 > seconds + 2, "{report:#}");
    for (pointer, expected) in
        [("/opened_connections", 2), ("/closed_connections", 2), ("/failed_attempts", 2), ("/connect/count", 2)]
    {
        assert_eq!(sum(report, pointer), expected, "{pointer}: {report:#}");
    }
    assert!(sum(report, "/dns/count") >= 1 && sum(report, "/cpu_ns") > 0, "{report:#}");
    let times = intervals(report).iter().find_map(|interval| interval.get("connect")).expect("times");
    let time = |key: &str| times[key].as_u64().expect("a number");
    assert!(time("p50_ns") <= time("p99_ns") && time("p99_ns") <= time("max_ns"), "{times}");
}

#[test]
fn a_soak_writes_interim_reports_and_keeps_its_code() {
    let net = internet!();
    // Ends when there are two of them.
    let script = "until [ $(ls reports/netwatch-*.json 2>/dev/null | wc -l) -ge 2 ]; do \
                  curl -4 -sS -o /dev/null http://app.example/; sleep 0.2; done; exit 3";
    net.host.sh("mkdir reports && chmod 777 reports");
    let run = net.host.run(&["--soak", "--report-every", "1s", "--report-dir", "reports"], &["sh", "-c", script]);
    let report = run.assert_code(3).report();
    let files =
        fs::read_dir(net.host.dir().join("reports")).expect("a folder").map(|entry| entry.expect("a file").path());
    let mut interim: Vec<_> = files.collect();
    interim.sort();
    let read = |path: &std::path::PathBuf| serde_json::from_slice::<Value>(&fs::read(path).expect("readable")).ok();
    let first = read(&interim[0]).expect("the first was written when the second began");
    assert_eq!((&first["complete"], &first["run"]["id"]), (&Value::Bool(false), &report["run"]["id"]), "{first:#}");
    let packets = |report: &Value| report["totals"]["egress"]["packets"].as_u64().unwrap_or_default();
    assert!(packets(&first) > 0 && packets(&first) <= packets(report), "{first:#}");
}
