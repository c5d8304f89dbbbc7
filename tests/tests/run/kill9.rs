//! SIGKILL of netwatch alone, at moments of the set-up, the run and the tear-down, and of its whole
//! process group.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

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

/// A command that ignores SIGTERM and leaves a daemon in a session of its own.
const STUBBORN: &str = "trap '' TERM; (setsid sleep 300 &); touch started; sleep 300";

/// Starts the command line in a process group of its own, as a shell does.
fn start_group(net: &TestInternet, mut command: Command) -> (Child, Pid) {
    net.host.sh("rm -f started");
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("start netwatch");
    let group = Pid::from_raw(child.id().cast_signed());
    (child, group)
}

/// The guardian is outside the group.
#[test]
fn nothing_is_left_when_the_process_group_is_killed() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    for moment in MOMENTS[2..].iter().copied().chain(["ls started"]) {
        let mut command = net.host.command(net.host.binary());
        command.args(["run", "-q", "--name", "navy", "--", "sh", "-c", STUBBORN]);
        let (mut netwatch, group) = start_group(&net, command);
        net.host.wait_for(moment);
        killpg(group, Signal::SIGKILL).expect("kill the group");
        netwatch.wait().expect("wait for netwatch");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn nothing_is_left_after_timeout_with_a_kill() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let mut command = net.host.command("timeout");
    command.args(["--kill-after=0.1", "300"]).arg(net.host.binary());
    command.args(["run", "-q", "--", "sh", "-c", STUBBORN]);
    let (mut timeout, group) = start_group(&net, command);
    net.host.wait_for("ls started");
    // As at the end of its time: TERM to its group, then KILL.
    kill(group, Signal::SIGTERM).expect("signal timeout");
    timeout.wait().expect("wait for timeout");
    net.host.assert_nothing_left(&before);
}
