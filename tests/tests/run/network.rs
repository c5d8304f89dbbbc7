//! The network of the namespace as the command sees it: addresses, routes, MTU, families, /sys.

use netwatch_tests::{HostIpv6, InternetShape, RunningNetwatch, addresses::*, internet, report, wait_until};

#[test]
fn it_has_addresses_default_routes_and_a_loopback() {
    let net = internet!();
    let run = net.host.watch(&["sh", "-c", "ip -br addr; ip route; ip -6 route; ls /sys/class/net"]);
    run.assert_ok();
    assert_eq!(run.stdout.matches("default via").count(), 2, "{run}");
    assert!(run.stdout.contains("127.0.0.1/8") && !run.stdout.contains("tentative"), "{run}");
    assert!(!run.stdout.contains("uplink"), "/sys/class/net shows the namespace: {run}");
    let local = report::list(run.report(), "interface.local_addresses");
    assert_eq!((local.len(), report::list(run.report(), "interface.gateway_addresses").len()), (2, 2), "{run}");
    for address in local {
        assert!(run.stdout.contains(address.as_str().unwrap()), "{run}");
    }
}

#[test]
fn glibc_prefers_ipv6_as_on_the_host() {
    let net = internet!();
    let first = "getent ahosts app.example | head -1 | cut -d' ' -f1";
    assert_eq!(net.host.watch(&["sh", "-c", first]).stdout, net.host.sh(first), "RFC 6724 gives the same order");
}

#[test]
fn ipv6_is_configured_only_where_the_host_has_it() {
    let net = internet!(InternetShape { ipv6: HostIpv6::None, ..InternetShape::default() });
    let run = net.host.watch(&[
        "sh",
        "-c",
        "ip -6 route show default; getent ahosts app.example | head -1; curl -s http://app.example/",
    ]);
    assert!(!run.assert_ok().stdout.contains("default"), "{run}");
    assert!(run.stdout.contains("hello"), "{run}");
    assert_eq!(report::list(run.report(), "interface.local_addresses").len(), 1, "{run}");
}

/// What a program finds out about the families of addresses, without a packet: the order of names
/// (AI_ADDRCONFIG), and whether a datagram could be sent to an unknown remote.
const FAMILIES: &str = "getent ahosts app.example | cut -d' ' -f1; getent ahostsv4 app.example | head -1
    for to in UDP4:203.0.113.9:9 UDP6:[2001:db8:9::9]:9; do socat -u /dev/null $to 2>&1 | grep -o 'Network is.*' || true; done
    ip -4 route show default | wc -l; ip -6 route show default | wc -l; curl -s http://app.example/";

#[test]
fn the_families_of_addresses_are_those_of_the_host() {
    let shapes = [
        InternetShape { ipv4: false, ..InternetShape::default() },
        InternetShape { ipv6: HostIpv6::None, ..InternetShape::default() },
        InternetShape::default(),
    ];
    for shape in shapes {
        let net = internet!(shape);
        let before = net.host.state();
        let run = net.host.watch(&["sh", "-c", FAMILIES]);
        assert_eq!(run.assert_ok().stdout, net.host.sh(FAMILIES), "{shape:?}: {run}");
        assert!(run.stdout.ends_with("hello\n"), "{shape:?}: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn an_ipv6_only_host_can_publish_and_give_ipv4_on_request() {
    let net = internet!(InternetShape { ipv4: false, ..InternetShape::default() });
    let mut running = net.host.start(&["--publish", "8080:80"], &[crate::TRAFFIC, "serve", "[::]:80"]);
    running.wait_for_stdout("listening");
    assert_eq!(net.inet.sh(&format!("printf hi | socat -t60 - TCP6:[{HOST_V6}]:8080")), "hi");
    running.finish().assert_ok();
    let run = net.host.run(&["--subnet", "10.77.0.0/24"], &["ip", "-4", "-br", "addr", "show", "dev", "eth0"]);
    assert!(run.assert_ok().stdout.contains("10.77.0.2"), "{run}");
}

#[test]
fn multicast_and_broadcast_are_noted() {
    let net = internet!();
    let script =
        "for to in 224.0.0.251:5353 255.255.255.255:9; do echo x | socat -u - UDP4-DATAGRAM:$to,broadcast; done";
    let run = net.host.watch(&["sh", "-c", script]);
    let notes = run.assert_ok().report()["notes"].to_string();
    assert!(notes.contains("packets to 224.0.0.251:5353, 255.255.255.255:9 did not leave this machine"), "{run}");
    let quiet = net.host.watch(&["curl", "-s", "http://app.example/"]);
    assert!(!quiet.stderr.contains("multicast"), "{quiet}");
}

#[test]
fn the_mtu_is_that_of_the_default_route() {
    for mtu in [1400, 9000] {
        let net = internet!(InternetShape { mtu, ..InternetShape::default() });
        let run = net.host.watch(&["curl", "-s", "-o", "/dev/null", "http://app.example/big"]);
        assert_eq!(report::number(run.assert_ok().report(), "interface.mtu_bytes"), i64::from(mtu), "{run}");
    }
}

#[test]
fn a_run_without_an_uplink_works_with_a_note() {
    let net = internet!(InternetShape { uplink: false, ..InternetShape::default() });
    let before = net.host.state();
    let run = net.host.watch(&["sh", "-c", "echo worked"]);
    assert_eq!(run.assert_ok().stdout, "worked\n");
    assert!(run.stderr.contains("uplink") || run.stderr.contains("no route out"), "{run}");
    net.host.assert_nothing_left(&before);
}

/// Each replaces the default route of the host, without a moment in which there is none: another
/// metric, another router, and the first one again.
const NEW_ROUTES: [&str; 3] = [
    "ip route add default via ROUTER metric 50; ip route del default via ROUTER metric 0",
    "ip route add default via SECOND metric 40; ip route del default via ROUTER metric 50",
    "ip route add default via ROUTER; ip route del default via SECOND metric 40",
];

#[test]
fn traffic_continues_when_the_default_route_changes() {
    let net = internet!();
    let second = "198.51.100.9";
    net.inet.sh(&format!("ip addr add {second}/24 dev lan"));
    let (before, gate) = (net.host.state(), net.host.gate());
    let fetch = "curl -sS -4 -m 20 http://app.example/";
    // The first connection that fails ends it.
    let script = format!("set -e; while [ ! -e {} ]; do {fetch}; sleep 0.1; done", gate.path());
    let running = net.host.start(&["--fail-if", "failed > 0"], &["sh", "-c", &script]);
    for change in NEW_ROUTES {
        wait_for_more(&running, 5);
        net.host.sh(&change.replace("ROUTER", &ROUTER_V4.to_string()).replace("SECOND", second));
    }
    wait_for_more(&running, 5);
    gate.open();
    let run = running.finish();
    assert!(run.assert_ok().stdout.matches("hello").count() >= 20, "{run}");
    assert_eq!(report::text(run.report(), "balance.state"), "closed", "{run}");
    let neighbor = net.host.sh(&format!("ip neigh show {second}"));
    assert!(neighbor.contains("lladdr"), "packets passed the second router: {neighbor:?}");
    net.host.assert_nothing_left(&before);
}

/// Waits until the command has made this many more connections.
#[track_caller]
fn wait_for_more(running: &RunningNetwatch, more: usize) {
    let count = || running.stdout().matches("hello").count();
    let all = count() + more;
    wait_until(|| count() >= all, || format!("{all} answers: {}\n{}", running.stdout(), running.stderr()));
}

#[test]
fn the_subnet_overlaps_no_route_of_the_host() {
    let net = internet!();
    // Of the private ranges only 192.168.0.0/16 is free.
    net.host.sh("ip route add blackhole 10.0.0.0/8; ip route add blackhole 172.16.0.0/12");
    let run = net.host.watch(&["curl", "-s", "-4", "http://app.example/"]);
    assert_eq!(run.assert_ok().stdout, "hello\n", "{run}");
    let local: std::net::Ipv4Addr = report::text(run.report(), "interface.local_addresses.0").parse().unwrap();
    let octets = local.octets();
    assert!(octets[0] != 10 && !(octets[0] == 172 && (16..32).contains(&octets[1])), "{local}");
}

#[test]
fn a_subnet_can_be_chosen() {
    let net = internet!();
    let run = net.host.run(&["--subnet", "10.77.0.0/24"], &["curl", "-s", "-4", "http://app.example/"]);
    assert_eq!(run.assert_ok().stdout, "hello\n");
    assert!(report::text(run.report(), "interface.local_addresses.0").starts_with("10.77.0."), "{run}");
    for (bad, word) in [("10.77.0.0/33", "10.77.0.0/33"), ("nonsense", "nonsense"), ("198.51.100.0/24", "198.51.100.0")]
    {
        let before = net.host.state();
        net.host.run(&["--subnet", bad], &["true"]).assert_error(125, &[word]);
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn no_nat_keeps_the_source_address() {
    let net = internet!();
    net.inet.sh(&format!("ip route add 10.78.0.0/24 via {HOST_V4}"));
    let command = ["curl", "-sS", "-4", "http://app.example/client"];
    let run = net.host.run(&["--no-nat", "--subnet", "10.78.0.0/24"], &command);
    assert!(run.assert_ok().stdout.starts_with("10.78.0."), "{run}");
}

#[test]
fn the_namespace_sends_no_router_solicitation_and_no_address_probe() {
    let net = internet!();
    // The kernel would send them within the first two seconds.
    let run = net.host.watch(&["sleep", "2"]);
    let nd = report::number(run.assert_ok().report(), "balance.remainders.neighbour_discovery.egress.skbs");
    assert_eq!(nd, 0, "{run}");
}
