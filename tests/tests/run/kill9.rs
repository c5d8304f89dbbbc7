//! SIGKILL of netwatch alone, at moments of the set-up, the run and the tear-down.

use netwatch_tests::{MOMENTS, TestInternet, internet, wait_until};

/// The command runs; it has ended; the link is down; the directory of the run is removed.
const LATER: [&str; 4] = [
    "ls started",
    "ls ended",
    "ls ended && ! ip -br link | grep '^nw[0-9a-f]*@.* UP '",
    "ls ended && ! ls -d /run/netwatch/????????",
];

fn kill_at(net: &TestInternet, moment: &str, flags: &[&str]) {
    net.host.sh("rm -f started ended");
    // The daemon runs longer than the harness waits.
    let script = "(setsid sleep 300 &); touch started; ip link show >links; touch ended";
    let mut running = net.host.start(flags, &["sh", "-c", script]);
    net.host.wait_for_moment(&mut running, moment);
    if running.is_running() {
        running.signal(libc::SIGKILL);
    }
    running.finish();
    let left = || net.host.processes();
    wait_until(|| left().is_empty(), || format!("the end of {:?} after SIGKILL at {moment}", left()));
}

#[test]
fn nothing_is_left_after_clean() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    for moment in MOMENTS.into_iter().chain(LATER) {
        kill_at(&net, moment, &[]);
        net.host.netwatch(&["clean"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn nothing_is_left_after_the_next_run() {
    let net = internet!();
    // Every change that the kernel does not undo by itself: a foreign chain, a name, published
    // ports, loopback routing.
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    net.host.netwatch(&["run", "-q", "--name", "pink", "--", "true"]).assert_ok();
    let before = net.host.state();
    for moment in MOMENTS.into_iter().chain(LATER) {
        kill_at(&net, moment, &["--name", "pink", "--publish", "8080:80", "--host-loopback"]);
        net.host.run(&["-q"], &["true"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}
