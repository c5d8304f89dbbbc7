//! The set-up fails at each step in turn, and leaves nothing behind.

use netwatch_tests::{Options, internet, skip};

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
        let run = net.host.run_with(Options::env(&[("NETWATCH_FAULT", step)]), &flags, &["echo", "started"]);
        run.assert_error(125, &[step]);
        assert_eq!(run.stdout, "", "the command must not start when {step} fails: {run}");
        net.host.assert_nothing_left(&before);
    }
}
