//! A host that replaces its resolv.conf by rename (systemd-resolved, NetworkManager, dhclient do) removes every bind mount over it.

use netwatch_tests::{addresses::*, internet};

#[test]
fn names_resolve_after_every_rename() {
    let net = internet!();
    let script = "cat /etc/resolv.conf; echo ready; for n in 1 2 3; do read line; getent ahostsv4 app.example | head -1; grep -c 203.0.113.53 /etc/resolv.conf; echo round $n; done";
    let fifo = net.host.dir().join("rounds");
    net.host.sh(&format!("mkfifo {}", fifo.display()));
    let script = format!("exec < {}; {script}", fifo.display());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    // Opened for both, so that neither side waits for the other.
    let mut rounds = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    running.wait_for_stdout("ready");
    for round in 1..=3 {
        net.host.sh("echo nameserver 203.0.113.53 > /etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf");
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::io::Write::write_all(&mut rounds, b"go\n").unwrap();
        running.wait_for_stdout(&format!("round {round}"));
    }
    let run = running.finish();
    assert_eq!(run.assert_ok().stdout.matches(&APP_V4.to_string()).count(), 3, "{run}");
    assert_eq!(run.stdout.lines().filter(|line| *line == "0").count(), 3, "the private file came back: {run}");
}

#[test]
fn the_forwarder_follows_the_host_to_another_resolver() {
    let net = internet!();
    std::fs::write(net.host.etc().join("resolv.conf"), "nameserver 198.51.100.77\n").unwrap();
    let script = "echo ready; sleep 0.6; getent ahostsv4 app.example | head -1";
    let mut running = net.host.start(&[], &["sh", "-c", script]);
    running.wait_for_stdout("ready");
    net.host.sh("echo nameserver 203.0.113.53 > /etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf");
    let run = running.finish();
    assert!(run.assert_ok().stdout.contains(&APP_V4.to_string()), "{run}");
}
