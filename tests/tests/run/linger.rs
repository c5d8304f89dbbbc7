//! Daemons that the command leaves behind.

use std::time::Duration;

use netwatch_tests::{FinishedRun, addresses::*, internet, report};

use crate::TRAFFIC;

/// The command ends at once; its daemon sends 300 ms later.
fn run(net: &netwatch_tests::TestInternet, flags: &[&str]) -> FinishedRun {
    let script = format!("{TRAFFIC} daemon 300 {TRAFFIC} udp {APP_V4}:{ECHO} 10 100; exit 6");
    net.host.run(flags, &["sh", "-c", &script])
}

fn daemon_was_counted(run: &FinishedRun) -> bool {
    !report::flows(run.report(), "udp", APP_V4, ECHO).is_empty()
}

#[test]
fn without_linger_they_are_ended_and_it_is_said() {
    let net = internet!();
    let before = net.host.state();
    let run = run(&net, &[]);
    run.assert_code(6);
    assert!(!daemon_was_counted(&run), "{run}");
    assert!(run.stderr.contains("--linger"), "says what was ended and how to wait: {run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn with_linger_they_are_waited_for_and_counted() {
    let net = internet!();
    for flag in ["--linger", "--linger=10s"] {
        let before = net.host.state();
        let run = run(&net, &[flag]);
        assert!(daemon_was_counted(run.assert_code(6)), "{run}");
        report::assert_packets(report::endpoint(run.report(), "udp", APP_V4, ECHO), "ingress", 10, 142);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn linger_has_a_limit() {
    let net = internet!();
    let before = net.host.state();
    let script = format!("{TRAFFIC} daemon 300000 true");
    let run = net.host.run(&["--linger=200ms"], &["sh", "-c", &script]);
    assert!(run.assert_ok().took < Duration::from_secs(3), "{run}");
    net.host.assert_nothing_left(&before);
}
