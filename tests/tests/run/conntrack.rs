//! What the connection tracking of the host remembers about a run that has ended: nothing.

use std::net::IpAddr;

use netwatch_tests::{TestInternet, addresses::*, internet, report, wait_until};
use serde_json::Value;

use crate::TRAFFIC;

/// GRE, and a number for experiments (RFC 3692).
const WITHOUT_PORTS: [u8; 2] = [47, 253];

#[test]
fn packets_of_protocols_without_ports_leave_in_one_run_after_another() {
    let net = internet!();
    net.inet.sh("nft add table inet seen");
    net.inet.sh("nft add chain inet seen arrived '{ type filter hook prerouting priority -300; }'");
    let mut script = String::new();
    for protocol in WITHOUT_PORTS {
        net.inet.sh(&format!(
            "nft add rule inet seen arrived ip protocol {protocol} ip saddr {HOST_V4} ip daddr {APP_V4} counter
            nft add rule inet seen arrived ip6 nexthdr {protocol} ip6 saddr {HOST_V6} ip6 daddr {APP_V6} counter"
        ));
        script += &format!("{TRAFFIC} raw {APP_V4} {protocol}; {TRAFFIC} raw {APP_V6} {protocol};");
    }
    for runs in 1..=3 {
        net.host.run(&["-q"], &["sh", "-ec", &script]).assert_ok();
        let seen = || net.inet.sh("nft list table inet seen");
        let counter = format!("counter packets {runs} ");
        wait_until(
            || seen().matches(&counter).count() == 4,
            || format!("one packet of each in {runs} runs: {}", seen()),
        );
    }
}

/// Tracked connections of the host that have an end of the run, by the addresses of the kernel's
/// list.
fn tracked(net: &TestInternet, ends: &[Value]) -> Vec<String> {
    let texts: Vec<String> = ends.iter().map(|end| as_listed(end.as_str().expect("an address"))).collect();
    let list = net.host.sh("cat /proc/net/nf_conntrack");
    list.lines().filter(|line| texts.iter().any(|text| line.contains(text))).map(str::to_owned).collect()
}

/// `src=` and the address, in IPv6 without abbreviation.
fn as_listed(address: &str) -> String {
    match address.parse().expect("an address") {
        IpAddr::V4(address) => format!("src={address} "),
        IpAddr::V6(address) => {
            let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:04x}")).collect();
            format!("src={} ", groups.join(":"))
        }
    }
}

/// Opens connections of several protocols, and lets a client of the host reach a published port.
fn connect_both_ways(net: &TestInternet) -> Value {
    let gate = net.host.gate();
    let script = format!(
        "{TRAFFIC} udp {APP_V4}:7 1 10; {TRAFFIC} udp [{APP_V6}]:7 1 10; {TRAFFIC} fetch {APP_V4}:9001
        {TRAFFIC} raw {APP_V4} 253; {TRAFFIC} serve-udp 0.0.0.0:80 & {}; wait",
        gate.wait()
    );
    let mut running = net.host.start(&["--publish", "8080:80/udp"], &["sh", "-ec", &script]);
    running.wait_for_stdout("listening");
    net.inet.sh(&format!("{TRAFFIC} udp {HOST_V4}:8080 1 10"));
    gate.open();
    running.finish().assert_ok().report()["interface"]["local_addresses"].clone()
}

#[test]
fn nothing_is_left_of_a_run_and_other_connections_are_kept() {
    let net = internet!();
    // A rule that tracks the connections of the host itself.
    net.host.sh("nft add table inet own; nft add chain inet own c '{ type filter hook output priority 0; }'");
    net.host.sh(&format!("nft add rule inet own c ct state new accept; {TRAFFIC} udp {APP_V4}:7 1 10"));
    let own = [Value::from(HOST_V4.to_string())];
    let before = tracked(&net, &own);
    assert_eq!(before.len(), 1, "{before:?}");
    let local = connect_both_ways(&net);
    assert_eq!(tracked(&net, local.as_array().expect("a list")), [""; 0]);
    assert_eq!(tracked(&net, &own).iter().filter(|line| line.contains(" dport=7 ")).count(), 1);
}

#[test]
fn nothing_is_left_when_netwatch_was_killed() {
    let net = internet!();
    let script = format!("{TRAFFIC} udp {APP_V4}:7 1 10; {TRAFFIC} raw {APP_V6} 253; echo ready; sleep 300");
    let mut running = net.host.start(&[], &["sh", "-ec", &script]);
    running.wait_for_stdout("ready");
    let record = net.host.sh("grep tracked-connections /run/netwatch/????????/journal");
    let record: Value = serde_json::from_str(&record).expect("one line of JSON");
    let local = report::list(&record, "targets").to_vec();
    assert!(!tracked(&net, &local).is_empty());
    running.signal(libc::SIGKILL);
    running.finish();
    wait_until(|| tracked(&net, &local).is_empty(), || format!("no connections: {:?}", tracked(&net, &local)));
}
