//! What netwatch does with signals. The ones typed at a terminal are in `terminal`.

use netwatch_tests::internet;

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
        std::thread::sleep(std::time::Duration::from_millis(200));
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
fn during_set_up_they_leave_nothing_behind() {
    let net = internet!();
    for millis in [0, 2, 5, 10, 20, 40] {
        let before = net.host.state();
        let running = net.host.start(&[], &["sleep", "20"]);
        std::thread::sleep(std::time::Duration::from_millis(millis));
        running.signal(libc::SIGTERM);
        let run = running.finish();
        assert!(run.code == Some(128 + libc::SIGTERM) || run.signal == Some(libc::SIGTERM), "{run}");
        net.host.assert_nothing_left(&before);
    }
}
