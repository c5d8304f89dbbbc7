//! The changes of a killed run are undone in its own network namespace only. `/run` is shared by
//! all network namespaces of a host.

use netwatch_tests::{HostSnapshot, TestInternet, internet, wait_until};

const DROPS: &str = "nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'";

/// Starts a run and kills netwatch and its guardian at once, so that nothing is undone.
fn leave_a_killed_run(net: &TestInternet) {
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running.kill_with_guardian();
}

/// Runs netwatch in another network namespace of the host, which has the same firewall rules.
fn netwatch_elsewhere(net: &TestInternet, arguments: &str) -> (bool, String) {
    let script = format!("{DROPS}; {} {arguments}", net.host.binary().display());
    let output = net.host.command("unshare").args(["--net", "sh", "-euc", &script]).output().expect("start unshare");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The host once the killed processes have ended and the kernel has removed the link with their
/// namespace.
fn snapshot_without_processes(net: &TestInternet) -> HostSnapshot {
    wait_until(|| net.host.processes().is_empty(), || format!("the end of {:?}", net.host.processes()));
    net.host.wait_for("! ip link | grep -q ' nw'");
    net.host.state()
}

#[test]
fn netwatch_in_another_namespace_leaves_a_killed_run_alone() {
    let net = internet!();
    net.host.sh(DROPS);
    let before = net.host.state();
    leave_a_killed_run(&net);
    let killed = snapshot_without_processes(&net);
    before.compare(&killed).expect_err("there are changes to undo");
    let (ok, output) = netwatch_elsewhere(&net, "clean");
    assert!(
        !ok && output.contains("another network namespace") && output.contains("`netwatch clean` there"),
        "{output}"
    );
    killed.compare(&net.host.state()).unwrap_or_else(|difference| panic!("clean elsewhere changed:\n{difference}"));
    let (ok, output) = netwatch_elsewhere(&net, "run -q -- echo worked");
    assert!(ok && output.contains("worked\n"), "{output}");
    killed.compare(&net.host.state()).unwrap_or_else(|difference| panic!("a run elsewhere changed:\n{difference}"));
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_killed_run_of_a_removed_namespace_is_cleaned_from_any_other() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let script = format!("{DROPS}; exec {} run -q -- sh -c 'echo ready; exec sleep 300'", net.host.binary().display());
    let mut there = net.host.command("unshare");
    let mut child = there.args(["--net", "sh", "-euc", &script]).spawn().expect("start unshare");
    net.host.wait_for("ls /run/netwatch/*/card.json");
    // netwatch, its guardian and the command. The kernel removes the namespace after its last
    // process.
    for pid in net.host.processes().into_iter().rev() {
        // SAFETY: the call takes no pointer. The process was started by this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    child.wait().expect("wait for netwatch");
    net.host.netwatch(&["clean"]).assert_ok();
    net.host.assert_nothing_left(&before);
}
