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
    let mut running = net.host.start(&["--name", "red"], &["sh", "-c", "echo ready; exec sleep 20"]);
    running.wait_for_stdout("ready");
    running.signal(libc::SIGKILL);
    running.finish();
    net.host.run(&["--name", "red"], &["true"]).assert_ok();
    net.host.assert_nothing_left(&before);
}
