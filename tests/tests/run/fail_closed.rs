//! The host forwards for no other machine, whichever process of a run is killed or stopped, and
//! whatever becomes of the host's firewall. A neighbor probes all the time.

use std::process::Child;
use std::thread;
use std::time::Duration;

use netwatch_tests::{RunningNetwatch, TestInternet, TestNamespace, addresses::*, internet, wait_until};

/// An address behind the host's second interface, of each family.
const FAR: [&str; 2] = ["198.51.100.130", "2001:db8:2::2"];
/// Probes of each family that have to be sent in every state of the host.
const MIN_PROBES: u64 = 5;

/// A network behind a second interface of the host, and processes on the host's uplink that send
/// probes there through the host.
struct Probes<'a> {
    net: &'a TestInternet,
    far: TestNamespace,
    pings: [Child; 2],
}

impl<'a> Probes<'a> {
    /// Returns with the host not a router, after a check that probes would pass if it were one.
    fn start(net: &'a TestInternet) -> Self {
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
    fn sent(&self) -> Vec<u64> {
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

    #[track_caller]
    fn assert_none_passed(&self, after: &str) {
        self.wait_for_more();
        assert_eq!(self.passed(), [0, 0], "the host forwards for others: {after}");
    }
}

impl Drop for Probes<'_> {
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

/// A run whose command waits.
fn start_waiting(net: &TestInternet) -> RunningNetwatch {
    let mut running = net.host.start(&[], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    running
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: the call takes no pointer. The process is a netwatch of the test or its guardian, and
    // its parent has not waited for it.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send signal {signal} to {pid}");
}

/// What the host's administrator does to the firewall.
const FLUSH: &str = "nft flush ruleset; iptables -F; ip6tables -F";

#[test]
fn no_probe_passes_while_processes_of_a_run_are_killed() {
    let net = internet!();
    let probes = Probes::start(&net);
    net.host.run(&["-q"], &["true"]).assert_ok();
    net.host.sh(FLUSH);
    let before = net.host.state();
    for flush in ["", FLUSH] {
        for victim in ["netwatch", "guardian", "both"] {
            let running = start_waiting(&net);
            net.host.sh(flush);
            probes.assert_none_passed(&format!("during the run {flush}"));
            match victim {
                "netwatch" => running.signal(libc::SIGKILL),
                "guardian" => signal(running.guardian(), libc::SIGKILL),
                _ => drop(running.kill_with_guardian()),
            }
            probes.assert_none_passed(&format!("{victim} killed {flush}"));
            net.host.sh(flush);
            probes.assert_none_passed(&format!("{victim} killed, then {flush}"));
            net.host.netwatch(&["clean"]).assert_ok();
        }
    }
    net.host.assert_nothing_left(&before);
    probes.assert_none_passed("at the end");
}

#[test]
fn no_probe_passes_while_processes_of_a_run_are_stopped() {
    let net = internet!();
    let probes = Probes::start(&net);
    net.host.sh(FLUSH);
    let before = net.host.state();
    for [netwatch, guardian] in [[true, false], [false, true], [true, true]] {
        let running = start_waiting(&net);
        let processes = [(netwatch, running.pid()), (guardian, running.guardian())];
        let stopped: Vec<i32> = processes.into_iter().filter(|(stops, _)| *stops).map(|(_, pid)| pid).collect();
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        net.host.sh(FLUSH);
        probes.assert_none_passed("stopped");
        // Another run uses the same switches meanwhile.
        net.host.run(&["-q"], &["curl", "-sS", "http://app.example/"]).assert_ok();
        probes.assert_none_passed("another run has ended");
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
        running.signal(libc::SIGTERM);
        running.finish();
        probes.assert_none_passed("ended");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn no_probe_passes_at_any_moment_of_overlapping_runs() {
    let net = internet!();
    let probes = Probes::start(&net);
    net.host.run(&["-q"], &["true"]).assert_ok();
    let before = net.host.state();
    // Milliseconds after the start of the second run. A test of any moment is valid.
    for (number, millis) in [0, 5, 12, 25, 40, 70, 110, 160].into_iter().enumerate() {
        let first = start_waiting(&net);
        let mut second = net.host.start(&[], &["sleep", "0.05"]);
        thread::sleep(Duration::from_millis(millis));
        match number % 3 {
            0 => drop(first.kill_with_guardian()),
            1 => first.signal(libc::SIGKILL),
            _ => first.signal(libc::SIGTERM),
        }
        if number % 2 == 0 && second.is_running() {
            second.signal(libc::SIGKILL);
        }
        second.finish();
        probes.assert_none_passed(&format!("moment {millis}"));
        net.host.netwatch(&["clean"]).assert_ok();
    }
    net.host.assert_nothing_left(&before);
    probes.assert_none_passed("at the end");
}
