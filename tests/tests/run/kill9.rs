//! SIGKILL of netwatch alone, at twenty different moments of set-up, run and tear-down.

use std::thread;
use std::time::Duration;

use netwatch_tests::{TestInternet, eventually, internet};

/// Milliseconds after the start: dense where the set-up is, some while the command runs, some around its end at 100.
const MOMENTS: [u64; 20] = [0, 1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 60, 90, 105, 115, 125, 140, 160];

fn kill_at(net: &TestInternet, millis: u64, flags: &[&str]) {
    let mut running = net.host.start(flags, &["sh", "-c", "(setsid sleep 300 &); sleep 0.1"]);
    thread::sleep(Duration::from_millis(millis));
    if running.is_running() {
        running.signal(libc::SIGKILL);
    }
    running.finish();
    let alive = || net.host.processes();
    eventually(|| if alive().is_empty() { Ok(()) } else { Err(format!("{:?}", alive())) })
        .unwrap_or_else(|left| panic!("killed after {millis} ms, still alive after a second: {left}"));
}

#[test]
fn nothing_is_left_after_clean() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    for millis in MOMENTS {
        kill_at(&net, millis, &[]);
        net.host.netwatch(&["clean"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn nothing_is_left_after_the_next_run() {
    let net = internet!();
    // Everything that has to be put right by hand: a foreign chain, a name, published ports, loopback routing.
    net.host.sh("nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'");
    net.host.netwatch(&["run", "-q", "--name", "pink", "--", "true"]).assert_ok();
    let before = net.host.state();
    for millis in MOMENTS {
        kill_at(&net, millis, &["--name", "pink", "--publish", "8080:80", "--host-loopback"]);
        net.host.run(&["-q"], &["true"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}
