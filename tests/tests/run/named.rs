//! `--name`: a namespace that `ip netns exec` can join.

use netwatch_tests::{addresses::*, internet, report};

#[test]
fn others_join_and_are_counted() {
    let net = internet!();
    let before = net.host.state();
    let mut running = net.host.start(&["--name", "blue"], &["sh", "-c", "echo ready; sleep 1"]);
    running.wait_for_stdout("ready");
    assert!(net.host.sh("ip netns list").contains("blue"));
    assert_eq!(net.host.sh("ip netns exec blue curl -sS http://app.example/"), "hello\n", "with DNS of its own");
    let run = running.finish();
    let endpoints = report::list(run.assert_ok().report(), "endpoints");
    assert!(endpoints.iter().any(|endpoint| endpoint["port"] == 80), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_resolv_conf_of_that_name_is_honoured_and_kept() {
    let net = internet!();
    net.host.sh("mkdir -p /etc/netns/green; echo nameserver 203.0.113.53 > /etc/netns/green/resolv.conf; echo '# mine' >> /etc/netns/green/resolv.conf");
    let before = net.host.state();
    let run = net.host.run(&["--name", "green"], &["sh", "-c", "cat /etc/resolv.conf; getent ahostsv4 app.example"]);
    assert!(run.assert_ok().stdout.contains("# mine") && run.stdout.contains(&APP_V4.to_string()), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_name_that_is_taken_or_wrong_is_an_error() {
    let net = internet!();
    net.host.sh("ip netns add taken");
    for name in ["taken", "a/b", "..", ""] {
        let before = net.host.state();
        net.host.run(&["--name", name], &["true"]).assert_error(125, &[name]);
        net.host.assert_nothing_left(&before);
    }
    net.host.sh("ip netns del taken");
}

#[test]
fn after_sigkill_the_name_is_free_again() {
    let net = internet!();
    net.host.sh("ip netns add other; ip netns del other");
    let before = net.host.state();
    let mut running = net.host.start(&["--name", "red"], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGKILL);
    running.finish();
    net.host.run(&["--name", "red"], &["true"]).assert_ok();
    net.host.assert_nothing_left(&before);
}

#[test]
fn racing_with_ip_netns_add_one_of_the_two_gets_the_name_and_keeps_it() {
    let net = internet!();
    net.host.sh("ip netns add other; ip netns del other");
    let before = net.host.state();
    for millis in [0, 8, 14, 17, 20, 23, 26, 29, 32, 40] {
        let running = net.host.start(&["--name", "violet"], &["true"]);
        std::thread::sleep(std::time::Duration::from_millis(millis));
        // The name is in use, was in use and is free again, or was never taken.
        let (theirs, said) = net.host.try_sh("ip netns add violet");
        assert!(theirs || said.contains("File exists"), "{said}");
        let run = running.finish();
        assert!(run.code == Some(0) || (theirs && run.code == Some(125) && run.stderr.contains("violet")), "{run}");
        if theirs {
            let inside = net.host.sh("ip netns exec violet ip -o link");
            assert!(
                inside.contains("lo:") && !inside.contains("eth0"),
                "theirs is still there, after {millis} ms: {inside}"
            );
            net.host.sh("ip netns del violet");
        }
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_name_that_somebody_takes_over_during_the_run_stays_theirs() {
    let net = internet!();
    net.host.sh("ip netns add other; ip netns del other");
    let before = net.host.state();
    for end in [libc::SIGTERM, libc::SIGKILL] {
        let mut running = net.host.start(&["--name", "brown"], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        net.host.sh("ip netns del brown; ip netns add brown");
        running.signal(end);
        running.finish();
        net.host.netwatch(&["clean"]).assert_ok();
        assert_eq!(net.host.sh("ip netns exec brown echo theirs"), "theirs\n");
        net.host.sh("ip netns del brown");
        net.host.assert_nothing_left(&before);
    }
}
