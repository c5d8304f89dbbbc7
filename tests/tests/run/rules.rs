//! Generated firewall rules, applied: the same command still works, and all other traffic is
//! blocked.

use std::fs;

use netwatch_tests::{TestInternet, USER, USER_ID, addresses::*, internet, needs, wait_until};

use crate::TRAFFIC;

/// A command that uses names, addresses, both families, TCP, UDP, ICMP and DNS.
fn script() -> String {
    format!(
        "curl -4 -sSkf -m 30 -o /dev/null https://app.example/
        curl -6 -sSf -m 30 -o /dev/null http://app.example/
        {TRAFFIC} udp {APP_V4}:{ECHO} 5 100
        timeout 30 socat -u 'TCP6:[{APP_V6}]:{SOURCE}' /dev/null
        ping -4 -c 1 -W 30 {APP_V4} >/dev/null
        ping -6 -c 1 -W 30 {APP_V6} >/dev/null
        getent ahostsv4 app.example >/dev/null"
    )
}

/// Requests that succeed without a firewall and that the command of [`script`] does not need.
const UNLISTED: [&str; 5] = [
    "socat -u TCP4:203.0.113.10:9001,connect-timeout=1 /dev/null",
    "curl -4 -sSf -m 1 -o /dev/null http://app.example/",
    "curl -6 -sSkf -m 1 -o /dev/null https://app.example/",
    "ping -4 -c 1 -W 1 198.51.100.1",
    "ping -6 -c 1 -W 1 2001:db8::1",
];

/// Runs the command and writes rules from that run to a file of the host. Returns the rules.
fn rules_of(net: &TestInternet, command: &str, flags: &[&str]) -> String {
    net.host.run(&["-q"], &["sh", "-euc", command]).assert_ok();
    rules(net, flags)
}

/// Writes rules from the newest run to a file of the host. Returns them.
fn rules(net: &TestInternet, flags: &[&str]) -> String {
    net.host.netwatch(&[&["report", "-o", "rules"], flags].concat()).assert_ok();
    fs::read_to_string(net.host.dir().join("rules")).expect("read the rules")
}

fn is_reachable(net: &TestInternet, what: &str) -> bool {
    net.host.try_sh(what).0
}

/// Applies the rules, checks that only the command gets through, and removes them.
#[track_caller]
fn assert_only_command_passes(net: &TestInternet, apply: &str, remove: &str, text: &str) {
    let command = script();
    for what in UNLISTED {
        net.host.wait_for(what);
    }
    net.host.sh(apply);
    let (ok, output) = net.host.try_sh(&command);
    assert!(ok, "the same command fails: {output}\n{text}");
    for what in UNLISTED {
        assert!(!is_reachable(net, what), "not blocked: {what}\n{text}");
    }
    // Again, when the kernel has to look up its neighbors anew.
    net.host.sh("ip neigh flush dev uplink");
    let (ok, output) = net.host.try_sh(&command);
    assert!(ok, "without neighbors: {output}\n{text}");
    net.host.sh(remove);
    for what in UNLISTED {
        net.host.wait_for(what);
    }
}

#[test]
fn nft_rules_allow_only_the_traffic_of_the_command() {
    let net = internet!();
    needs!("socat");
    needs!("ping");
    for flags in [
        &["--format", "nft", "--only-used"][..],
        &["--format", "nft", "--only-used", "--generalize", "--resolver", "203.0.113.53"],
    ] {
        let text = rules_of(&net, &script(), flags);
        assert_only_command_passes(&net, "nft -f rules", "nft delete table inet netwatch", &text);
    }
}

#[test]
fn iptables_rules_allow_only_the_traffic_of_the_command() {
    let net = internet!();
    needs!("iptables");
    needs!("socat");
    needs!("ping");
    for flags in [
        &["--format", "iptables", "--only-used"][..],
        &["--format", "iptables", "--only-used", "--generalize", "--resolver", "203.0.113.53"],
    ] {
        let text = rules_of(&net, &script(), flags);
        assert_only_command_passes(&net, "sh rules", "sh rules --remove", &text);
    }
}

#[test]
fn resolver_limits_dns_to_one_resolver() {
    let net = internet!();
    needs!("dig");
    let elsewhere = format!("dig +tries=1 +time=1 @{ROUTER_V4} app.example");
    net.host.wait_for(&elsewhere);
    let ask = "getent ahostsv4 app.example";
    rules_of(&net, ask, &["--format", "nft"]);
    net.host.sh("nft -f rules");
    // Without --resolver the rules allow every resolver.
    net.host.wait_for(ask);
    net.host.wait_for(&elsewhere);
    rules(&net, &["--format", "nft", "--resolver", &DNS_V4.to_string()]);
    net.host.sh("nft -f rules");
    assert!(is_reachable(&net, ask) && !is_reachable(&net, &elsewhere), "with --resolver only that one");
}

#[test]
fn for_user_filters_only_one_user() {
    let net = internet!();
    let allowed = "curl -4 -sSkf -m 30 -o /dev/null https://app.example/";
    let unlisted = "curl -4 -sSf -m 1 -o /dev/null http://app.example/";
    let as_user = |what: &str| format!("setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups {what}");
    for (format, apply, remove) in
        [("nft", "nft -f rules", "nft delete table inet netwatch"), ("iptables", "sh rules", "sh rules --remove")]
    {
        let text = rules_of(&net, allowed, &["--format", format, "--for-user", USER]);
        net.host.sh(apply);
        assert!(is_reachable(&net, &as_user(allowed)), "{text}");
        assert!(!is_reachable(&net, &as_user(unlisted)), "{text}");
        // Other users are not filtered.
        net.host.wait_for(unlisted);
        net.host.sh(remove);
        net.host.wait_for(&as_user(unlisted));
    }
}

#[test]
fn the_port_of_a_server_is_allowed() {
    let net = internet!();
    needs!("socat");
    let mut running = net.host.start(&["--publish", "8080:80"], &[TRAFFIC, "serve", "0.0.0.0:80"]);
    running.wait_for_stdout("listening");
    let ask = |port: u16| net.inet.try_sh(&format!("printf hi | socat -t30 - TCP4:{HOST_V4}:{port},connect-timeout=1"));
    assert_eq!(ask(8080), (true, "hi".to_owned()));
    running.finish().assert_ok();
    let text = rules(&net, &["--format", "nft"]);
    assert!(text.contains("tcp dport 80 counter accept") && !text.contains("8080"), "{text}");
    net.host.sh("nft -f rules");
    for (port, is_open) in [(80, true), (81, false)] {
        let mut server = net.host.command("socat");
        let mut server =
            server.args([&format!("TCP4-LISTEN:{port},fork,reuseaddr"), "EXEC:cat"]).spawn().expect("socat");
        net.host.wait_for(&format!("ss -Hltn 'sport = :{port}' | grep -q ."));
        let (answered, output) = ask(port);
        assert_eq!(answered && output == "hi", is_open, "{port}: {output}\n{text}");
        let _ = server.kill();
        let _ = server.wait();
    }
}

#[test]
fn several_runs_are_merged_into_one_list() {
    let net = internet!();
    for to in ["http://app.example/", "https://app.example/"] {
        net.host.run(&["-q"], &["curl", "-4", "-sSk", "-o", "/dev/null", to]).assert_ok();
    }
    let run = net.host.netwatch(&["report", "--format", "ports", "2", "1"]);
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    for port in ["80", "443"] {
        let row = ["outbound", "tcp", port, "app.example"];
        assert!(
            rows.iter().any(|cells| cells.starts_with(&row) && cells.ends_with(&["203.0.113.10"])),
            "{port}: {run}"
        );
    }
    assert!(run.stdout.contains("your DNS resolvers") && !run.stdout.contains("curl -4"), "{run}");
}

#[test]
fn the_rules_of_a_killed_run_are_marked_as_incomplete() {
    let net = internet!();
    let command = "curl -4 -sSk -o /dev/null https://app.example/; echo ready; exec sleep 300";
    let mut running = net.host.start(&[], &["sh", "-c", command]);
    running.wait_for_stdout("ready");
    let recordings = fs::read_dir(net.host.state_home().join("netwatch/runs")).expect("the folder of recordings");
    let paths = recordings.flatten().map(|entry| entry.path());
    let recording = paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "netwatch"));
    net.host.wait_until_recorded(recording.expect("a recording"), |report| {
        report["endpoints"].as_array().into_iter().flatten().any(|endpoint| endpoint["name"] == "app.example")
    });
    running.kill_with_guardian();
    let is_read = || ports_report(&net).contains("app.example");
    wait_until(is_read, || format!("the endpoint in:\n{}", ports_report(&net)));
    assert!(ports_report(&net).contains("the run had not ended"), "{}", ports_report(&net));
}

fn ports_report(net: &TestInternet) -> String {
    let run = net.host.netwatch(&["report", "--format", "ports"]);
    run.stdout.split_whitespace().collect::<Vec<_>>().join(" ") + &run.stderr
}

#[test]
fn flags_that_a_format_does_not_support_are_errors() {
    let net = internet!();
    net.host.run(&["-q"], &["true"]).assert_ok();
    for (format, flag, value) in
        [("text", "--by-remote", None), ("ufw", "--for-user", Some("root")), ("nft", "--family", Some("4"))]
    {
        let words: Vec<&str> = ["report", "--format", format, flag].into_iter().chain(value).collect();
        net.host.netwatch(&words).assert_error(2, &[flag, format]);
    }
    let run = net.host.netwatch(&["report", "--format", "nft", "--for-user", "a;b"]);
    assert!(run.code == Some(2) && run.stderr.contains("expected a user name or a uid"), "{run}");
}
