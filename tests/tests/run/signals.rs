//! What netwatch does with signals. The ones typed at a terminal are in `terminal`.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use netwatch_tests::{Options, internet, skip};

/// A step of the set-up takes a few milliseconds, and so does undoing what was done. A busy machine takes longer; the commands here take 20 seconds.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Says which signal it got and ends with its number.
const CATCH: &str = "for s in INT TERM HUP QUIT USR1; do trap \"echo got $s; exit 9\" $s; done; echo ready; while :; do sleep 0.02; done";

#[test]
fn sent_by_another_process_they_are_forwarded() {
    let net = internet!();
    for (signal, name) in
        [(libc::SIGINT, "INT"), (libc::SIGTERM, "TERM"), (libc::SIGHUP, "HUP"), (libc::SIGQUIT, "QUIT")]
    {
        let before = net.host.state();
        let mut running = net.host.start(&[], &["sh", "-c", CATCH]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        let run = running.finish();
        run.assert_code(9).report();
        assert!(run.stdout.contains(&format!("got {name}")), "{run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_command_that_dies_of_it_gives_128_and_its_number() {
    let net = internet!();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 20"]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        running.finish().assert_code(128 + signal);
    }
}

#[test]
fn a_second_one_kills_what_ignores_the_first() {
    let net = internet!();
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        let before = net.host.state();
        let mut running =
            net.host.start(&[], &["sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.1; done"]);
        running.wait_for_stdout("ready");
        running.signal(signal);
        thread::sleep(Duration::from_millis(200));
        assert!(running.is_running(), "the first one is only forwarded");
        running.signal(signal);
        let run = running.finish();
        run.assert_code(128 + libc::SIGKILL).report();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn usr1_prints_interim_counters_and_goes_on() {
    let net = internet!();
    let script = format!("{} udp 203.0.113.10:7 5 10; echo ready; sleep 0.5", crate::TRAFFIC);
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGUSR1);
    let run = running.finish();
    let mentions = run.stderr.matches("203.0.113.10").count();
    assert!(mentions >= 2, "once interim, once at the end: {run}");
}

#[test]
fn during_set_up_they_end_it_promptly_and_leave_nothing_behind() {
    let net = internet!();
    for (signal, moments) in
        [(libc::SIGTERM, [0, 5, 20, 40]), (libc::SIGINT, [2, 8, 15, 30]), (libc::SIGHUP, [4, 10, 25, 35])]
    {
        for millis in moments {
            let before = net.host.state();
            let running = net.host.start(&[], &["sleep", "20"]);
            thread::sleep(Duration::from_millis(millis));
            running.signal(signal);
            let sent = Instant::now();
            let run = running.finish_early();
            assert!(sent.elapsed() < PROMPTLY, "signal {signal} after {millis} ms: {run}");
            assert!(run.code == Some(128 + signal) || run.signal == Some(signal), "{run}");
            net.host.assert_nothing_left(&before);
        }
    }
}

#[test]
fn at_each_step_of_the_set_up_they_keep_the_command_from_starting() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    let steps = net.host.netwatch(&["__faults"]).assert_ok().stdout.clone();
    let signals =
        [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGHUP", libc::SIGHUP), ("SIGQUIT", libc::SIGQUIT)];
    let before = net.host.state();
    for (step, (name, signal)) in
        steps.lines().filter(|step| !["go", "execute"].contains(step)).zip(signals.into_iter().cycle())
    {
        let fault = Options::env(&[("NETWATCH_FAULT", &format!("{name}:{step}"))]);
        let run = net
            .host
            .start_with(fault, &["--name", "grey"], &["sh", "-c", "echo started; exec sleep 20"])
            .finish_early();
        run.assert_code(128 + signal);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""), "{name} at {step}: {run}");
        assert!(run.took < PROMPTLY, "{name} at {step}: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn one_that_comes_just_before_the_command_is_not_lost() {
    let mut net = internet!();
    if !net.host.use_faulty_binary() {
        return skip("there is no netwatch built with the feature `faults`: run `cargo xtask test`");
    }
    // To netwatch, and to the process that is about to become the command.
    for step in ["go", "execute"] {
        let fault = Options::env(&[("NETWATCH_FAULT", &format!("SIGTERM:{step}"))]);
        let run = net.host.run_with(fault, &[], &["sleep", "20"]);
        run.assert_code(128 + libc::SIGTERM).report();
        assert!(run.took < PROMPTLY, "{run}");
    }
}

#[test]
fn they_do_not_wait_for_a_lock_that_another_netwatch_holds() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    let lock = File::open(format!("/proc/{}/root/run/netwatch/lock", net.host.pid())).expect("there was a run");
    lock.lock().expect("nobody else has it");
    let mut running = net.host.start(&[], &["echo", "started"]);
    thread::sleep(Duration::from_millis(300));
    assert!(running.is_running(), "it waits for the lock");
    running.signal(libc::SIGTERM);
    let sent = Instant::now();
    let run = running.finish_early();
    assert!(sent.elapsed() < PROMPTLY, "{run}");
    assert_eq!(run.assert_code(128 + libc::SIGTERM).stdout, "");
    drop(lock);
    net.host.assert_nothing_left(&before);
}
