//! A neighbor that sends probes through the host all the time, of both address families, to find
//! out whether the host forwards for others at any moment.

use std::process::Child;

use crate::addresses::{HOST_V4, HOST_V6};
use crate::internet::TestInternet;
use crate::namespace::TestNamespace;
use crate::wait::wait_until;

/// An address behind the host's second interface, of each family.
const FAR: [&str; 2] = ["198.51.100.130", "2001:db8:2::2"];
/// Probes of each family that have to be sent in every state of the host.
const MIN_PROBES: u64 = 5;

/// A network behind a second interface of the host, and processes on the host's uplink that send
/// probes there through the host.
#[derive(Debug)]
pub struct NeighborProbes<'a> {
    net: &'a TestInternet,
    far: TestNamespace,
    pings: [Child; 2],
}

impl<'a> NeighborProbes<'a> {
    /// Returns with the host not a router, after a check that probes would pass if it were one.
    pub fn start(net: &'a TestInternet) -> Self {
        let far = TestNamespace::new("far");
        net.host.sh(&format!(
            "ip link add lan2 index 50 type veth peer name near address 02:00:00:00:00:01 netns {}
            ip link set lan2 addrgenmode none; ip addr add 198.51.100.129/28 dev lan2; ip addr add 2001:db8:2::1/64 dev lan2 nodad; ip link set lan2 up
            for address in {}; do ip neigh add $address lladdr 02:00:00:00:00:01 dev lan2; done",
            far.pid(),
            FAR.join(" ")
        ));
        far.sh(&format!("ip link set near up; {}", counters("prerouting")));
        net.inet.sh(&format!(
            "ip route add 198.51.100.128/28 via {HOST_V4}; ip -6 route add 2001:db8:2::/64 via {HOST_V6}; {}",
            counters("postrouting")
        ));
        let ping = |to| net.inet.command("ping").args(["-q", "-i", "0.02", to]).spawn().expect("start ping");
        let probes = Self { net, far, pings: FAR.map(ping) };
        probes.make_router("1");
        let passed = || probes.passed();
        wait_until(|| passed().iter().all(|count| *count > 0), || format!("probes of both families: {:?}", passed()));
        probes.make_router("0");
        // None of those is still on its way when a later probe has been sent.
        probes.wait_for_more();
        probes.far.sh(&format!("nft flush ruleset; {}", counters("prerouting")));
        probes
    }

    fn make_router(&self, value: &str) {
        let script = format!("for f in ipv4 ipv6; do echo {value} > /proc/sys/net/$f/conf/all/forwarding; done");
        self.net.host.sh(&script);
    }

    /// Number of probes of each family that were sent.
    pub fn sent(&self) -> Vec<u64> {
        counted(&self.net.inet.sh("nft list table inet probes"))
    }

    /// Number of probes of each family that the host has forwarded.
    fn passed(&self) -> Vec<u64> {
        counted(&self.far.sh("nft list table inet probes"))
    }

    /// Waits until the host had to deal with further probes of both families.
    #[track_caller]
    fn wait_for_more(&self) {
        let before = self.sent();
        let is_sent = || self.sent().iter().zip(&before).all(|(now, before)| *now >= before + MIN_PROBES);
        wait_until(is_sent, || format!("more probes than {before:?}"));
    }

    /// Waits until further probes were sent, and panics if the host has ever forwarded one. `after`
    /// describes what was done to the host.
    #[track_caller]
    pub fn assert_none_passed(&self, after: &str) {
        self.wait_for_more();
        assert_eq!(self.passed(), [0, 0], "the host forwards for others: {after}");
    }
}

impl Drop for NeighborProbes<'_> {
    fn drop(&mut self) {
        for ping in &mut self.pings {
            let _ = ping.kill();
            let _ = ping.wait();
        }
    }
}

fn counters(hook: &str) -> String {
    format!(
        "nft add table inet probes; nft add chain inet probes counters '{{ type filter hook {hook} priority 300; }}'
        nft add rule inet probes counters ip daddr {} counter; nft add rule inet probes counters ip6 daddr {} counter",
        FAR[0], FAR[1]
    )
}

fn counted(rules: &str) -> Vec<u64> {
    let counts = rules.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().expect("a word").parse().expect("a number")).collect()
}
