//! The host forwards for the namespace, for no other machine, and only during the run.

use netwatch_tests::{HostIpv6, InternetShape, TestInternet, addresses::*, internet, wait_until};

#[test]
fn sysctls_are_restored_whatever_their_values_were() {
    let net = internet!();
    for values in ["0", "1"] {
        net.host.sh(&format!(
            "for file in ipv4/conf/all/forwarding ipv4/conf/uplink/forwarding ipv6/conf/all/forwarding; do
                echo {values} > /proc/sys/net/$file
            done"
        ));
        let before = net.host.state();
        net.host.watch(&["curl", "-s", "http://app.example/"]).assert_ok();
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn overlapping_runs_share_the_sysctls_and_the_last_one_restores_them() {
    let net = internet!();
    let before = net.host.state();
    let gates = [net.host.gate(), net.host.gate()];
    let [mut first, mut second] = [0, 1].map(|number| {
        let script = format!("echo ready; {}; curl -sS http://app.example/", gates[number].wait());
        net.host.start(&[], &["sh", "-c", &script])
    });
    first.wait_for_stdout("ready");
    second.wait_for_stdout("ready");
    gates[0].open();
    assert!(first.finish().assert_ok().stdout.contains("hello"));
    // The second run still needs the sysctls after the end of the first.
    gates[1].open();
    assert!(second.finish().assert_ok().stdout.contains("hello"));
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_default_route_from_router_advertisements_is_kept() {
    let net = internet!(InternetShape { ipv6: HostIpv6::Advertised, ..InternetShape::default() });
    let before = net.host.state();
    let gate = net.host.gate();
    let script = format!("curl -sS -6 http://app.example/client; echo ready; {}", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    assert!(net.host.sh("ip -6 route show default").contains("proto ra"), "during the run");
    gate.open();
    running.finish().assert_ok();
    assert!(net.host.sh("ip -6 route show default").contains("proto ra"), "after it");
    net.host.assert_nothing_left(&before);
}

/// A second link of the host, and a machine on its first link that sends packets through the host
/// to the second.
struct Neighbor<'a>(&'a TestInternet);

impl<'a> Neighbor<'a> {
    /// Returns with the host not a router, after a check that it would forward if it were one.
    fn new(net: &'a TestInternet) -> Self {
        net.host.sh(
            "ip link add lan2 type veth peer name lan2peer; ip addr add 198.51.100.129/28 dev lan2; ip link set lan2 up
            ip addr add 2001:db8:2::1/64 dev lan2 nodad; ip link set lan2peer up
            ip neigh add 198.51.100.130 lladdr 02:00:00:00:00:01 dev lan2
            ip neigh add 2001:db8:2::2 lladdr 02:00:00:00:00:01 dev lan2
            nft add table inet watch; nft add chain inet watch out '{ type filter hook postrouting priority 300; }'",
        );
        net.inet.sh(&format!(
            "ip route add 198.51.100.128/28 via {HOST_V4}; ip -6 route add 2001:db8:2::/64 via {HOST_V6}"
        ));
        let neighbor = Self(net);
        neighbor.make_router("1");
        neighbor.wait_until_forwarded();
        neighbor.make_router("0");
        neighbor
    }

    fn make_router(&self, value: &str) {
        self.0.host.sh(&format!("for f in ipv4 ipv6; do echo {value} > /proc/sys/net/$f/conf/all/forwarding; done"));
    }

    /// Sends packets of both families. Returns for how many of them the host forwarded any.
    fn families_forwarded(&self) -> usize {
        self.0.host.sh("nft flush chain inet watch out
            nft add rule inet watch out oifname lan2 ip daddr 198.51.100.130 counter
            nft add rule inet watch out oifname lan2 ip6 daddr 2001:db8:2::2 counter");
        // Nothing answers, so both fail.
        self.0.inet.try_sh("ping -c 2 -i 0.1 -W 0.2 198.51.100.130 || ping -6 -c 2 -i 0.1 -W 0.2 2001:db8:2::2");
        2 - self.0.host.sh("nft list table inet watch").matches("counter packets 0 bytes 0").count()
    }

    /// Waits until the host forwards both families.
    #[track_caller]
    fn wait_until_forwarded(&self) {
        wait_until(
            || self.families_forwarded() == 2,
            || format!("forwarding of both families\n{}", self.0.host.sh("nft list ruleset")),
        );
    }
}

#[test]
fn the_host_does_not_become_a_router_for_others() {
    let net = internet!();
    let neighbor = Neighbor::new(&net);
    let gate = net.host.gate();
    let mut running = net.host.start(&[], &["sh", "-c", &format!("echo ready; {}", gate.wait())]);
    running.wait_for_stdout("ready");
    assert_eq!(neighbor.families_forwarded(), 0);
    gate.open();
    running.finish().assert_ok();
}

#[test]
fn a_host_that_becomes_a_router_during_the_run_stays_one() {
    let net = internet!();
    let neighbor = Neighbor::new(&net);
    let gate = net.host.gate();
    let script = format!("echo ready; {}; curl -sS http://app.example/", gate.wait());
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    // As Docker does when it starts.
    neighbor.make_router("1");
    neighbor.wait_until_forwarded();
    gate.open();
    assert_eq!(running.finish().assert_ok().stdout, "ready\nhello\n");
    let switches = net.host.sh("cat /proc/sys/net/ipv[46]/conf/all/forwarding");
    assert_eq!(switches, "1\n1\n", "a sysctl that another program has set stays set");
}

#[test]
fn replies_may_arrive_on_another_interface() {
    let net = internet!();
    // Packets leave by the first link, and replies arrive on the second.
    let pid = net.host.pid();
    net.inet.sh(&format!(
        "ip link add lan3 index 20 type veth peer name uplink3 netns {pid}; ip link set lan3 up; ip addr add 198.51.100.65/32 dev lan3
        ip route replace {HOST_V4}/32 dev lan3"
    ));
    net.host.sh("ip link set uplink3 up; ip route add 198.51.100.65/32 dev uplink3; for f in all uplink3 uplink; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done");
    let run = net.host.watch(&["curl", "-sS", "-4", "-m", "5", "http://203.0.113.10/client"]);
    assert_eq!(run.assert_ok().stdout.trim(), HOST_V4.to_string(), "{run}");
}

#[test]
fn a_route_change_during_the_run_is_followed() {
    let net = internet!();
    let pid = net.host.pid();
    net.inet.sh(&format!("ip link add lan4 index 30 type veth peer name uplink4 netns {pid}; ip addr add 198.51.100.193/28 dev lan4; ip link set lan4 up"));
    net.host.sh("ip addr add 198.51.100.194/28 dev uplink4; ip link set uplink4 addrgenmode none up");
    net.host.wait_for("ip link show dev uplink4 | grep -q 'state UP'");
    let gate = net.host.gate();
    let fetch = "curl -sS -4 -m 5 http://203.0.113.10/client";
    let script = format!("{fetch}; echo ready; {}; until {fetch}; do sleep 0.1; done", gate.wait());
    let before = net.host.state();
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    net.host.sh("ip route replace default via 198.51.100.193 dev uplink4");
    gate.open();
    let run = running.finish();
    assert!(run.assert_ok().stdout.contains("198.51.100.194"), "by the new route: {run}");
    net.host.sh(&format!("ip route replace default via {ROUTER_V4} dev uplink"));
    net.host.assert_nothing_left(&before);
}

#[test]
fn an_interface_that_appears_during_the_run_carries_its_packets() {
    let net = internet!();
    let pid = net.host.pid();
    let gate = net.host.gate();
    let script = format!(
        "echo ready; {}; for family in -4 -6; do
            until curl -sS $family -m 5 http://app.example/client; do sleep 0.1; done
        done",
        gate.wait()
    );
    let before = net.host.state();
    let mut running = net.host.start(&[], &["sh", "-c", &script]);
    running.wait_for_stdout("ready");
    // As when a VPN is started or a cable is connected: both default routes use the new interface.
    net.inet.sh(&format!(
        "ip link add lan5 index 40 type veth peer name vpn netns {pid}; ip link set lan5 addrgenmode none up
        ip addr add 198.51.100.209/28 dev lan5; ip addr add 2001:db8:5::1/64 dev lan5 nodad"
    ));
    net.host.sh(
        "ip link set vpn addrgenmode none up; ip addr add 198.51.100.210/28 dev vpn; ip addr add 2001:db8:5::2/64 dev vpn nodad
        ip route replace default via 198.51.100.209 dev vpn; ip -6 route replace default via 2001:db8:5::1 dev vpn",
    );
    net.host.wait_for("ip link show dev vpn | grep -q 'state UP'");
    gate.open();
    let run = running.finish();
    assert!(run.assert_ok().stdout.ends_with("ready\n198.51.100.210\n2001:db8:5::2\n"), "by the new routes: {run}");
    net.inet.sh("ip link del lan5");
    net.host.sh(&format!("ip route replace default via {ROUTER_V4}; ip -6 route replace default via {ROUTER_V6}"));
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_routing_rule_of_a_vpn_before_main_does_not_catch_the_answers() {
    let net = internet!();
    let pid = net.host.pid();
    net.inet.sh(&format!(
        "ip link add lan6 index 60 type veth peer name vpn netns {pid}; ip link set lan6 addrgenmode none up
        ip addr add 198.51.100.225/28 dev lan6; ip addr add 2001:db8:6::1/64 dev lan6 nodad"
    ));
    // As the exit node of a mesh VPN.
    net.host.sh(
        "ip link set vpn addrgenmode none up; ip addr add 198.51.100.226/28 dev vpn; ip addr add 2001:db8:6::2/64 dev vpn nodad
        ip route add default via 198.51.100.225 dev vpn table 52; ip -6 route add default via 2001:db8:6::1 dev vpn table 52
        ip rule add priority 5270 lookup 52; ip -6 rule add priority 5270 lookup 52",
    );
    net.host.wait_for("ip link show dev vpn | grep -q 'state UP'");
    let before = net.host.state();
    for (family, source) in [("-4", "198.51.100.226"), ("-6", "2001:db8:6::2")] {
        let run = net.host.watch(&["curl", "-sS", family, "-m", "20", "http://app.example/client"]);
        assert_eq!(run.assert_ok().stdout.trim(), source, "{run}");
    }
    net.host.assert_nothing_left(&before);
    // A rule that comes even before that of netwatch.
    net.host.sh(
        "ip rule add priority 10 lookup local; ip rule del priority 0 lookup local; ip rule add priority 5 lookup 52",
    );
    let run = net.host.run(&["-q"], &["true"]);
    assert!(
        run.assert_code(125).stderr.contains("a routing rule of the host sends them to another interface"),
        "{run}"
    );
}
