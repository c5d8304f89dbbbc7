//! Links in namespaces, verified with `ip`, sockets and the interface counters.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::host::forwarding::Families;
use crate::host::subnet::{Occupied, WantedSubnets};
use crate::host::testing::{in_fresh_namespace, ip};
use crate::undo::{Exclusive, Journal, RunDir};

const INTERFACE: &str = "nwtest0";

fn plan(ipv6: bool) -> LinkPlan<'static> {
    let subnets =
        Subnets::choose(&WantedSubnets::default(), Families { ipv4: true, ipv6 }, &Occupied::default(), 3).unwrap();
    LinkPlan { interface: INTERFACE, mtu: 1420, subnets, link_local: false }
}

/// Runs a test with a link in a host that was made for it.
fn with_link(ipv6: bool, test: impl FnOnce(Namespace, Link, Subnets) + Send) {
    in_fresh_namespace(|| {
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let mut namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
        let plan = plan(ipv6);
        let link = Link::create(&plan, &mut namespace, |_, _| Ok(())).unwrap();
        test(namespace, link, plan.subnets);
    });
}

#[test]
fn sets_up_both_ends_as_ip_sees_them() {
    with_link(true, |namespace, link, subnets| {
        let outer = ip("-d link show nwtest0");
        for expected in ["mtu 1420", "group 28279", "addrgenmode none", "LOWER_UP", "numtxqueues 1"] {
            assert!(outer.contains(expected), "{expected} not in {outer}");
        }
        let (inner, addresses, v4, v6) = namespace
            .run_in(|| (ip("-d link show eth0"), ip("-o addr show"), ip("route show"), ip("-6 route show default")))
            .unwrap();
        assert!(inner.contains("mtu 1420") && inner.contains("LOWER_UP"), "{inner}");
        assert!(inner.contains(&format!("eth0@if{}", link.index())), "{inner}");
        assert!(!addresses.contains("tentative"), "{addresses}");
        for address in [subnets.v4.unwrap().target(), subnets.v6.unwrap().target(), LINK_LOCAL_TARGET.into()] {
            assert!(addresses.contains(&format!(" {address}/")), "{address} not in {addresses}");
        }
        assert!(addresses.contains("::1/128") && addresses.contains("127.0.0.1/8"), "{addresses}");
        assert_eq!(addresses.matches("eth0").count(), 3 + 1 /* the label of the IPv4 address */, "{addresses}");
        assert!(v4.contains(&format!("default via {} dev eth0", subnets.v4.unwrap().gateway())), "{v4}");
        assert!(v6.contains(&format!("default via {} dev eth0", subnets.v6.unwrap().gateway())), "{v6}");
    });
}

#[test]
fn a_link_local_address_can_be_all_of_ipv6() {
    in_fresh_namespace(|| {
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let mut namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
        let plan = LinkPlan { link_local: true, ..plan(false) };
        let _link = Link::create(&plan, &mut namespace, |_, _| Ok(())).unwrap();
        let inside = namespace.run_in(|| ip("-6 -o addr show dev eth0") + &ip("-6 route show default")).unwrap();
        assert!(inside.contains(&format!("{LINK_LOCAL_TARGET}/64")) && inside.lines().count() == 1, "{inside}");
        assert_eq!(ip("-6 -o addr show dev nwtest0"), "");
    });
}

#[test]
fn has_no_ipv6_unless_requested() {
    with_link(false, |namespace, _link, _| {
        assert_eq!(ip("-6 -o addr show dev nwtest0"), "");
        assert_eq!(namespace.run_in(|| ip("-6 -o addr show dev eth0")).unwrap(), "");
    });
}

#[test]
fn has_ipv6_where_it_is_off_for_new_interfaces() {
    in_fresh_namespace(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let mut namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
        let _link = Link::create(&plan(true), &mut namespace, |_, _| Ok(())).unwrap();
        assert!(ip("-6 -o addr show dev nwtest0").contains("64:ff9b:1:"));
        // The host must not accept routes that the target advertises as a router.
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/nwtest0/accept_ra").unwrap(), "0\n");
    });
}

/// `RetransSegs` of the calling thread's network namespace (RFC 4022).
fn retransmitted_segments() -> String {
    let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = counters.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().to_owned()
}

#[test]
fn carries_packets_both_ways_at_once() {
    with_link(true, |namespace, _link, subnets| {
        let groups = [ip("-6 maddr show dev nwtest0"), namespace.run_in(|| ip("-6 maddr show dev eth0")).unwrap()];
        assert!(groups[0].contains("ff02::1:ff00:1") && groups[1].contains("ff02::1:ff00:2"), "{groups:?}");
        for subnet in [subnets.v6.unwrap(), subnets.v4.unwrap()] {
            let outside = TcpListener::bind((subnet.gateway(), 0)).unwrap();
            let inside = namespace.run_in(|| TcpListener::bind((subnet.target(), 0)).unwrap()).unwrap();
            let to = outside.local_addr().unwrap();
            namespace.run_in(|| TcpStream::connect(to).unwrap()).unwrap();
            TcpStream::connect(inside.local_addr().unwrap()).unwrap();
        }
        // A lost first packet, or neighbor solicitation, causes a retransmission a second later.
        assert_eq!([retransmitted_segments(), namespace.run_in(retransmitted_segments).unwrap()], ["0", "0"]);
    });
}

#[test]
fn counters_stay_readable_after_the_link_is_down() {
    with_link(false, |mut namespace, mut link, subnets| {
        let outside = UdpSocket::bind((subnets.v4.unwrap().gateway(), 0)).unwrap();
        let to = outside.local_addr().unwrap();
        namespace
            .run_in(|| {
                let socket = UdpSocket::bind((subnets.v4.unwrap().target(), 0)).unwrap();
                for _ in 0..10 {
                    socket.send_to(&[0; 100], to).unwrap();
                }
                let local = UdpSocket::bind("127.0.0.1:0").unwrap();
                local.send_to(&[0; 8], local.local_addr().unwrap()).unwrap();
            })
            .unwrap();
        assert!(link.counters().unwrap().unwrap().rx_packets >= 10);
        let counters = take_down_and_count(INTERFACE).unwrap().unwrap();
        let arp = counters.rx_packets - 10;
        assert_eq!(counters.rx_bytes, 10 * (14 + 20 + 8 + 100) + arp * 42);
        assert_eq!(loopback_counters(&mut namespace).unwrap().tx_packets, 1);
        assert!(ip("link show nwtest0").contains("state DOWN"));
    });
}

#[test]
fn counters_of_a_removed_interface_are_unknown_not_zero() {
    with_link(false, |_namespace, mut link, _| {
        ip("link delete nwtest0");
        assert_eq!(link.counters().unwrap(), None);
        assert_eq!(take_down_and_count(INTERFACE).unwrap(), None);
        assert!(!delete(INTERFACE).unwrap());
        link.delete().unwrap();
    });
}

#[test]
fn is_removed_with_the_namespace() {
    with_link(true, |namespace, _link, _| {
        drop(namespace);
        let started = Instant::now();
        while Path::new("/proc/sys/net/ipv4/conf/nwtest0").exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "the link is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_name_that_is_taken_is_reported() {
    in_fresh_namespace(|| {
        ip("link add nwtest0 type veth peer name other");
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let mut namespace = Namespace::create(None, &Journal::open(&run).unwrap()).unwrap();
        let error = Link::create(&plan(true), &mut namespace, |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("cannot create interface nwtest0: "), "{error}");
        assert_eq!(error.errno(), Some(Errno::EEXIST));
    });
}
