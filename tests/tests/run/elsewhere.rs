//! What a dead run recorded is put right in its own network namespace and nowhere else. `/run` is shared by all of them.

use netwatch_tests::{FinishedRun, HostSnapshot, TestInternet, eventually, internet};

const DROPS: &str = "nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'";

/// A run whose netwatch and guardian were killed at once, so that nobody has undone anything.
fn leave_a_dead_run(net: &TestInternet) -> FinishedRun {
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running.kill_with_guardian()
}

/// Runs netwatch in another network namespace of the host, whose firewall looks the same.
fn elsewhere(net: &TestInternet, arguments: &str) -> (bool, String) {
    let script = format!("{DROPS}; {} {arguments}", net.host.binary().display());
    let output = net.host.command("unshare").args(["--net", "sh", "-euc", &script]).output().expect("start unshare");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// What stays: the killed processes, and the link with their namespace, take their time.
fn settled(net: &TestInternet) -> HostSnapshot {
    eventually(|| if net.host.processes().is_empty() { Ok(()) } else { Err("still alive".into()) }).unwrap();
    net.host.wait_for("! ip link | grep -q ' nw'");
    net.host.state()
}

#[test]
fn another_namespace_leaves_a_dead_run_alone() {
    let net = internet!();
    net.host.sh(DROPS);
    let before = net.host.state();
    leave_a_dead_run(&net);
    let dead = settled(&net);
    before.compare(&dead).expect_err("something is left to undo");
    let (ok, said) = elsewhere(&net, "clean");
    assert!(!ok && said.contains("another network namespace") && said.contains("`netwatch clean` there"), "{said}");
    dead.compare(&net.host.state()).unwrap_or_else(|difference| panic!("clean elsewhere changed:\n{difference}"));
    let (ok, said) = elsewhere(&net, "run -q -- echo worked");
    assert!(ok && said.contains("worked\n"), "{said}");
    dead.compare(&net.host.state()).unwrap_or_else(|difference| panic!("a run elsewhere changed:\n{difference}"));
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn what_is_left_of_a_namespace_that_is_gone_is_cleaned_from_anywhere() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let script = format!("{DROPS}; exec {} run -q -- sh -c 'echo ready; exec sleep 300'", net.host.binary().display());
    let mut there = net.host.command("unshare");
    let mut child = there.args(["--net", "sh", "-euc", &script]).spawn().expect("start unshare");
    net.host.wait_for("ls /run/netwatch/*/card.json");
    // netwatch, its guardian and the command: with them the namespace goes.
    for pid in net.host.processes().into_iter().rev() {
        // SAFETY: a plain system call; the process was started by this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    child.wait().expect("wait for netwatch");
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}
