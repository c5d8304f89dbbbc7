//! Daemons of the command that still run when it ends.

use netwatch_tests::{FinishedRun, TestInternet, addresses::*, internet, report};

use crate::TRAFFIC;

/// Runs a command that ends with 6 while its daemon sends after a delay.
fn run_with_daemon(net: &TestInternet, flags: &[&str], delay_ms: u32) -> FinishedRun {
    let script = format!("{TRAFFIC} daemon {delay_ms} {TRAFFIC} udp {APP_V4}:{ECHO} 10 100; exit 6");
    net.host.run(flags, &["sh", "-c", &script])
}

fn is_daemon_counted(run: &FinishedRun) -> bool {
    !report::flows(run.report(), "udp", APP_V4, ECHO).is_empty()
}

#[test]
fn without_linger_daemons_are_ended_and_reported() {
    let net = internet!();
    let before = net.host.state();
    // Longer than the harness waits: netwatch has to end the daemon.
    let run = run_with_daemon(&net, &[], 300_000);
    run.assert_code(6);
    assert!(!is_daemon_counted(&run), "{run}");
    assert!(run.stderr.contains("--linger"), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn with_linger_netwatch_waits_for_daemons_and_counts_their_traffic() {
    let net = internet!();
    for flag in ["--linger", "--linger=300s"] {
        let before = net.host.state();
        let run = run_with_daemon(&net, &[flag], 300);
        assert!(is_daemon_counted(run.assert_code(6)), "{run}");
        report::assert_packets(report::endpoint(run.report(), "udp", APP_V4, ECHO), "ingress", 10, 142);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn linger_ends_after_its_limit() {
    let net = internet!();
    let before = net.host.state();
    // Longer than the harness waits: netwatch has to end the daemon.
    let run = run_with_daemon(&net, &["--linger=200ms"], 300_000);
    assert!(!is_daemon_counted(run.assert_code(6)), "{run}");
    net.host.assert_nothing_left(&before);
}
