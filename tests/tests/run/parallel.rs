//! Runs at the same time count exactly their own packets.

use std::thread;

use netwatch_tests::{addresses::*, internet, report};

use crate::TRAFFIC;

#[test]
fn five_runs_and_traffic_of_the_host_at_the_same_time() {
    let net = internet!();
    let before = net.host.state();
    let to = format!("{APP_V4}:{ECHO}");
    let host = &net.host;
    thread::scope(|scope| {
        scope.spawn(|| host.sh(&format!("for n in 1 2 3 4 5; do {TRAFFIC} udp {to} 200 700; done")));
        for number in 1..=5 {
            let to = &to;
            scope.spawn(move || {
                let (count, size) = (number * 20, number * 100);
                let run = host.watch(&[TRAFFIC, "udp", to, &count.to_string(), &size.to_string()]);
                let endpoint = report::endpoint(run.assert_ok().report(), "udp", APP_V4, ECHO);
                for direction in report::DIRECTIONS {
                    report::assert_packets(endpoint, direction, count, 42 + size);
                }
                assert_eq!(report::list(run.report(), "endpoints").len(), 1, "{run}");
            });
        }
    });
    net.host.assert_nothing_left(&before);
}

#[test]
fn clean_leaves_active_runs_alone() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("echo ready; {}; curl -sS http://app.example/", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    net.host.netwatch(&["clean"]).assert_ok();
    gate.open();
    assert!(running.finish().assert_ok().stdout.contains("hello"));
}

#[test]
fn a_run_within_a_run_is_counted_by_both() {
    let net = internet!();
    let before = net.host.state();
    let binary = net.host.binary();
    let file = net.host.dir().join("inner.json");
    let inner = [binary.to_str().unwrap(), "run", "-q", "-j", "-o", file.to_str().unwrap(), "--"];
    let traffic = [TRAFFIC, "udp", &format!("{APP_V4}:{ECHO}"), "5", "100"];
    let run = net.host.watch(&[&inner[..], &traffic].concat());
    let inner = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    report::assert_balanced(&inner);
    for document in [run.assert_ok().report(), &inner] {
        report::assert_packets(report::endpoint(document, "udp", APP_V4, ECHO), "ingress", 5, 142);
    }
    net.host.assert_nothing_left(&before);
}
