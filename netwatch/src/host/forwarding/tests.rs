//! Real switches in namespaces, and real packets through them.

use std::os::fd::AsRawFd;
use std::process::Command;

use super::*;
use crate::host::nat::{LinkAddresses, NatSpec};
use crate::host::nft::testbed::{Echo, Internet, TestNamespace, ask, is_unanswered, link_index};
use crate::host::testing::in_fresh_namespace;
use crate::undo::RunDir;

const BOTH: Families = Families { ipv4: true, ipv6: true };

fn subnets() -> Vec<IpNet> {
    ["10.250.0.0/30", "2001:db8:2::/64"].map(|net| net.parse().unwrap()).into()
}

fn lock() -> Exclusive {
    Exclusive::take().unwrap()
}

/// The part of a run that concerns forwarding.
struct Run {
    forwarding: Option<Forwarding>,
    /// `None` after its process has died.
    nat: Option<Nat>,
    journal: Journal,
    dir: Option<RunDir>,
}

impl Run {
    fn new(switch: Ipv6Switch) -> Self {
        let mut run = Self::unstarted();
        run.start(switch);
        run
    }

    fn unstarted() -> Self {
        let dir = RunDir::create(&lock()).unwrap();
        let nat = Nat::install(&NatSpec {
            run: dir.id(),
            link: link_index(),
            ipv4: Some(LinkAddresses { gateway: "10.250.0.1".parse().unwrap(), target: "10.250.0.2".parse().unwrap() }),
            ipv6: Some(LinkAddresses {
                gateway: "2001:db8:2::1".parse().unwrap(),
                target: "2001:db8:2::2".parse().unwrap(),
            }),
            masquerade: true,
            dns_port: None,
            publish: &[],
        });
        Self { forwarding: None, nat: Some(nat.unwrap()), journal: Journal::open(&dir).unwrap(), dir: Some(dir) }
    }

    fn start(&mut self, ipv6_switch: Ipv6Switch) {
        let spec = ForwardingSpec { run: self.id(), families: BOTH, subnets: subnets(), ipv6_switch };
        self.forwarding = Some(Forwarding::enable(spec, &self.journal, self.nat.as_ref().unwrap(), &lock()).unwrap());
    }

    fn id(&self) -> RunId {
        self.dir.as_ref().unwrap().id().clone()
    }

    fn refresh(&mut self) {
        self.forwarding.as_mut().unwrap().update(self.nat.as_ref().unwrap(), &lock()).unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(forwarding) = self.forwarding.take() {
            forwarding.disable(&lock()).unwrap();
        }
        self.dir.take().unwrap().remove().unwrap();
    }
}

const SWITCHES: [&str; 8] = [
    "ipv4/conf/all/forwarding",
    "ipv4/conf/eth0/forwarding",
    "ipv4/conf/eth1/forwarding",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/eth0/force_forwarding",
    "ipv6/conf/eth1/forwarding",
    "ipv6/conf/eth0/accept_ra",
    "ipv6/conf/eth1/accept_ra",
];

/// The values of [`SWITCHES`], a digit each.
fn switches() -> String {
    SWITCHES.map(|key| sysctl::read(key).unwrap().unwrap_or("-".into())).concat()
}

fn set(key: &str, value: &str) {
    SysctlSetting::new(key, value).write().unwrap();
}

use crate::host::sysctl::SysctlSetting;

/// A host with two interfaces, of which eth1 forwards IPv6 already.
fn host() -> Option<TestNamespace> {
    let ns = TestNamespace::new()?;
    ns.sh("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up
        echo 1 >/proc/sys/net/ipv6/conf/eth1/forwarding");
    ns.run(|| assert_eq!(switches(), "00000111"));
    Some(ns)
}

#[test]
fn switches_are_shared_by_runs_and_put_back_by_the_last() {
    let Some(host) = host() else { return };
    host.run(|| {
        let first = Run::new(Ipv6Switch::PerInterface);
        assert_eq!(switches(), "01101111");
        let second = Run::new(Ipv6Switch::PerInterface);
        assert_eq!(Journal::read(first.dir.as_ref().unwrap().path()).unwrap().len(), 1);
        drop(first);
        assert_eq!(switches(), "01101111");
        drop(second);
        assert_eq!(switches(), "00000111");
        assert!(SwitchRegister::find(sysctl::netns_cookie().unwrap(), &lock()).unwrap().is_none());
    });
}

#[test]
fn a_taken_place_of_the_guards_is_known_before_a_run() {
    let Some(host) = host() else { return };
    let ipv4 = Families { ipv4: true, ipv6: false };
    host.run(move || check_guards(BOTH).unwrap());
    host.sh("ip rule add priority 1 lookup main");
    host.run(move || {
        let error = check_guards(ipv4).unwrap_err().to_string();
        assert!(error.contains("another program has priority 1"), "{error}");
        check_guards(Families { ipv4: false, ipv6: true }).unwrap();
        SWITCHES[..3].iter().for_each(|key| set(key, "1"));
        check_guards(ipv4).expect("no guard is needed");
    });
}

/// The routing rules of netwatch, without their priorities.
fn rules() -> Vec<String> {
    let ip = |family| String::from_utf8(Command::new("ip").args([family, "rule"]).output().unwrap().stdout).unwrap();
    let all = [ip("-4"), ip("-6")].concat();
    let ours = all.lines().filter(|rule| rule.contains("blackhole") || rule.contains("suppress"));
    ours.map(|rule| rule.split_once('\t').unwrap().1.to_owned()).collect()
}

#[test]
fn guards_are_shared_by_runs_and_removed_by_the_last() {
    let Some(host) = host() else { return };
    host.run(|| {
        let guards = ["from all iif eth0 blackhole", "from all iif eth1 blackhole"];
        for switch in [Ipv6Switch::PerInterface, Ipv6Switch::AllInterfaces] {
            let first = Run::new(switch);
            let passes = |family: usize| {
                let passes = [
                    "from all to 10.250.0.0/30 lookup main suppress_prefixlength 29",
                    "from all to 2001:db8:2::/64 lookup main suppress_prefixlength 63",
                ];
                passes[family]
            };
            let of_run = [&[passes(0)][..], &guards, &[passes(1)], &guards].concat();
            assert_eq!(rules(), of_run, "{switch:?}");
            // Another program has removed it, and netwatch restores it.
            assert!(["-4", "-6", "-4", "-6"].iter().all(|family| ip(family, "rule del priority 1")));
            let mut second = Run::new(switch);
            assert_eq!(rules(), of_run, "the second run has the same subnets in this test");
            second.refresh();
            drop(first);
            // The passes of the first run are removed, and those of the second are restored.
            second.refresh();
            assert_eq!(rules(), of_run);
            drop(second);
            assert_eq!(rules(), <[String; 0]>::default());
        }
    });
}

fn ip(family: &str, words: &str) -> bool {
    Command::new("ip").arg(family).args(words.split(' ')).status().unwrap().success()
}

#[test]
fn before_force_forwarding_router_advertisements_are_kept_first() {
    let Some(host) = host() else { return };
    host.run(|| {
        let first = Run::new(Ipv6Switch::AllInterfaces);
        assert_eq!(switches(), "01110121");
        let second = Run::new(Ipv6Switch::AllInterfaces);
        assert_eq!(switches(), "01110121");
        drop(first);
        assert_eq!(switches(), "01110121");
        drop(second);
        assert_eq!(switches(), "00000111");
    });
}

#[test]
fn keeps_what_other_programs_change_meanwhile() {
    let Some(host) = host() else { return };
    host.run(|| {
        let run = Run::new(Ipv6Switch::PerInterface);
        set("ipv4/conf/eth0/forwarding", "0");
        drop(run);
        assert_eq!(switches(), "00000111");
        // Another program makes the machine a router: netwatch keeps that and no longer guards
        // forwarding.
        let mut run = Run::new(Ipv6Switch::PerInterface);
        set("ipv4/conf/all/forwarding", "1");
        set("ipv6/conf/all/forwarding", "1");
        run.refresh();
        assert_eq!(run.forwarding.as_ref().unwrap().guards, []);
        drop(run);
        assert_eq!(&switches()[..4], "1111");
    });
}

#[test]
fn a_router_is_left_alone() {
    let Some(host) = host() else { return };
    host.run(|| {
        set("ipv4/conf/all/forwarding", "1");
        set("ipv6/conf/all/forwarding", "1");
        let before = switches();
        for switch in [Ipv6Switch::PerInterface, Ipv6Switch::AllInterfaces] {
            let run = Run::new(switch);
            assert_eq!(switches(), before);
            assert_eq!(run.forwarding.as_ref().unwrap().guards, []);
            drop(run);
            assert_eq!(switches(), before);
        }
    });
}

#[test]
fn new_interfaces_are_followed() {
    let Some(host) = TestNamespace::new() else { return };
    for (switch, on) in [(Ipv6Switch::PerInterface, "01101011"), (Ipv6Switch::AllInterfaces, "01110122")] {
        let run = host.run(move || {
            let mut run = Run::new(switch);
            run.refresh();
            run
        });
        host.sh("ip link add eth0 type veth peer name eth1");
        host.run(move || {
            let mut run = run;
            run.refresh();
            assert_eq!(switches(), on);
            assert!(run.forwarding.as_ref().unwrap().guards.contains(&ForwardGuard::Ipv4("eth0".into())));
            drop(run);
            assert_eq!(switches(), "00000011");
        });
        host.sh("ip link del eth0");
    }
}

#[test]
fn a_killed_run_is_undone_later_but_only_from_its_namespace() {
    let (Some(host), Some(elsewhere)) = (host(), TestNamespace::new()) else { return };
    let (run, cookie) = host.run(|| {
        let mut run = Run::new(Ipv6Switch::AllInterfaces);
        std::mem::forget(run.forwarding.take());
        (run, sysctl::netns_cookie().unwrap())
    });
    let id = run.id();
    let from_elsewhere = move || {
        let id = id.clone();
        elsewhere.run(move || release(&id, cookie, &lock()).unwrap())
    };
    assert_eq!(from_elsewhere(), Released::OtherNamespace);
    let id = run.id();
    host.run(move || {
        assert_eq!(switches(), "01110121");
        for _ in 0..2 {
            assert_eq!(release(&id, cookie, &lock()).unwrap(), Released::Done);
            assert_eq!(switches(), "00000111");
        }
    });
    assert_eq!(from_elsewhere(), Released::Done);
}

#[test]
fn registers_of_dead_namespaces_are_forgotten() {
    let (Some(host), Some(elsewhere)) = (host(), TestNamespace::new()) else { return };
    let (mut run, cookie) = host.run(|| (Run::new(Ipv6Switch::PerInterface), sysctl::netns_cookie().unwrap()));
    std::mem::forget(run.forwarding.take());
    drop(host);
    let there = move || SwitchRegister::find(cookie, &lock()).unwrap().is_some();
    assert!(there());
    elsewhere.run(|| forget_dead_namespaces(&lock()).unwrap());
    assert!(!there());
}

/// The default route that a router advertisement of `inet` makes on the host.
fn advertise(internet: &Internet) {
    internet.host.sh("ip -6 route del default");
    internet.inet.run(|| {
        use nix::sys::socket::*;
        let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6).unwrap();
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).unwrap();
        let eth0 = nix::net::if_::if_nametoindex("eth0").unwrap();
        let everybody = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, eth0);
        // RFC 4861, 4.2: type 134, hop limit 64, no flags, lifetime 1800 s; the kernel fills in the
        // checksum.
        let advertisement =
            [134, 0, 0, 0, 64, 0, 1800u16.to_be_bytes()[0], 1800u16.to_be_bytes()[1], 0, 0, 0, 0, 0, 0, 0, 0];
        sendto(socket.as_raw_fd(), &advertisement, &SockaddrIn6::from(everybody), MsgFlags::empty()).unwrap();
    });
    internet
        .host
        .sh("for i in $(seq 3000); do ip -6 route show default | grep -q 'proto ra' && exit; sleep 0.02; done; exit 1");
}

#[test]
fn the_route_of_a_router_advertisement_survives() {
    let Some(internet) = Internet::new() else { return };
    advertise(&internet);
    let has_route = || internet.host.sh("ip -6 route show default").contains("proto ra");
    // Verifies that the test detects the difference: the switch alone deletes the route.
    internet.host.sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    assert!(!has_route());
    internet.host.sh("ip -6 route add default via 2001:db8:1::1");
    advertise(&internet);
    for switch in [Ipv6Switch::AllInterfaces, Ipv6Switch::PerInterface] {
        let run = internet.host.run(move || Run::new(switch));
        assert!(has_route());
        internet.host.run(move || drop(run));
        assert!(has_route());
    }
}

#[test]
fn forwards_for_the_target_and_for_no_other_host() {
    let (Some(mut internet), Some(other)) = (Internet::new(), TestNamespace::new()) else { return };
    internet.host.sh(&format!(
        "ip link add eth1 type veth peer name eth0 netns {}
         ip addr add 2001:db8:3::1/64 dev eth1 nodad; ip addr add 203.0.113.1/24 dev eth1; ip link set eth1 up",
        other.id()
    ));
    other.sh("ip addr add 2001:db8:3::2/64 dev eth0 nodad; ip addr add 203.0.113.2/24 dev eth0; ip link set eth0 up
        ip -6 route add default via 2001:db8:3::1; ip route add default via 203.0.113.1");
    internet.inet.sh("ip -6 route add 2001:db8:3::/64 via 2001:db8:1::2; ip route add 203.0.113.0/24 via 198.51.100.2");
    other.until_answer("2001:db8:3::1");
    // The same holds with strict reverse path filtering.
    internet.host.sh("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter");
    let _servers = ["198.51.100.1:7", "[2001:db8:1::1]:7"].map(|at| Echo::start(&internet.inet, at));
    for switch in [Ipv6Switch::PerInterface, Ipv6Switch::AllInterfaces] {
        let run = internet.host.run(Run::unstarted);
        let (old, new) = (internet.interface(), run.id().interface());
        internet.host.sh(&format!("ip link set {old} name {new}"));
        internet.run = run.id();
        let run = internet.host.run(move || {
            prepare_interface(&run.id().interface(), BOTH, false).unwrap();
            let mut run = run;
            run.start(switch);
            run
        });
        assert_eq!(ask(&internet.target, "198.51.100.1:7").as_deref(), Some("198.51.100.2"));
        assert_eq!(ask(&internet.target, "[2001:db8:1::1]:7").as_deref(), Some("2001:db8:1::2"));
        let is_refused = || ["198.51.100.1:7", "[2001:db8:1::1]:7"].map(|to| is_unanswered(&other, to));
        assert_eq!(is_refused(), [true, true]);
        // The same holds when the process that owns the nftables table is dead.
        let run = internet.host.run(move || {
            let mut run = run;
            run.nat = None;
            run
        });
        assert_eq!(is_refused(), [true, true]);
        internet.host.run(move || drop(run));
    }
}

#[test]
fn the_runs_own_interface_is_prepared() {
    let Some(host) = TestNamespace::new() else { return };
    host.sh("ip link add nw12345678 type veth peer name eth0
        echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/default/forwarding");
    host.run(|| {
        prepare_interface("nw12345678", BOTH, true).unwrap();
        let value = |key: &str| sysctl::read(&key.replace('%', "conf/nw12345678")).unwrap().unwrap();
        let found = ["ipv4/%/forwarding", "ipv4/%/rp_filter", "ipv4/%/route_localnet"].map(value);
        assert_eq!(found, ["1", "2", "1"]);
        let found = ["ipv6/%/accept_ra", "ipv6/%/accept_dad", "ipv6/%/force_forwarding"].map(value);
        assert_eq!(found, ["0", "0", "1"]);
        let found = ["ipv4/%/accept_redirects", "ipv4/%/secure_redirects", "ipv6/%/accept_redirects"].map(value);
        assert_eq!(found, ["0", "0", "0"]);
        assert_eq!(own_again(), 0, "nothing is written twice");
    });
}

fn own_again() -> usize {
    plan::own_interface("nw12345678", BOTH, true).unwrap().len()
}

#[test]
fn a_read_only_proc_is_explained() {
    let Some(host) = host() else { return };
    // A mount namespace of its own for one thread, in which /proc/sys cannot be written, as in a
    // container.
    host.run(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("/proc/sys"), "/proc/sys", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/proc/sys", None::<&str>, read_only, None::<&str>).unwrap();
        let run = Run::unstarted();
        let ipv6_switch = Ipv6Switch::PerInterface;
        let spec = ForwardingSpec { run: run.id(), families: BOTH, subnets: subnets(), ipv6_switch };
        let error = Forwarding::enable(spec, &run.journal, run.nat.as_ref().unwrap(), &lock()).unwrap_err().to_string();
        assert!(error.starts_with("cannot set /proc/sys/net/ipv4/conf/eth0/forwarding=1: "), "{error}");
        assert!(error.contains("(EROFS); /proc/sys cannot be written here"), "{error}");
    });
}

#[test]
fn a_full_run_directory_keeps_no_incomplete_register() {
    in_fresh_namespace(|| {
        use nix::mount::{MsFlags, mount};
        let held = lock();
        let mut register = SwitchRegister::open(sysctl::netns_cookie().unwrap(), &held).unwrap();
        let entry = register::SwitchEntry { original: "0".into(), set: "1".into(), global: None, runs: Vec::new() };
        register.entries_mut().insert("key".repeat(10_000), entry);
        mount(None::<&str>, "/run", None::<&str>, MsFlags::MS_REMOUNT, Some("size=64k")).unwrap();
        while std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open("/run/filler")
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 4096]))
            .is_ok()
        {}
        let error = register.save().unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::ENOSPC), "{error}");
        let left = std::fs::read_dir("/run/netwatch").unwrap().flatten().map(|entry| entry.file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["lock"]);
    });
}
