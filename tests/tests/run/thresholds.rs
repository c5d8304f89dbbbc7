//! `--fail-if`: the exit code, the reason in every report, and what keeps the code of the command.

use netwatch_tests::{StartOptions, internet};
use serde_json::Value;

/// One connection that succeeds, and one that is refused.
const ONE_FAILS: &str =
    "curl -4 -sS -o /dev/null http://app.example/; curl -4 -s -o /dev/null http://app.example:81/; exit ";

fn notes(report: &Value) -> Vec<&str> {
    report["notes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_crossed_threshold_changes_only_the_code_of_success() {
    let net = internet!();
    let command = |code: u8| format!("{ONE_FAILS}{code}");
    for (flags, code, expected) in [
        (&["--fail-if", "failed > 0"][..], 0, 121),
        (&["--fail-if", "failed > 0", "--fail-code", "7"], 0, 7),
        (&["--fail-if", "failed > 0"], 3, 3),
        (&["--fail-if", "failed > 1"], 0, 0),
        (&["--fail-if", "p99(connect) > 1h, connections != 2"], 0, 0),
        (&["--fail-if", "open >= 1"], 0, 121),
        (&["--fail-if", "open > 0 for 1h"], 0, 0),
    ] {
        let run = net.host.run(flags, &["sh", "-c", &command(code)]);
        run.assert_code(expected);
        let has_reason = notes(run.report()).iter().any(|note| note.starts_with("threshold "));
        assert_eq!(has_reason, expected != 0, "{run}");
    }
}

#[test]
fn the_reason_is_in_the_report_the_recording_and_the_annotations() {
    let net = internet!();
    let reason = "threshold failed > 0: it is 1";
    let command = format!("{ONE_FAILS}0");
    let arguments = ["run", "--fail-if", "failed > 0", "--", "sh", "-c", &command];
    let options = StartOptions::env(&[("GITHUB_ACTIONS", "true")]);
    let run = net.host.netwatch_with(options, &arguments);
    run.assert_code(121);
    assert!(run.stderr.lines().any(|line| line.contains(reason)), "in the summary: {run}");
    assert!(run.stderr.lines().any(|line| line == format!("::error title=netwatch::{reason}")), "{run}");
    let report = net.host.netwatch(&["report", "--format", "json"]);
    let report: Value = serde_json::from_str(&report.assert_ok().stdout).expect("JSON");
    assert!(notes(&report).contains(&reason), "{report:#}");
    let page = net.host.netwatch(&["report", "--format", "html"]);
    assert!(page.assert_ok().stdout.contains("threshold failed &gt; 0: it is 1"));
    let quiet = net.host.netwatch(&[&["run", "-q"], &arguments[1..]].concat());
    assert!(quiet.assert_code(121).stderr.lines().any(|line| line == format!("netwatch: {reason}")), "{quiet}");
}

/// The run continues after the crossing, until the gate is open.
#[test]
fn a_crossed_threshold_is_reported_while_the_run_lasts() {
    let net = internet!();
    let gate = net.host.gate();
    let wait = ONE_FAILS.replace("exit ", &gate.wait());
    let flags = ["--fail-if", "connections > 1", "--fail-if", "open < 7 for 1s", "--fail-if", "connections > 9"];
    let running = net.host.start(&flags, &["sh", "-c", &wait]);
    running.wait_for_stderr("netwatch: threshold connections > 1: crossed after ");
    running.wait_for_stderr("netwatch: threshold open < 7 for 1s: crossed after ");
    gate.open();
    let run = running.finish();
    run.assert_code(121);
    let notes = notes(run.report());
    let of = |start: &str| notes.iter().filter(|note| note.starts_with(start)).count();
    assert_eq!(of("threshold connections > 1: crossed after "), 1, "{run}");
    assert_eq!((of("threshold connections > 1: it is 2"), of("threshold open < 7 for 1s: it is ")), (1, 1), "{run}");
    assert_eq!(of("threshold connections > 9"), 0, "{run}");
}

#[test]
fn a_mistake_in_a_condition_names_its_column() {
    let net = internet!();
    let run = net.host.netwatch(&["run", "--fail-if", "p99(conect) > 50ms", "--", "true"]);
    run.assert_code(125);
    assert!(run.stderr.contains("column 5: unknown times \"conect\"; expected connect, rtt, dns"), "{run}");
}
