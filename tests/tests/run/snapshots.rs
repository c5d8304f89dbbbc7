//! The looks of the summary and of the JSON, held by snapshots. What differs from run to run is replaced first.
//!
//! After a change that is meant: `SNAPSHOTS=overwrite cargo xtask test snapshots`, and read the difference.

use std::collections::BTreeMap;

use netwatch_tests::{FinishedRun, addresses::*, internet, report};
use serde_json::Value;
use snapbox::{assert_data_eq, file};

use crate::TRAFFIC;

fn sample() -> Option<FinishedRun> {
    let mut made = None;
    // The macro returns from where it stands, so it stands in a function of its own.
    let mut make = || {
        let net = internet!();
        let script = format!(
            "{TRAFFIC} udp {APP_V4}:{ECHO} 10 100; {TRAFFIC} udp [{APP_V6}]:{ECHO} 5 50
            {TRAFFIC} connect {APP_V4}:{REFUSED} 500; {TRAFFIC} connect {APP_V6_PORT} 200",
            APP_V6_PORT = format_args!("[{APP_V6}]:{SILENT}")
        );
        made = Some(net.host.run(&["--subnet", "10.79.0.0/24,2001:db8:79::/64"], &["sh", "-c", &script]));
    };
    make();
    made
}

/// What stays from run to run. The first two lines (the command, times, ids) and the lines that count the kernel's own packets do not.
fn steady(text: &str) -> String {
    let is_exact = |line: &&str| {
        let words = ["link housekeeping", "counted:", "interface:", "sent "];
        !words.iter().any(|start| line.trim_start().starts_with(start))
    };
    text.lines().skip(2).filter(is_exact).map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn the_summary() {
    let Some(run) = sample() else { return };
    assert_data_eq!(steady(&run.assert_ok().stderr), file!["snapshots/summary.txt"].raw());
}

/// Replaces the numbers of processes by their positions in the list, because a number also counts processes that the
/// report leaves out. Removes durations, which are left out where they are 0.
fn stabilize(value: &mut Value, positions: &BTreeMap<u64, usize>) {
    let position = |value: &mut Value| {
        if let Some(position) = value.as_u64().and_then(|number| positions.get(&number)) {
            *value = (*position).into();
        }
    };
    match value {
        Value::Object(map) => {
            map.remove("duration_ns");
            for (key, value) in map.iter_mut() {
                match (key.as_str(), value) {
                    ("number" | "parent" | "process", value) => position(value),
                    ("processes" | "socket" | "tuple" | "netns" | "inherited", Value::Array(list)) => {
                        list.iter_mut().for_each(|entry| {
                            if entry.is_number() { position(entry) } else { stabilize(entry, positions) }
                        });
                    }
                    (_, value) => stabilize(value, positions),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| stabilize(value, positions)),
        _ => {}
    }
}

/// Numbers that differ from run to run by name; addresses, counts and bytes are exact and stay.
fn blank(value: &mut Value, key: &str) {
    let volatile = [
        "id",
        "pid",
        "ppid",
        "exe",
        "started",
        "kernel_release",
        "netwatch_version",
        "first_seen",
        "handshake_rtt_ns",
        "local_port",
        "min_ns",
        "mean_ns",
        "rtt_min_ns",
        "rtt_mean_ns",
        "max_ns",
    ];
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| blank(value, key)),
        Value::Array(list) if ["command", "cmdline"].contains(&key) => {
            list.iter_mut().for_each(|word| *word = "#".into())
        }
        Value::Array(list) => list.iter_mut().for_each(|value| blank(value, key)),
        Value::String(name) if key == "name" && name.starts_with("nw") => *value = "#".into(),
        _ if volatile.contains(&key) => *value = "#".into(),
        _ => {}
    }
}

#[test]
fn the_json() {
    let Some(run) = sample() else { return };
    let mut document = run.assert_ok().report().clone();
    let numbers = report::list(&document, "processes").iter().filter_map(|process| process["number"].as_u64());
    let positions = numbers.zip(0..).collect();
    stabilize(&mut document, &positions);
    blank(&mut document, "");
    // How many neighbours had to be asked depends on what the host knew.
    let remainders = document.pointer_mut("/balance/remainders").and_then(Value::as_object_mut).expect("remainders");
    remainders.values_mut().for_each(|value| *value = "#".into());
    for part in ["interface", "counted", "dropped_skbs", "difference"] {
        document["balance"][part] = "#".into();
    }
    report::list(&document, "flows");
    assert_data_eq!(format!("{document:#}\n"), file!["snapshots/report.json"].raw());
}
