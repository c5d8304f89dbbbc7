//! `--duration` ends the command after a time.

use std::time::Duration;

use netwatch_tests::internet;

#[test]
fn it_ends_the_command_with_exit_code_124() {
    let net = internet!();
    // Both run longer than the harness waits.
    for command in ["exec sleep 300", "trap '' TERM; while :; do sleep 0.1; done"] {
        let before = net.host.state();
        let run = net.host.run(&["--duration", "300ms"], &["sh", "-c", command]);
        run.assert_code(124).report();
        assert!(run.took >= Duration::from_millis(300), "{run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_command_that_ends_before_keeps_its_exit_code() {
    let net = internet!();
    net.host.run(&["--duration", "300s"], &["sh", "-c", "exit 3"]).assert_code(3);
}
