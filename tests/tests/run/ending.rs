//! Every run can be ended, whatever its command does, and with a guardian that is stopped.

use netwatch_tests::{USER, internet, wait_until};

use crate::TRAFFIC;

/// Processes of the fork bomb: with more, a busy test machine has no memory for other tests.
const BOMB_PROCESSES: &str = "700";

/// Whether a signal to this process waits to be received.
fn is_pending(pid: i32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).expect("a field of every process");
    u64::from_str_radix(pending, 16).expect("a bit mask") & (1 << (signal - 1)) != 0
}

#[test]
fn a_fork_bomb_that_ignores_sigterm_ends_at_the_second_one() {
    let net = internet!();
    for has_cgroups in [true, false] {
        if !has_cgroups {
            net.host.forbid_cgroups();
        }
        net.host.run(&["-q"], &["true"]).assert_ok();
        let before = net.host.state();
        let mut running = net.host.start(&["-u", USER], &[TRAFFIC, "bomb", BOMB_PROCESSES]);
        running.wait_for_stdout("full");
        running.signal(libc::SIGTERM);
        // The command ignores it, so it is only forwarded. A second one before that would be lost.
        wait_until(|| !is_pending(running.pid(), libc::SIGTERM), || "the first SIGTERM to be received".to_owned());
        running.signal(libc::SIGTERM);
        let run = running.finish();
        assert!(matches!(run.code, Some(137 | 143)), "cgroup: {has_cgroups} {run}");
        net.host.assert_nothing_left(&before);
    }
}

/// Stops the guardian of a run, and waits until it is stopped.
fn stop(guardian: i32) {
    // SAFETY: the call takes no pointer. netwatch is the guardian's parent and has not ended.
    assert_eq!(unsafe { libc::kill(guardian, libc::SIGSTOP) }, 0);
    let stat = || std::fs::read_to_string(format!("/proc/{guardian}/stat")).unwrap_or_default();
    wait_until(|| stat().contains(") T "), || format!("a stopped guardian: {}", stat()));
}

#[test]
fn a_run_with_a_stopped_guardian_ends_after_a_signal() {
    let net = internet!();
    let before = net.host.state();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        stop(running.guardian());
        running.signal(signal);
        let run = running.finish();
        run.assert_code(128 + signal).report();
        assert!(run.stderr.contains("the guardian of the run was stopped"), "{run}");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_run_with_a_stopped_guardian_ends_after_ctrl_c() {
    let net = internet!();
    let before = net.host.state();
    let mut terminal = net.host.on_terminal(80, &["run", "--", "sh", "-c", "echo ready; exec sleep 300"]);
    terminal.wait_for("ready");
    terminal.wait_for_foreground("netwatch");
    let guardian = net.host.sh("sed 's/.*\"guardian\":\\([0-9]*\\).*/\\1/' /run/netwatch/*/card.json");
    stop(guardian.trim().parse().expect("a pid"));
    terminal.type_keys("\x03");
    let (status, screen) = terminal.finish();
    assert_eq!(status.code(), Some(128 + libc::SIGINT), "{screen}");
    assert!(screen.contains("the guardian of the run was stopped"), "{screen}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn clean_lets_the_stopped_guardian_of_a_dead_run_continue() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let run = net.host.netwatch(&["clean"]);
    assert!(run.assert_ok().stderr.contains("nothing to clean up; 1 run is in progress"), "{run}");
    stop(running.guardian());
    running.signal(libc::SIGKILL);
    running.finish();
    assert!(!net.host.processes().is_empty(), "the guardian and the command");
    let run = net.host.netwatch(&["clean"]);
    assert!(run.assert_ok().stderr.contains("was stopped; it continues"), "{run}");
    wait_until(|| net.host.processes().is_empty(), || format!("the end of {:?}", net.host.processes()));
    net.host.assert_nothing_left(&before);
}
