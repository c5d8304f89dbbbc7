//! Times in reports are those of the system clock, whatever the clocks of the kernel count.

use std::time::{SystemTime, UNIX_EPOCH};

use netwatch_tests::{internet, report};
use serde_json::Value;

/// In a time namespace, as of a container that was moved to another machine, the clocks that
/// netwatch reads differ from those of the kernel.
#[test]
fn a_time_namespace_changes_no_time() {
    let net = internet!();
    for offset in ["864000", "-1"] {
        let file = net.host.dir().join(format!("report{offset}.json"));
        let began = now_ns();
        let mut command = net.host.command("unshare");
        command.args(["--time", "--monotonic", "3600", "--boottime", offset, "--fork"]).arg(net.host.binary());
        command.args(["run", "-q", "-j", "-o"]).arg(&file).args(["--", "curl", "-sS", "http://app.example/"]);
        let output = command.output().expect("unshare starts");
        let ended = now_ns();
        assert!(output.status.success() && output.stdout == b"hello\n", "{output:?}");
        let text = std::fs::read_to_string(&file).expect("a report");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        let flows = report::list(&document, "flows");
        let processes = report::list(&document, "processes");
        assert!(!flows.is_empty() && !processes.is_empty(), "{text}");
        let times = flows.iter().map(|flow| &flow["first_seen"]);
        let times =
            times.chain(processes.iter().map(|process| &process["started"])).chain([&document["run"]["started"]]);
        // The start of a process may be known to a hundredth of a second only.
        let range = began - 10_000_000..=ended;
        for time in times {
            assert!(range.contains(&unix_ns(time)), "{time}, offset {offset}: {text}");
        }
        assert!(report::number(&document, "run.duration_ns") as u64 <= ended - began, "{text}");
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

/// Parses a time of a report, `2026-01-01T00:00:00.001000000Z`.
fn unix_ns(time: &Value) -> u64 {
    let time = time.as_str().and_then(|time| humantime::parse_rfc3339(time).ok()).expect("a time");
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}
