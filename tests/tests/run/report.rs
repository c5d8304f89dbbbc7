//! `netwatch report` on runs of real traffic: every format has the numbers of the run.

use std::fs;

use netwatch_tests::internet;
use serde_json::Value;

#[test]
fn the_text_format_equals_the_summary_after_the_run() {
    let net = internet!();
    let run = net.host.run(&[], &["curl", "-sS", "-o", "/dev/null", "http://app.example/"]);
    // The last line is for the person who has just run the command.
    let (summary, _next) = run.assert_ok().stderr.split_once("next ").expect("what to do next");
    assert!(summary.contains("app.example"), "{summary}");
    assert_eq!(net.host.netwatch(&["report"]).assert_ok().stdout, summary);
}

#[test]
fn all_formats_have_the_same_numbers() {
    let net = internet!();
    net.host
        .netwatch(&[
            "run",
            "-q",
            "--",
            "curl",
            "-sSk",
            "-o",
            "/dev/null",
            "https://app.example/",
            "http://app.example/big",
        ])
        .assert_ok();
    let report = |format: &str| net.host.netwatch(&["report", "--format", format]).assert_ok().stdout.clone();
    let document: Value = serde_json::from_str(&report("json")).unwrap();
    let received = document["totals"]["ingress"]["wire_bytes"].as_u64().unwrap();
    let column =
        report("csv").lines().next().unwrap().split(',').position(|name| name == "ingress_wire_bytes").unwrap();
    // No cell of these rows contains a comma.
    let rows: Vec<Vec<String>> =
        report("csv").lines().skip(1).map(|row| row.split(',').map(str::to_owned).collect()).collect();
    let sum: u64 =
        rows.iter().filter(|row| row[1] != "loopback_flow").map(|row| row[column].parse::<u64>().unwrap()).sum();
    assert_eq!(sum, received);
    let lines: Vec<Value> = report("ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["report"]["totals"], document["totals"]);
    let intervals = lines.iter().filter(|line| line["type"] == "interval");
    let sum: u64 = intervals.map(|line| line["interval"]["ingress"]["wire_bytes"].as_u64().unwrap_or(0)).sum();
    assert_eq!(sum, received, "the intervals add up to the totals");
    let markdown = report("markdown");
    assert!(
        markdown.contains("# Network traffic of `curl`") && markdown.contains("| `app.example` | tcp/443 |"),
        "{markdown}"
    );
    let html = report("html");
    assert!(html.contains("app.example") && html.contains("id=\"plot-bytes\""), "pictures over time are there");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(html.contains(kernel.trim()) && markdown.contains(kernel.trim()));
}
