//! A host that replaces its resolv.conf by rename (systemd-resolved, NetworkManager, dhclient do)
//! removes every bind mount over it.

use netwatch_tests::{addresses::*, internet, wait_until};

#[test]
fn names_resolve_after_every_rename() {
    let net = internet!();
    let gates = [1, 2, 3].map(|_| net.host.gate());
    // Each round waits until the private file is mounted again.
    let rounds = gates.each_ref().map(|gate| {
        format!(
            "{}; while grep -q 203.0.113.53 /etc/resolv.conf; do sleep 0.02; done
            getent ahostsv4 app.example | head -1; echo end of round",
            gate.wait()
        )
    });
    let script = format!("grep -c 203.0.113.53 /etc/resolv.conf; echo ready\n{}", rounds.join("\n"));
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("0\nready");
    for (round, gate) in (1..).zip(&gates) {
        net.host.sh("echo nameserver 203.0.113.53 > /etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf");
        gate.open();
        let is_over = || running.stdout().matches("end of round").count() == round;
        wait_until(is_over, || format!("the end of round {round}:\n{}", running.stdout()));
    }
    let run = running.finish();
    assert_eq!(run.assert_ok().stdout.matches(&APP_V4.to_string()).count(), 3, "{run}");
}

#[test]
fn the_forwarder_follows_the_host_to_another_resolver() {
    let net = internet!();
    std::fs::write(net.host.etc().join("resolv.conf"), "nameserver 198.51.100.77\noptions timeout:1 attempts:1\n")
        .unwrap();
    let gate = net.host.gate();
    let script = format!("echo ready; {}; until getent ahostsv4 app.example; do sleep 0.1; done", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    net.host.sh("echo nameserver 203.0.113.53 > /etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf");
    gate.open();
    let run = running.finish();
    assert!(run.assert_ok().stdout.contains(&APP_V4.to_string()), "{run}");
}
