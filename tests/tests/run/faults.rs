//! The set-up fails at each step in turn, and leaves nothing behind; what fails later is said.

use std::time::Duration;

use netwatch_tests::{StartOptions, addresses::*, internet, report, skip};

use crate::TRAFFIC;

#[test]
fn every_step_that_fails_undoes_the_ones_before() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // So that every step has something to do.
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    let flags = ["--name", "grey", "--publish", "8080:80", "--host-loopback"];
    net.host.run(&flags, &["true"]).assert_ok();
    let steps = net.host.netwatch(&["__faults"]).assert_ok().stdout.clone();
    assert!(steps.lines().count() >= 8, "the steps: {steps}");
    let before = net.host.state();
    for step in steps.lines() {
        let run = net.host.run_with(StartOptions::env(&[("NETWATCH_FAULT", step)]), &flags, &["echo", "started"]);
        run.assert_error(125, &[step]);
        assert_eq!(run.stdout, "", "the command must not start when {step} fails: {run}");
        net.host.assert_nothing_left(&before);
    }
}

/// The flow table cannot grow: the run goes on, says so once, and counts what found no room.
#[test]
fn a_flow_table_that_cannot_grow_is_said_once_and_costs_no_packet() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    let script = format!("{TRAFFIC} flows {APP_V4}:{ECHO} 60000 100; sleep 2.2");
    let options = StartOptions { limit: Duration::from_secs(60), ..StartOptions::env(&[("NETWATCH_FAULT", "grow")]) };
    let run = net.host.run_with(options, &[], &["sh", "-c", &script]);
    let document = run.assert_ok().report();
    assert!(report::number(document, "lost.table_full") > 0, "{run}");
    let said = report::list(document, "notes").iter().filter(|note| note.as_str().unwrap_or("").contains("step grow"));
    assert_eq!(said.count(), 1, "{run}");
}
