//! Injected faults: the set-up fails at each step in turn and leaves nothing behind; later faults
//! are reported.

use std::time::Duration;

use netwatch_tests::{StartOptions, addresses::*, internet, report, skip, wait_until};

use crate::TRAFFIC;

#[test]
fn a_set_up_that_fails_at_any_step_undoes_the_steps_before() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // With a dropping chain every step has something to do.
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    // Quiet: the last step fails after the published port was printed.
    let flags = ["-q", "--name", "grey", "--publish", "8080:80", "--host-loopback"];
    net.host.run(&flags, &["true"]).assert_ok();
    let steps = net.host.netwatch(&["__faults"]).assert_ok().stdout.clone();
    assert!(steps.lines().count() >= 8, "steps of the set-up: {steps}");
    let before = net.host.state();
    for step in steps.lines() {
        let run = net.host.run_with(StartOptions::env(&[("NETWATCH_FAULT", step)]), &flags, &["echo", "started"]);
        run.assert_error(125, &[step]);
        assert_eq!(run.stdout, "", "the command must not start when {step} fails: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_flow_table_that_cannot_grow_is_reported_once_and_every_packet_is_counted() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    let gate = net.host.gate();
    let script = format!("{TRAFFIC} flows {APP_V4}:{ECHO} 60000 100; {}", gate.wait());
    let options = StartOptions { limit: Duration::from_secs(300), ..StartOptions::env(&[("NETWATCH_FAULT", "grow")]) };
    let running = net.host.start_with(options, &[], &["sh", "-c", &script]);
    // The third growth starts after the error of the second one was handled.
    let has_tried_again = || running.stderr().matches("NETWATCH_FAULT: grow").count() >= 3;
    wait_until(has_tried_again, || format!("three growths: {}", running.stderr()));
    gate.open();
    let run = running.finish();
    let document = run.assert_ok().report();
    assert!(report::number(document, "lost.table_full") > 0, "{run}");
    let notes = report::list(document, "notes").iter();
    let of_fault = notes.filter(|note| note.as_str().unwrap_or_default().contains("step grow"));
    assert_eq!(of_fault.count(), 1, "{run}");
}
