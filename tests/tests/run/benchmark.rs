//! `netwatch bench` and `netwatch compare` on real runs: what is measured, verdicts, what is
//! recorded and what is left.

use std::fs;

use netwatch_tests::{StartOptions, USER, USER_ID, internet, wait_until};
use serde_json::Value;

const ONE: &str = "curl -4 -sS -o /dev/null http://app.example/";
const TWO: &str = "curl -4 -sS -o /dev/null http://app.example/; curl -4 -sS -o /dev/null http://app.example/";

fn metric<'a>(document: &'a Value, key: &str) -> &'a Value {
    let rows = document["metrics"].as_array().expect("a list").iter();
    let mut rows = rows.filter(|row| row["metric"] == key && row.get("endpoint").is_none());
    rows.next().unwrap_or_else(|| panic!("no {key}: {document:#}"))
}

fn run_ids(side: &Value) -> Vec<&str> {
    side["runs"].as_array().expect("a list").iter().map(|run| run["run_id"].as_str().expect("an id")).collect()
}

#[test]
fn each_measured_run_is_an_ordinary_recorded_run() {
    let net = internet!();
    let before = net.host.state();
    let prepare = "echo prepared >> prepared.txt; test \"$(id -u)\" = 0";
    let arguments = ["bench", "-n", "4", "--prepare", prepare, "--format", "json", "-o", "bench.json", "--"];
    let run = net.host.netwatch(&[&arguments[..], &["sh", "-c", &format!("echo output; {ONE}")]].concat());
    run.assert_ok();
    assert!(run.stdout.is_empty() && !run.stderr.contains("output"), "{run}");
    assert!(run.stderr.contains("warm-up 1 of 1") && run.stderr.contains("run 4 of 4"), "{run}");
    let prepared = fs::read_to_string(net.host.dir().join("prepared.txt")).expect("prepared");
    assert_eq!(prepared.lines().count(), 5, "before the warm-up too");
    let document: Value = serde_json::from_slice(&fs::read(net.host.dir().join("bench.json")).unwrap()).unwrap();
    assert_eq!(metric(&document, "connections")["sides"][0]["values"], serde_json::json!([1, 1, 1, 1]));
    assert!(metric(&document, "duration_ns")["sides"][0]["median"].as_f64() > Some(0.0), "{document:#}");
    let ids = run_ids(&document["sides"][0]);
    let history: Value = serde_json::from_str(&net.host.netwatch(&["history", "-j"]).stdout).expect("JSON");
    let stored: Vec<&str> =
        history["runs"].as_array().expect("a list").iter().map(|run| run["id"].as_str().expect("an id")).collect();
    assert_eq!(stored.into_iter().rev().collect::<Vec<_>>(), ids, "warm-ups are not recorded");
    for id in ids {
        let report = net.host.netwatch(&["report", "--format", "json", id]);
        let report: Value = serde_json::from_str(&report.assert_ok().stdout).expect("JSON");
        assert_eq!(report["run"]["id"], id);
        let has_cgroup = report["attribution"]["state"] == "on";
        assert!(!has_cgroup || report["run"].get("cpu").is_some(), "{report:#}");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn one_connection_more_is_found_in_commands_and_in_their_recordings() {
    let net = internet!();
    let output = ["--format", "json", "-o", "commands.json"];
    let run =
        net.host.netwatch(&[&["compare", "-x", "-n", "6", "--warmup", "0"], &output[..], &[ONE, "--", TWO]].concat());
    run.assert_ok();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(net.host.dir().join(name)).expect("written")).expect("JSON")
    };
    let commands = read("commands.json");
    let connections = metric(&commands, "connections");
    assert_eq!(connections["verdict"], "differs", "{connections:#}");
    assert_eq!(connections["difference"]["absolute"], 1, "{connections:#}");
    assert_eq!(metric(&commands, "failed_attempts")["verdict"], "no_difference");
    let [a, b] = [0, 1].map(|side| run_ids(&commands["sides"][side]));
    let recorded = ["compare", "--format", "json", "-o", "recorded.json"];
    net.host.netwatch(&[&recorded[..], &a, &["--"], &b].concat()).assert_ok();
    assert_eq!(read("recorded.json")["metrics"], commands["metrics"], "equal runs give equal statistics");
    let text = net.host.netwatch(&[&["compare"], &a[..], &["--"], &b].concat());
    let line = text.assert_ok().stdout.lines().find(|line| line.starts_with("TCP connections ")).expect("a row");
    assert!(line.ends_with("100 % ± 0 % more"), "{text}");
}

#[test]
fn a_command_that_fails_ends_the_benchmark() {
    let net = internet!();
    for (command, code) in [("exit 3", 3), ("no-such-program", 127)] {
        let run = net.host.netwatch(&["bench", "--warmup", "0", "--", "sh", "-c", command]);
        run.assert_code(1);
        assert!(run.stdout.is_empty() && run.stderr.contains(&format!("exited with code {code}")), "{run}");
        assert!(!run.stderr.contains("run 2 of"), "{run}");
    }
    let ignored = net.host.netwatch(&["bench", "-n", "2", "--warmup", "0", "-i", "--", "sh", "-c", "exit 3"]);
    assert!(ignored.assert_ok().stdout.contains("duration"), "{ignored}");
    let prepare = net.host.netwatch(&["bench", "--prepare", "exit 4", "--", "true"]);
    prepare.assert_error(2, &["--prepare", "exit status: 4"]);
}

#[test]
fn a_benchmark_that_is_ended_leaves_no_run() {
    let net = internet!();
    let before = net.host.state();
    let arguments = ["bench", "--show-output", "--", "sh", "-c", "echo ready; exec sleep 300"];
    let running = net.host.start_netwatch(&arguments);
    running.wait_for_stderr("ready");
    running.signal(libc::SIGTERM);
    assert_eq!(running.finish_early().signal, Some(libc::SIGTERM));
    wait_until(|| before.compare(&net.host.state()).is_ok(), || "the run to be undone".to_owned());
}

/// The rights of the user are taken for a while to find the command, which resets the signal that
/// ends a run with its benchmark.
#[test]
fn a_benchmark_of_a_sudo_user_that_is_ended_leaves_no_run() {
    let net = internet!();
    let before = net.host.state();
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let arguments = ["bench", "--show-output", "--", "sh", "-c", "echo ready; exec sleep 300"];
    let running = net.host.start_netwatch_with(sudo, &arguments);
    running.wait_for_stderr("ready");
    running.signal(libc::SIGTERM);
    assert_eq!(running.finish_early().signal, Some(libc::SIGTERM));
    wait_until(|| before.compare(&net.host.state()).is_ok(), || "the run to be undone".to_owned());
}

/// A failure of netwatch is not one of the command.
#[test]
fn a_benchmark_without_root_is_an_error() {
    let net = internet!();
    let binary = net.host.binary();
    for flags in [&["--warmup", "0"][..], &["--warmup", "1", "--ignore-failure"]] {
        let mut command = net.host.command("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(&binary).arg("bench");
        let output = command.args(flags).args(["--", "true"]).output().expect("start setpriv");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("sudo") && !stderr.contains("exited with code"), "{stderr}");
        assert!(output.stdout.is_empty(), "{stderr}");
    }
}

/// The command handles the signal and succeeds.
#[test]
fn the_keyboard_ends_a_benchmark_after_the_run() {
    let net = internet!();
    let before = net.host.state();
    let script = "trap 'exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = net.host.on_terminal(100, &["bench", "-i", "--show-output", "--", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.type_keys("\x03");
    let (status, screen) = terminal.finish();
    assert_eq!(status.code(), Some(130), "{screen}");
    assert!(screen.contains("interrupted") && !screen.contains("run 1 of"), "{screen}");
    net.host.assert_nothing_left(&before);
}
