//! SIGKILL of netwatch alone, at twenty moments of the set-up, the run and the tear-down.

use std::thread;
use std::time::Duration;

use netwatch_tests::{TestInternet, internet, wait_until};

/// Milliseconds after the start: most during the set-up, some while the command runs, some about
/// its end at 100. A test of any moment is valid, so a busy machine only shifts them.
const KILL_TIMES_MS: [u64; 20] = [0, 1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 60, 90, 105, 115, 125, 140, 160];

fn kill_at(net: &TestInternet, millis: u64, flags: &[&str]) {
    // The daemon runs longer than the harness waits.
    let mut running = net.host.start(flags, &["sh", "-c", "(setsid sleep 300 &); sleep 0.1"]);
    thread::sleep(Duration::from_millis(millis));
    if running.is_running() {
        running.signal(libc::SIGKILL);
    }
    running.finish();
    let left = || net.host.processes();
    wait_until(|| left().is_empty(), || format!("the end of {:?} after SIGKILL at {millis} ms", left()));
}

#[test]
fn nothing_is_left_after_clean() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    for millis in KILL_TIMES_MS {
        kill_at(&net, millis, &[]);
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
    for millis in KILL_TIMES_MS {
        kill_at(&net, millis, &["--name", "pink", "--publish", "8080:80", "--host-loopback"]);
        net.host.run(&["-q"], &["true"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}
