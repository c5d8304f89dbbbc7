//! What netwatch does with signals, also with those that it inherits ignored. Signals typed at a
//! terminal are in `terminal`.

use netwatch_tests::{FinishedRun, MOMENTS, StartOptions, internet, skip};

use crate::TRAFFIC;

/// Prints the first signal that it gets and exits with 9.
const CATCH: &str = "for s in INT TERM HUP QUIT USR1; do trap \"echo got $s; exit 9\" $s; done; echo ready; while :; do sleep 0.02; done";

/// The report names this signal as what ended the command; `None`: the command itself.
#[track_caller]
fn assert_ended_by(run: &FinishedRun, signal: Option<i32>) {
    let facts = &run.report()["run"];
    assert_eq!(facts["ended_by"], if signal.is_some() { "signal" } else { "command" }, "{run}");
    assert_eq!(facts["ended_by_signal"].as_i64(), signal.map(i64::from), "{run}");
}

#[test]
fn signals_from_another_process_are_forwarded() {
    let net = internet!();
    for (signal, name) in
        [(libc::SIGINT, "INT"), (libc::SIGTERM, "TERM"), (libc::SIGHUP, "HUP"), (libc::SIGQUIT, "QUIT")]
    {
        let before = net.host.state();
        let mut running = net.host.start(&[], &["sh", "-c", CATCH]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        let run = running.finish();
        assert_ended_by(run.assert_code(9), None);
        assert!(run.stdout.contains(&format!("got {name}")), "{run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_command_killed_by_a_signal_gives_exit_code_128_plus_its_number() {
    let net = internet!();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        assert_ended_by(running.finish().assert_code(128 + signal), Some(signal));
    }
}

#[test]
fn a_command_that_handles_a_signal_ends_by_itself_unless_its_exit_code_names_the_signal() {
    let net = internet!();
    for (signal, name) in [(libc::SIGINT, "INT"), (libc::SIGTERM, "TERM"), (libc::SIGHUP, "HUP")] {
        for (code, ended_by) in [(0, None), (128 + signal, Some(signal))] {
            let gate = net.host.gate();
            let script =
                format!("trap 'echo survived' {name}; echo ready; until {}; do :; done; exit {code}", gate.wait());
            let mut running = net.host.start(&[], &["sh", "-c", &script]);
            running.wait_for_stdout("ready");
            running.signal(signal);
            running.wait_for_stdout("survived");
            gate.open();
            assert_ended_by(running.finish().assert_code(code), ended_by);
        }
    }
}

#[test]
fn a_signal_of_a_fault_ends_netwatch_at_once_and_nothing_is_left() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        let run = running.finish();
        assert_eq!(run.signal, Some(signal), "{run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_second_signal_kills_a_command_that_survives_the_first() {
    let net = internet!();
    for (signal, name) in [(libc::SIGTERM, "TERM"), (libc::SIGHUP, "HUP")] {
        let before = net.host.state();
        let script =
            "for s in TERM HUP; do trap \"echo survived $s\" $s; done; echo ready; while :; do sleep 0.1; done";
        let mut running = net.host.start(&[], &["sh", "-c", script]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        running.wait_for_stdout(&format!("survived {name}"));
        assert!(running.is_running(), "the first signal is only forwarded");
        running.signal(signal);
        assert_ended_by(running.finish().assert_code(128 + libc::SIGKILL), Some(signal));
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn usr1_prints_interim_counters_and_the_run_continues() {
    let net = internet!();
    let gate = net.host.gate();
    let script = format!("{TRAFFIC} udp 203.0.113.10:7 5 10; echo ready; {}", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGUSR1);
    running.wait_for_stderr("203.0.113.10");
    assert!(running.is_running());
    gate.open();
    let run = running.finish();
    let mentions = run.assert_ok().stderr.matches("203.0.113.10").count();
    assert!(mentions >= 2, "once interim, once at the end: {run}");
}

#[test]
fn signals_during_set_up_end_it_and_leave_nothing_behind() {
    let net = internet!();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        for moment in MOMENTS {
            let before = net.host.state();
            // Longer than the harness waits: netwatch has to end it.
            let mut running = net.host.start(&[], &["sleep", "300"]);
            net.host.wait_for_moment(&mut running, moment);
            running.signal(signal);
            let run = running.finish_early();
            let is_ended_by_it = run.code == Some(128 + signal) || run.signal == Some(signal);
            assert!(is_ended_by_it, "signal {signal} at {moment}: {run}");
            net.host.assert_nothing_left(&before);
        }
    }
}

/// The steps of the set-up before the command is released.
fn set_up_steps(steps: &str) -> impl Iterator<Item = &str> {
    steps.lines().filter(|step| !["go", "execute"].contains(step))
}

#[test]
fn a_signal_at_any_step_of_the_set_up_keeps_the_command_from_starting() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    let steps = net.host.netwatch(&["__faults"]).assert_ok().stdout.clone();
    let signals =
        [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGHUP", libc::SIGHUP), ("SIGQUIT", libc::SIGQUIT)];
    let before = net.host.state();
    for (step, (name, signal)) in set_up_steps(&steps).zip(signals.into_iter().cycle()) {
        let fault = StartOptions::env(&[("NETWATCH_FAULT", &format!("{name}:{step}"))]);
        let run = net
            .host
            .start_with(fault, &["--name", "grey"], &["sh", "-c", "echo started; exec sleep 300"])
            .finish_early();
        run.assert_code(128 + signal);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{name} at {step}: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_signal_just_before_the_command_starts_is_not_lost() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // At `go` netwatch gets it, at `execute` the process that is about to become the command.
    for step in ["go", "execute"] {
        let fault = StartOptions::env(&[("NETWATCH_FAULT", &format!("SIGTERM:{step}"))]);
        let run = net.host.run_with(fault, &[], &["sleep", "300"]);
        run.assert_code(128 + libc::SIGTERM).report();
    }
}

/// Which standard signals a command blocks and ignores, as bit masks, from its output of
/// /proc/self/status.
fn signal_masks(status: &str) -> [u64; 2] {
    // The C library ignores two real-time signals of its own in processes started by posix_spawn.
    const STANDARD: u64 = (1 << 31) - 1;
    ["SigBlk:", "SigIgn:"].map(|field| {
        let mask = status.lines().find_map(|line| line.strip_prefix(field)).expect("a mask of signals");
        u64::from_str_radix(mask.trim(), 16).expect("a hexadecimal number") & STANDARD
    })
}

#[test]
fn the_command_inherits_the_dispositions_that_netwatch_inherited() {
    let net = internet!();
    for ignored in [&[][..], &[libc::SIGHUP], &[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]] {
        let run = net.host.run_with(StartOptions::ignoring(ignored), &[], &["cat", "/proc/self/status"]);
        let expected = ignored.iter().map(|signal| 1 << (signal - 1)).sum();
        assert_eq!(signal_masks(&run.assert_ok().stdout), [0, expected], "{run}");
    }
}

#[test]
fn signals_inherited_as_ignored_end_neither_netwatch_nor_the_command() {
    let net = internet!();
    let gate = net.host.gate();
    let ignored = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
    // The command sends them to itself too.
    let script = format!(
        "{TRAFFIC} udp 203.0.113.10:7 5 10; for s in HUP INT QUIT; do kill -$s $$; done; echo ready; {}; exit 7",
        gate.wait()
    );
    let mut running = net.host.start_with(StartOptions::ignoring(&ignored), &[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    ignored.into_iter().for_each(|signal| running.signal(signal));
    // A signalfd returns the lowest number first: when USR1 has been handled, so have these.
    running.signal(libc::SIGUSR1);
    running.wait_for_stderr("203.0.113.10");
    gate.open();
    running.finish().assert_code(7).report();
}

#[test]
fn signals_inherited_as_ignored_do_not_end_the_set_up() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    let steps = net.host.netwatch(&["__faults"]).assert_ok().stdout.clone();
    let signals = [("SIGHUP", libc::SIGHUP), ("SIGINT", libc::SIGINT), ("SIGQUIT", libc::SIGQUIT)];
    let before = net.host.state();
    for (step, (name, signal)) in steps.lines().zip(signals.into_iter().cycle()) {
        let options = StartOptions {
            ignored: vec![signal],
            ..StartOptions::env(&[("NETWATCH_FAULT", &format!("{name}:{step}"))])
        };
        let run = net.host.run_with(options, &["-q"], &["sh", "-c", "echo started; exit 3"]);
        assert_eq!(run.assert_code(3).stdout, "started\n", "{name} at {step}: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn other_signals_are_forwarded_while_some_are_inherited_as_ignored() {
    let net = internet!();
    let options = StartOptions::ignoring(&[libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]);
    let mut running = net.host.start_with(options, &[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGTERM);
    running.finish().assert_code(128 + libc::SIGTERM).report();
}

#[test]
fn exit_codes_are_reported_when_sigchld_is_inherited_as_ignored() {
    let net = internet!();
    // With SIGCHLD ignored the kernel discards the exit status of a child.
    let run = net.host.run_with(StartOptions::ignoring(&[libc::SIGCHLD]), &[], &["sh", "-c", "exit 7"]);
    run.assert_code(7).report();
}

/// As in the init of a container: the group has no number inside.
#[test]
fn the_process_group_may_be_outside_of_the_pid_namespace() {
    let net = internet!();
    net.host.sh(&format!("unshare --pid --fork --mount-proc {} run -q -- true", net.host.binary().display()));
}
