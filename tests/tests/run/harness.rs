//! Tests of the test harness without netwatch: the network, its servers, and the comparison of host
//! snapshots.

use netwatch_tests::{HostIpv6, InternetShape, addresses::*, internet, needs, wait_until};

#[test]
fn the_host_reaches_every_server_by_both_families() {
    let net = internet!();
    for url in ["https://app.example/", "http://app.example/"] {
        for family in ["-4", "-6"] {
            assert_eq!(net.host.sh(&format!("curl -sSk {family} {url}")), "hello\n");
        }
    }
    assert_eq!(net.host.sh("curl -s http://app.example/big | wc -c").trim(), SOURCE_BYTES.to_string());
    assert!(net.web_log().starts_with(&HOST_V6.to_string()) || net.web_log().starts_with(&HOST_V4.to_string()));
}

#[test]
fn traffic_servers_behave_as_documented() {
    let net = internet!();
    let traffic = env!("CARGO_BIN_EXE_traffic");
    let cases = [
        (format!("udp {APP_V4}:{ECHO} 5 100"), ""),
        (format!("udp [{APP_V6}]:{ECHO} 5 1400"), ""),
        (format!("fetch {APP_V4}:{SOURCE}"), "1000000\n"),
        (format!("connect {APP_V4}:{REFUSED} 1000"), "refused\n"),
        (format!("connect [{APP_V6}]:{SILENT} 200"), "timeout\n"),
        (format!("send {APP_V4}:{SINK} 12345"), ""),
    ];
    for (arguments, output) in cases {
        assert_eq!(net.host.sh(&format!("{traffic} {arguments}")), output, "{arguments}");
    }
    netwatch_tests::eventually(|| (net.sunk() == [12345]).then_some(()).ok_or("not sunk".into())).unwrap();
}

#[test]
fn large_dns_answers_come_by_tcp_too() {
    let net = internet!();
    needs!("dig");
    let text = net.host.sh(&format!("dig +short +tries=1 {BIG} TXT"));
    assert_eq!(text.lines().count(), 12, "{text}");
}

#[test]
fn router_advertisements_bring_a_default_route() {
    let net = internet!(InternetShape { ipv6: HostIpv6::Advertised, ..InternetShape::default() });
    assert!(net.host.sh("ip -6 route show default").contains("proto ra"));
}

#[test]
fn a_host_snapshot_detects_every_kind_of_change() {
    let net = internet!();
    let before = net.host.state();
    net.host.assert_nothing_left(&before);
    let leaks = [
        ("ip link add nwleft type veth peer name nwpeer", "ip link del nwleft"),
        ("nft add table inet netwatch-left", "nft delete table inet netwatch-left"),
        ("echo 1 > /proc/sys/net/ipv4/conf/uplink/forwarding", "echo 0 > /proc/sys/net/ipv4/conf/uplink/forwarding"),
        ("ip netns add left", "ip netns del left; umount /run/netns"),
        ("mount -t tmpfs tmpfs /mnt", "umount /mnt"),
        ("echo nameserver 127.0.0.1 > /etc/resolv.conf", "echo nameserver 203.0.113.53 > /etc/resolv.conf"),
    ];
    for (leak, undo) in leaks {
        net.host.sh(leak);
        assert!(before.compare(&net.host.state()).is_err(), "not detected: {leak}");
        net.host.sh(undo);
        before.compare(&net.host.state()).unwrap_or_else(|difference| panic!("{undo}: {difference}"));
    }
}

#[test]
fn processes_that_daemonize_are_found() {
    let net = internet!();
    let traffic = env!("CARGO_BIN_EXE_traffic");
    assert!(net.host.processes().is_empty());
    let gate = net.host.gate();
    net.host.sh(&format!("{traffic} daemon 0 sh -c '{}' >/dev/null 2>&1", gate.wait()));
    assert!(!net.host.processes().is_empty());
    gate.open();
    wait_until(|| net.host.processes().is_empty(), || format!("the end of {:?}", net.host.processes()));
}

#[test]
fn a_host_with_router_advertisements_reaches_the_servers_by_ipv6() {
    let net = internet!(InternetShape { ipv6: HostIpv6::Advertised, ..InternetShape::default() });
    assert_eq!(net.host.sh("curl -sS -6 http://app.example/"), "hello\n");
}
