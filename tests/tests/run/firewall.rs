//! Hosts whose own firewall would drop what the namespace sends.

use netwatch_tests::{FinishedRun, TestInternet, internet, needs};

const FETCH: &[&str] = &["curl", "-sS", "-m", "5", "http://app.example/"];

const NFT_DROPS: &str = "
    nft add table inet filter
    nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'
    nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
    nft add rule inet filter input ct state established,related accept
    nft add rule inet filter input iif lo accept
    nft add rule inet filter input meta l4proto icmpv6 accept";

fn works_and_leaves_nothing(net: &TestInternet, what: &str) {
    let before = net.host.state();
    let run = net.host.watch(FETCH);
    assert_eq!(run.code, Some(0), "{what}: {run}");
    assert_eq!(run.stdout, "hello\n", "{what}: {run}");
    net.host.assert_nothing_left(&before);
}

#[test]
fn dropping_chains_in_nft() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    works_and_leaves_nothing(&net, "policy drop in forward and input");
}

#[test]
fn dropping_by_a_last_rule() {
    let net = internet!();
    net.host.sh("nft add table ip filter; nft add chain ip filter forward '{ type filter hook forward priority 0; }'
        nft add rule ip filter forward ct state established accept; nft add rule ip filter forward counter drop");
    works_and_leaves_nothing(&net, "a last rule that drops");
}

#[test]
fn dropping_chains_of_iptables_nft() {
    let net = internet!();
    needs!("iptables-nft");
    net.host.sh(
        "for i in iptables-nft ip6tables-nft; do
            $i -P FORWARD DROP; $i -P INPUT DROP; $i -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT; $i -A INPUT -i lo -j ACCEPT
        done; ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT",
    );
    works_and_leaves_nothing(&net, "iptables -P FORWARD DROP");
}

#[test]
fn docker_s_forward_policy() {
    let net = internet!();
    needs!("iptables-nft");
    net.host.sh(
        "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER-FORWARD
        iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-FORWARD; iptables-nft -A DOCKER-USER -j RETURN",
    );
    works_and_leaves_nothing(&net, "Docker");
}

#[test]
fn after_sigkill_the_next_run_takes_the_rule_out() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    let before = net.host.state();
    for cleaner in [&["clean"][..], &["run", "-q", "--", "true"]] {
        let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
        running.wait_for_stdout("ready");
        assert!(net.host.sh("nft list table inet filter").contains("netwatch:"), "a narrow rule with our comment");
        running.signal(libc::SIGKILL);
        assert_eq!(running.finish().signal, Some(libc::SIGKILL));
        net.host.netwatch(cleaner).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn the_rule_is_for_our_interface_only() {
    let net = internet!();
    net.host.sh(NFT_DROPS);
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let ruleset = net.host.sh("nft list table inet filter");
    for line in ruleset.lines().filter(|line| line.contains("netwatch:")) {
        assert!(line.contains("ifname \"nw"), "names an interface: {line}");
    }
}

/// The chain and the one command that opens it.
fn assert_named_before_the_command(run: &FinishedRun, words: &[&str]) {
    let (before, _) = run.stderr.split_once("started").unwrap_or_else(|| panic!("{run}"));
    assert!(words.iter().all(|word| before.contains(word)), "{words:?}: {run}");
}

#[test]
fn a_table_with_an_owner_is_named_before_the_command_starts() {
    let net = internet!();
    // `nft -i` holds the table as firewalld does; it ends with its standard input.
    let mut holder = net.host.command("nft").arg("-i").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let script = "add table inet firewalld { flags owner; }\nadd chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n";
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    net.host.wait_for("nft list ruleset | grep -q filter_FORWARD");
    let run = net.host.run(&[], &["sh", "-c", "echo started >&2"]);
    assert_named_before_the_command(
        &run,
        &["firewalld", "filter_FORWARD", "firewall-cmd --zone=trusted --add-interface="],
    );
    let doctor = net.host.netwatch(&["doctor"]);
    assert!((doctor.stdout.clone() + &doctor.stderr).contains("filter_FORWARD"), "{doctor}");
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn legacy_tables_are_named() {
    let net = internet!();
    needs!("iptables-legacy");
    if !net.host.try_sh("iptables-legacy -P FORWARD DROP").0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    let run = net.host.run(&[], &["sh", "-c", "echo started >&2"]);
    assert_named_before_the_command(&run, &["FORWARD", "iptables-legacy -t filter -I FORWARD -i nw+ -j ACCEPT"]);
}
