//! Hosts that restrict what they send, as people have them: netwatch refuses to run where nothing
//! may be sent, notes what it finds elsewhere, and its probes never leave the host.

use netwatch_tests::{TestInternet, USER, internet, needs};

/// What has to follow from a ruleset.
enum Expected {
    /// The run is refused, unless `--bypass-output-policy` is given.
    Refused,
    /// A note contains this text.
    Noted(&'static str),
    /// No note is about the policy.
    Silent,
}
use Expected::{Noted, Refused, Silent};

struct Ruleset {
    name: &'static str,
    /// Installs it.
    script: &'static str,
    flags: &'static [&'static str],
    expected: Expected,
}

const fn ruleset(name: &'static str, script: &'static str, expected: Expected) -> Ruleset {
    Ruleset { name, script, flags: &[], expected }
}

const RULESETS: [Ruleset; 16] = [
    ruleset("none", "true", Silent),
    ruleset(
        "kill switch of nftables",
        "nft -f - <<'END'
        table inet kill { chain output {
            type filter hook output priority 0; policy drop
            oifname lo accept
            ct state established,related accept
        }; }
END",
        Refused,
    ),
    ruleset(
        "kill switch that permits the resolver",
        "resolver=$(sed -n 's/^nameserver //p' /etc/resolv.conf); nft -f - <<END
        table inet kill { chain output {
            type filter hook output priority 0; policy drop
            oifname lo accept
            ip daddr $resolver udp dport 53 accept
        }; }
END",
        Refused,
    ),
    ruleset(
        "kill switch of a VPN that is down",
        "iptables -P OUTPUT DROP; ip6tables -P OUTPUT DROP; iptables -A OUTPUT -o lo -j ACCEPT
        iptables -A OUTPUT -o tun0 -j ACCEPT; iptables -A OUTPUT -d 203.0.113.99 -p udp --dport 51820 -j ACCEPT",
        Refused,
    ),
    ruleset(
        "kill switch of a VPN that is up",
        "nft -f - <<'END'
        table inet kill { chain output {
            type filter hook output priority 0; policy drop
            oifname { lo, uplink } accept
        }; }
END",
        Noted("not fully verified: inet kill output may drop"),
    ),
    ruleset(
        "ufw default deny outgoing",
        "for t in iptables ip6tables; do
            $t -N ufw-before-output; $t -A OUTPUT -j ufw-before-output; $t -A ufw-before-output -o lo -j ACCEPT
            $t -A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $t -P OUTPUT DROP
        done",
        Refused,
    ),
    ruleset(
        "ufw default deny outgoing, with DNS and the web allowed",
        "for t in iptables ip6tables; do
            $t -N ufw-user-output; $t -A OUTPUT -j ufw-user-output; $t -P OUTPUT DROP
            for p in tcp udp; do for port in 53 80 443; do $t -A ufw-user-output -p $p --dport $port -j ACCEPT; done; done
        done; ip6tables -A OUTPUT -p ipv6-icmp -j ACCEPT",
        Noted("does not let root send to tcp port 42424 of "),
    ),
    ruleset(
        "ufw default allow outgoing",
        "for t in iptables ip6tables; do
            $t -N ufw-before-output; $t -A OUTPUT -j ufw-before-output; $t -A ufw-before-output -o lo -j ACCEPT
            $t -A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            $t -N ufw-track-output; $t -A OUTPUT -j ufw-track-output; $t -A ufw-track-output -p tcp -j ACCEPT
        done",
        Silent,
    ),
    ruleset(
        "firewalld",
        "nft -f - <<'END'
        table inet firewalld { chain filter_OUTPUT {
            type filter hook output priority 10; policy accept
            ct state { established, related } accept
            oifname \"lo\" accept
            ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 type addr-unreachable
        }; }
END",
        Noted("not fully verified: inet firewalld filter_OUTPUT may drop"),
    ),
    ruleset(
        "Docker",
        "iptables -t nat -N DOCKER; iptables -t nat -A DOCKER -i docker0 -j RETURN
        iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
        Silent,
    ),
    ruleset(
        "drops of single addresses",
        "nft -f - <<'END'
        table inet block {
            set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 203.0.113.66 }; }
            chain output { type filter hook output priority 0; ip daddr @blocked drop; }
        }
END",
        Noted("not fully verified: inet block output may drop"),
    ),
    Ruleset {
        name: "a user who may send nothing",
        script: "nft 'add table inet uids; add chain inet uids output { type filter hook output priority 0; }; add rule inet uids output meta skuid 4242 reject'",
        flags: &["-u", USER],
        expected: Refused,
    },
    ruleset(
        "another user who may send nothing",
        "nft 'add table inet uids; add chain inet uids output { type filter hook output priority 0; }; add rule inet uids output meta skuid 4242 reject'",
        Noted("not fully verified: inet uids output may drop"),
    ),
    ruleset(
        "a transparent proxy",
        "nft 'add table inet proxy; add chain inet proxy output { type nat hook output priority -100; }; add rule inet proxy output tcp dport { 80, 443 } redirect to :3128'",
        Noted("redirects what root sends to tcp port 443 of "),
    ),
    ruleset(
        "everything through Tor",
        "nft -f - <<'END'
        table inet tor {
            chain nat { type nat hook output priority -100; meta l4proto tcp redirect to :9040; udp dport 53 redirect to :5353; }
            chain output { type filter hook output priority 0; policy drop; oifname lo accept; }
        }
END",
        Refused,
    ),
    ruleset(
        "protection against leaks by IPv6",
        "ip6tables -P OUTPUT DROP; ip6tables -A OUTPUT -o lo -j ACCEPT",
        Noted("send no IPv6 packets, so the command has no IPv6"),
    ),
];

/// Counts the probes that reach the internet.
const SEEN: &str = "nft -f - <<'END'
    table inet seen { chain c { type filter hook prerouting priority -300
        ip daddr { 9.9.9.9, 203.0.113.77, 198.51.100.77, 192.88.99.77 } counter
        ip6 daddr { 2620:fe::fe, 2001:db8:7777::77, 3fff:777::77, 2000:77::77 } counter
    }; }
END";

fn check(net: &TestInternet, Ruleset { name, script, flags, expected }: &Ruleset) {
    net.host.sh(script);
    let run = net.host.run(flags, &["true"]);
    match expected {
        Refused => {
            run.assert_error(125, &["--bypass-output-policy"]);
            if flags.is_empty() {
                let doctor = net.host.netwatch(&["doctor"]);
                assert!(doctor.stdout.contains("fail  output policy: "), "{name}: {doctor}");
            }
            let flags = [flags, &["--bypass-output-policy"][..]].concat();
            net.host.run(&flags, &["true"]).assert_ok();
        }
        Noted(text) => {
            let notes = run.assert_ok().report()["notes"].to_string();
            assert!(notes.contains(text), "{name}: {run}");
        }
        Silent => {
            let notes = run.assert_ok().report()["notes"].to_string();
            assert!(!notes.contains("policy") && !notes.contains("the host "), "{name}: {run}");
        }
    }
    net.host.sh("nft flush ruleset");
}

#[test]
fn the_output_policy_of_the_host_holds_for_the_command() {
    needs!("iptables");
    let net = internet!();
    net.inet.sh(SEEN);
    // The neighbor of the uplink is known, as on every host that is in use.
    net.host.sh("ping -c1 -W60 198.51.100.1; ping -c1 -W60 2001:db8::1");
    for ruleset in &RULESETS {
        check(&net, ruleset);
    }
    let seen = net.inet.sh("nft list table inet seen");
    assert_eq!(seen.matches("counter packets 0 bytes 0").count(), 2, "no probe leaves the host: {seen}");
}

#[test]
fn a_family_in_which_the_user_may_send_nothing_is_missing_although_the_host_has_it() {
    let net = internet!();
    net.host.sh("ping -c1 -W60 198.51.100.1; ping -c1 -W60 2001:db8::1");
    net.host.sh("nft -f - <<'END'
        table ip o { chain out { type filter hook output priority 0; oifname uplink meta skuid 4242 drop; }; }
END");
    let script = "ip -4 addr show scope global; ip -4 route; curl -sS -4 -m 20 http://app.example/; \
                  exec curl -sS -6 -m 20 http://app.example/";
    let run = net.host.run(&["-u", USER], &["sh", "-c", script]);
    assert_eq!(run.assert_ok().stdout, "hello\n", "by IPv6 only: {run}");
    assert!(run.report()["notes"].to_string().contains("so the command has no IPv4"), "{run}");
    let run = net.host.run(&[], &["curl", "-sS", "-4", "-m", "20", "http://app.example/"]);
    assert_eq!(run.assert_ok().stdout, "hello\n", "another user: {run}");
}

#[test]
fn the_output_policy_of_iptables_legacy_holds_too() {
    needs!("iptables-legacy");
    let net = internet!();
    if !net.host.try_sh("iptables-legacy -P OUTPUT DROP; ip6tables-legacy -P OUTPUT DROP").0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    net.host.run(&[], &["true"]).assert_error(125, &["--bypass-output-policy"]);
    let doctor = net.host.netwatch(&["doctor"]);
    assert!(doctor.stdout.contains("fail  output policy: the host lets root send no IPv4"), "{doctor}");
}
