//! The host's firewall is reloaded while the command runs, as by `nft -f`, Docker or firewalld.

use netwatch_tests::{InternetShape, internet, needs, wait_until};

/// A firewall that drops everything that it does not explicitly accept.
const DROPS: &str = "nft -f - <<'END'
flush ruleset
table inet filter {
    chain forward { type filter hook forward priority 0; policy drop; }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta l4proto ipv6-icmp accept
    }
}
END";

#[test]
fn a_reloaded_firewall_is_repaired_and_noted() {
    let net = internet!(InternetShape::default());
    net.host.sh(DROPS);
    let before = net.host.state();
    let gate = net.host.gate();
    // Name resolution passes the input chain, the connection passes the forward chain.
    let fetch = "curl -sS -m 20 http://app.example/";
    let script = format!("{fetch}; echo ready; {}; {fetch}", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    net.host.sh(DROPS);
    let is_repaired = || net.host.sh("nft list table inet filter").matches("netwatch:").count() > 0;
    wait_until(is_repaired, || format!("rules of netwatch in {}", net.host.sh("nft list ruleset")));
    gate.open();
    let run = running.finish();
    assert_eq!(run.assert_ok().stdout, "hello\nready\nhello\n", "{run}");
    let notes = run.report()["notes"].to_string();
    assert!(notes.contains("inet filter forward, inet filter input dropped the command's packets for 0."), "{run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_policy_of_iptables_legacy_is_noted_while_it_drops() {
    needs!("iptables-legacy");
    let net = internet!();
    // Also loads the table, without a rule that drops.
    net.host.sh("iptables-legacy -P FORWARD ACCEPT");
    let gates = [net.host.gate(), net.host.gate()];
    let script = format!("echo ready; {}; echo open; {}", gates[0].wait(), gates[1].wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    let id = net.host.sh("basename $(dirname /run/netwatch/*/card.json)");
    let report = || net.host.netwatch(&["report", "--format", "json", id.trim()]).stdout;
    let noted = |text: &str| wait_until(|| report().contains(text), || format!("{text:?} in {}", report()));
    net.host.sh("iptables-legacy -P FORWARD DROP");
    noted("iptables-legacy -t filter FORWARD");
    net.host.sh("iptables-legacy -P FORWARD ACCEPT");
    noted("ended after");
    gates.iter().for_each(|gate| gate.open());
    let run = running.finish();
    let notes = run.assert_ok().report()["notes"].to_string();
    assert!(notes.contains("since ") && notes.contains("ended after"), "{run}");
}
