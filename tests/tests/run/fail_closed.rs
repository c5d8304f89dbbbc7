//! The host forwards for no other machine, whichever process of a run is killed or stopped, and
//! whatever becomes of the host's firewall. A neighbor probes all the time.

use std::thread;
use std::time::Duration;

use netwatch_tests::{NeighborProbes, RunningNetwatch, TestInternet, internet};

/// A run whose command waits.
fn start_waiting(net: &TestInternet) -> RunningNetwatch {
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: the call takes no pointer. The process is a netwatch of the test or its guardian, and
    // its parent has not waited for it.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send signal {signal} to {pid}");
}

/// What the host's administrator does to the firewall.
const FLUSH: &str = "nft flush ruleset; iptables -F; ip6tables -F";

#[test]
fn no_probe_passes_while_processes_of_a_run_are_killed() {
    let net = internet!();
    let probes = NeighborProbes::start(&net);
    net.host.run(&["-q"], &["true"]).assert_ok();
    net.host.sh(FLUSH);
    let before = net.host.state();
    for flush in ["", FLUSH] {
        for victim in ["netwatch", "guardian", "both"] {
            let running = start_waiting(&net);
            net.host.sh(flush);
            probes.assert_none_passed(&format!("during the run {flush}"));
            match victim {
                "netwatch" => running.signal(libc::SIGKILL),
                "guardian" => signal(running.guardian(), libc::SIGKILL),
                _ => drop(running.kill_with_guardian()),
            }
            probes.assert_none_passed(&format!("{victim} killed {flush}"));
            net.host.sh(flush);
            probes.assert_none_passed(&format!("{victim} killed, then {flush}"));
            net.host.netwatch(&["clean"]).assert_ok();
        }
    }
    net.host.assert_nothing_left(&before);
    probes.assert_none_passed("at the end");
}

#[test]
fn no_probe_passes_while_processes_of_a_run_are_stopped() {
    let net = internet!();
    let probes = NeighborProbes::start(&net);
    net.host.sh(FLUSH);
    let before = net.host.state();
    for [netwatch, guardian] in [[true, false], [false, true], [true, true]] {
        let running = start_waiting(&net);
        let processes = [(netwatch, running.pid()), (guardian, running.guardian())];
        let stopped: Vec<i32> = processes.into_iter().filter(|(stops, _)| *stops).map(|(_, pid)| pid).collect();
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        net.host.sh(FLUSH);
        probes.assert_none_passed("stopped");
        // Another run uses the same switches meanwhile.
        net.host.run(&["-q"], &["curl", "-sS", "http://app.example/"]).assert_ok();
        probes.assert_none_passed("another run has ended");
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
        running.signal(libc::SIGTERM);
        running.finish();
        probes.assert_none_passed("ended");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn no_probe_passes_at_any_moment_of_overlapping_runs() {
    let net = internet!();
    let probes = NeighborProbes::start(&net);
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    // Milliseconds after the start of the second run. A test of any moment is valid.
    for (number, millis) in [0, 5, 12, 25, 40, 70, 110, 160].into_iter().enumerate() {
        let first = start_waiting(&net);
        let mut second = net.host.start(&[], &["sleep", "0.05"]);
        thread::sleep(Duration::from_millis(millis));
        match number % 3 {
            0 => drop(first.kill_with_guardian()),
            1 => first.signal(libc::SIGKILL),
            _ => first.signal(libc::SIGTERM),
        }
        if number % 2 == 0 && second.is_running() {
            second.signal(libc::SIGKILL);
        }
        second.finish();
        probes.assert_none_passed(&format!("moment {millis}"));
        net.host.netwatch(&["clean"]).assert_ok();
    }
    net.host.assert_nothing_left(&before);
    probes.assert_none_passed("at the end");
}
