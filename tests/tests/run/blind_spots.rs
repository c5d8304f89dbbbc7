//! Notes about traffic that does not cross the link of the run.

use std::fs;

use netwatch_tests::addresses::APP_V4;
use netwatch_tests::{FinishedRun, internet, needs};
use serde_json::Value;

/// The notes of a report that contain these words.
fn notes<'a>(report: &'a Value, words: &str) -> Vec<&'a str> {
    let notes = report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    notes.filter(|note| note.contains(words)).collect()
}

#[track_caller]
fn assert_note(run: &FinishedRun, expected: &str) {
    assert_eq!(notes(run.report(), expected).len(), 1, "{expected:?}: {run}");
}

#[test]
fn an_inherited_socket_is_listed() {
    needs!("bash");
    let net = internet!();
    // Bash opens the sockets in the namespace of the host.
    let script = format!(
        "exec 7<>/dev/udp/{APP_V4}/7; exec \"$0\" run -q -j -o \"$1.json\" -u \"$1\" -- sh -c 'echo hello >&7'"
    );
    for (user, expected) in [("root", 1), ("tester", 0)] {
        let mut command = net.host.command("bash");
        let output = command.args(["-c", &script]).arg(net.host.binary()).arg(user).output().expect("start bash");
        let text = fs::read_to_string(net.host.dir().join(format!("{user}.json"))).expect("a report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let listed = notes(&report, "the command inherited sockets of the host");
        // Further descriptors of another user are closed.
        assert_eq!(listed.len(), expected, "{user}: {report:#} {output:?}");
        let end = format!("to {APP_V4}:7)");
        assert!(listed.iter().all(|note| note.contains("descriptor 7 (") && note.contains(&end)), "{listed:?}");
    }
}

#[test]
fn interfaces_that_the_command_made_are_listed() {
    let net = internet!();
    let script = "ip link add mine0 type veth peer name mine1; ip link set mine0 up; ip link del mine0";
    assert_note(net.host.watch(&["sh", "-ec", script]).assert_ok(), "the command made network interfaces (mine0): ");
}

#[test]
fn programs_in_a_namespace_of_their_own_are_named() {
    needs!("curl", "unshare");
    let net = internet!();
    let run = net.host.watch(&["unshare", "--net", "curl", "-s", "http://127.0.0.1:9/"]);
    assert_note(&run, "curl used sockets in another network namespace than the one of the run");
}

#[test]
fn a_published_port_that_the_user_may_not_bind_is_noted_if_the_command_failed() {
    let net = internet!();
    let words = "port 80 is published, but no program bound it";
    for (user, code, expected) in [("tester", 1, 1), ("tester", 0, 0), ("root", 1, 0)] {
        let exit = format!("exit {code}");
        let run = net.host.run(&["-u", user, "--publish", "8080:80"], &["sh", "-c", &exit]);
        assert_eq!(notes(run.assert_code(code).report(), words).len(), expected, "{user}: {run}");
    }
}

#[test]
fn an_ordinary_run_has_no_notes() {
    let net = internet!();
    let run = net.host.watch(&["curl", "-s", "-o", "/dev/null", "http://app.example/"]);
    assert_eq!(notes(run.assert_ok().report(), ""), [""; 0], "{run}");
}
