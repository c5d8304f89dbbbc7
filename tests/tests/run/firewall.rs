//! Hosts with a firewall that would drop packets of the namespace.

use netwatch_tests::{FinishedRun, TestInternet, internet, needs};

const FETCH: &[&str] = &["curl", "-sS", "-m", "5", "http://app.example/"];

const NFT_DROPS: &str = "
    nft add table inet filter
    nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'
    nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
    nft add rule inet filter input ct state established,related accept
    nft add rule inet filter input iif lo accept
    nft add rule inet filter input meta l4proto icmpv6 accept";

#[track_caller]
fn assert_works_and_leaves_nothing(net: &TestInternet, firewall: &str) {
    let before = net.host.state();
    let run = net.host.watch(FETCH);
    assert_eq!(run.code, Some(0), "{firewall}: {run}");
    assert_eq!(run.stdout, "hello\n", "{firewall}: {run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn chains_of_nftables_with_policy_drop_do_not_stop_the_traffic() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    assert_works_and_leaves_nothing(&net, "policy drop in forward and input");
}

#[test]
fn a_chain_of_nftables_with_a_last_rule_that_drops_does_not_stop_the_traffic() {
    let net = internet!();
    net.host.sh("nft add table ip filter; nft add chain ip filter forward '{ type filter hook forward priority 0; }'
        nft add rule ip filter forward ct state established accept; nft add rule ip filter forward counter drop");
    assert_works_and_leaves_nothing(&net, "a last rule that drops");
}

#[test]
fn chains_of_iptables_nft_with_policy_drop_do_not_stop_the_traffic() {
    let net = internet!();
    needs!("iptables-nft");
    net.host.sh(
        "for i in iptables-nft ip6tables-nft; do
            $i -P FORWARD DROP; $i -P INPUT DROP; $i -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT; $i -A INPUT -i lo -j ACCEPT
        done; ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT",
    );
    assert_works_and_leaves_nothing(&net, "iptables -P FORWARD DROP");
}

#[test]
fn the_forward_policy_of_docker_does_not_stop_the_traffic() {
    let net = internet!();
    needs!("iptables-nft");
    net.host.sh(
        "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER-FORWARD
        iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-FORWARD; iptables-nft -A DOCKER-USER -j RETURN",
    );
    assert_works_and_leaves_nothing(&net, "Docker");
}

#[test]
fn after_sigkill_the_next_run_or_clean_removes_the_rule() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    let before = net.host.state();
    for cleaner in [&["clean"][..], &["run", "-q", "--", "true"]] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        assert!(net.host.sh("nft list table inet filter").contains("netwatch:"), "a rule with the comment of netwatch");
        running.signal(libc::SIGKILL);
        assert_eq!(running.finish().signal, Some(libc::SIGKILL));
        net.host.netwatch(cleaner).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn each_added_rule_matches_only_the_interface_of_the_run() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let ruleset = net.host.sh("nft list table inet filter");
    for line in ruleset.lines().filter(|line| line.contains("netwatch:")) {
        assert!(line.contains("ifname \"nw"), "the rule matches an interface: {line}");
    }
}

/// netwatch printed a note with all these words before the command printed `started`.
#[track_caller]
fn assert_noted_before_the_command(run: &FinishedRun, words: &[&str]) {
    let (before, _) = run.stderr.split_once("started").unwrap_or_else(|| panic!("{run}"));
    assert!(words.iter().all(|word| before.contains(word)), "{words:?}: {run}");
}

#[test]
fn a_dropping_table_with_an_owner_is_reported_before_the_command_starts() {
    let net = internet!();
    // `nft -i` owns the table as firewalld does; it ends with its standard input.
    let mut holder = net.host.command("nft").arg("-i").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let script = "add table inet firewalld { flags owner; }\nadd chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n";
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    net.host.wait_for("nft list ruleset | grep -q filter_FORWARD");
    let run = net.host.run(&[], &["sh", "-c", "echo started >&2"]);
    assert_noted_before_the_command(
        &run,
        &["firewalld", "filter_FORWARD", "firewall-cmd --zone=trusted --add-interface="],
    );
    let doctor = net.host.netwatch(&["doctor"]);
    assert!((doctor.stdout.clone() + &doctor.stderr).contains("filter_FORWARD"), "{doctor}");
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn a_table_of_iptables_legacy_that_cannot_be_changed_is_reported() {
    let net = internet!();
    needs!("iptables-legacy");
    if !net.host.try_sh("iptables-legacy -P FORWARD DROP").0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    // Another program is changing it.
    let mut holder = net.host.command("flock").args(["/run/xtables.lock", "sleep", "300"]).spawn().unwrap();
    net.host.wait_for("! flock -n /run/xtables.lock true");
    let run = net.host.run(&[], &["sh", "-c", "echo started >&2"]);
    assert_noted_before_the_command(
        &run,
        &["/run/xtables.lock", "iptables-legacy -t filter -I FORWARD -i nw+ -j ACCEPT"],
    );
    let _ = holder.kill();
    let _ = holder.wait();
}
