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
    assert!(
        notes.contains("inet filter forward, inet filter input dropped the command's packets for at most 0."),
        "{run}"
    );
    net.host.assert_nothing_left(&before);
}

/// As [`DROPS`], in the tables of iptables-legacy.
const LEGACY_DROPS: &str = "for t in iptables-legacy ip6tables-legacy; do $t-restore <<'END'
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
END
done
ip6tables-legacy -A INPUT -i uplink -p ipv6-icmp -j ACCEPT";

#[test]
fn reloaded_tables_of_iptables_legacy_are_repaired_and_noted() {
    needs!("iptables-legacy");
    let net = internet!();
    if !net.host.try_sh(LEGACY_DROPS).0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    let rules = || net.host.sh("iptables-legacy -S; ip6tables-legacy -S");
    let (before, state) = (rules(), net.host.state());
    let gate = net.host.gate();
    let fetch = "curl -sS -m 20 http://app.example/";
    let script = format!("{fetch}; echo ready; {}; {fetch}", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    net.host.sh(LEGACY_DROPS);
    let is_repaired = || rules().matches(" -i nw").count() >= 4;
    wait_until(is_repaired, || format!("rules of netwatch in {}", rules()));
    gate.open();
    let run = running.finish();
    assert_eq!(run.assert_ok().stdout, "hello\nready\nhello\n", "{run}");
    let notes = run.report()["notes"].to_string();
    assert!(notes.contains("iptables-legacy -t filter FORWARD") && notes.contains("until netwatch put"), "{run}");
    assert_eq!(rules(), before);
    net.host.assert_nothing_left(&state);
}

#[test]
fn rules_of_iptables_legacy_are_removed_after_netwatch_and_its_guardian_were_killed() {
    needs!("iptables-legacy");
    let net = internet!();
    if !net.host.try_sh(LEGACY_DROPS).0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    let rules = || net.host.sh("iptables-legacy -S; ip6tables-legacy -S");
    let before = rules();
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    assert_ne!(rules(), before);
    running.kill_with_guardian();
    net.host.netwatch(&["clean"]).assert_ok();
    assert_eq!(rules(), before);
}
