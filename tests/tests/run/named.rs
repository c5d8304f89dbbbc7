//! `--name`: a named namespace, which `ip netns exec` can join.

use netwatch_tests::{MOMENTS, addresses::*, internet, report};

#[test]
fn a_process_that_joins_the_namespace_is_counted() {
    let net = internet!();
    let before = net.host.state();
    let gate = net.host.gate();
    let mut running = net.host.start(&["--name", "blue"], &["sh", "-c", &format!("echo ready; {}", gate.wait())]);
    running.wait_for_stdout("ready");
    assert!(net.host.sh("ip netns list").contains("blue"));
    assert_eq!(net.host.sh("ip netns exec blue curl -sS http://app.example/"), "hello\n", "with DNS of the namespace");
    gate.open();
    let run = running.finish();
    let endpoints = report::list(run.assert_ok().report(), "endpoints");
    assert!(endpoints.iter().any(|endpoint| endpoint["port"] == 80), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn an_existing_resolv_conf_for_the_name_is_used_and_kept() {
    let net = internet!();
    net.host.sh("mkdir -p /etc/netns/green; echo nameserver 203.0.113.53 > /etc/netns/green/resolv.conf; echo '# mine' >> /etc/netns/green/resolv.conf");
    let before = net.host.state();
    let run = net.host.run(&["--name", "green"], &["sh", "-c", "cat /etc/resolv.conf; getent ahostsv4 app.example"]);
    assert!(run.assert_ok().stdout.contains("# mine") && run.stdout.contains(&APP_V4.to_string()), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_name_that_exists_or_is_invalid_is_an_error() {
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
fn after_sigkill_the_name_can_be_used_again() {
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
fn in_a_race_with_ip_netns_add_one_of_the_two_gets_the_name_and_keeps_it() {
    let net = internet!();
    net.host.sh("ip netns add other; ip netns del other");
    let before = net.host.state();
    for moment in MOMENTS.into_iter().chain(["ls /run/netns/violet"]) {
        let mut running = net.host.start(&["--name", "violet"], &["true"]);
        net.host.wait_for_moment(&mut running, moment);
        // netwatch has the name now, had it before, or has not taken it yet.
        let (is_theirs, output) = net.host.try_sh("ip netns add violet");
        assert!(is_theirs || output.contains("File exists"), "{output}");
        let run = running.finish();
        assert!(run.code == Some(0) || (is_theirs && run.code == Some(125) && run.stderr.contains("violet")), "{run}");
        if is_theirs {
            let inside = net.host.sh("ip netns exec violet ip -o link");
            assert!(
                inside.contains("lo:") && !inside.contains("eth0"),
                "the namespace of ip is kept, at {moment}: {inside}"
            );
            net.host.sh("ip netns del violet");
        }
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn a_name_taken_over_by_another_program_during_the_run_is_kept() {
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
