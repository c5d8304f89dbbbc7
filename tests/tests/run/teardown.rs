//! Nothing stays behind, and nobody outlives netwatch.

use netwatch_tests::{eventually, internet};

use crate::TRAFFIC;

#[test]
fn an_ordinary_run_leaves_the_host_as_it_was() {
    let net = internet!();
    let before = net.host.state();
    for command in [&["true"][..], &["curl", "-s", "http://app.example/"], &["/nonexistent"]] {
        net.host.watch(command);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn there_is_something_to_see_while_it_runs() {
    let net = internet!();
    let before = net.host.state();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 20"]);
    running.wait_for_stdout("ready");
    let difference = before.compare(&net.host.state()).expect_err("a run changes the host");
    for change in ["link: ", "nft: ", "table", "netwatch-", "sysctl: ", "file: "] {
        assert!(difference.contains(change), "{change} in:\n{difference}");
    }
}

#[test]
fn daemons_do_not_outlive_it() {
    let net = internet!();
    for end in ["exit 0", "kill -KILL $$"] {
        let before = net.host.state();
        let script = format!("{TRAFFIC} daemon 20000 true; (setsid sleep 20 &); sleep 20 & {end}");
        net.host.watch(&["sh", "-c", &script]);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn when_only_netwatch_is_killed_all_of_the_run_dies_within_a_second() {
    let net = internet!();
    for user in ["root", "tester"] {
        // Set-uid programs and other users would escape PDEATHSIG; so would grandchildren.
        let script = format!("{TRAFFIC} daemon 20000 true; (setsid sleep 20 &); echo ready; sleep 20");
        let script = if user == "tester" { "(setsid sleep 20 &); echo ready; sleep 20".to_owned() } else { script };
        let mut running = net.host.start(&["-u", user], &["sh", "-c", &script]);
        running.wait_for_stdout("ready");
        running.signal(libc::SIGKILL);
        running.finish();
        let left = || net.host.processes();
        eventually(|| if left().is_empty() { Ok(()) } else { Err(format!("{:?}", left())) })
            .unwrap_or_else(|left| panic!("still alive, as {user}: {left}"));
        net.host.netwatch(&["clean"]).assert_ok();
    }
}
