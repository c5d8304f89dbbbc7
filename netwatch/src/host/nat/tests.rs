//! Packets through inet – host – target.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::host::nft::testbed::{Echo, Internet, TestNamespace, ask, is_unanswered, link_index};
use crate::host::publish::reserve;

const INET: &str = "198.51.100.1:7000";
const INET6: &str = "[2001:db8:1::1]:7000";

fn spec<'a>(run: &'a RunId, publish: &'a [Publish]) -> NatSpec<'a> {
    NatSpec {
        run,
        link: link_index(),
        ipv4: Some(LinkAddresses { gateway: Ipv4Addr::new(10, 250, 0, 1), target: Ipv4Addr::new(10, 250, 0, 2) }),
        ipv6: Some(LinkAddresses {
            gateway: "2001:db8:2::1".parse().unwrap(),
            target: "2001:db8:2::2".parse().unwrap(),
        }),
        masquerade: true,
        dns_port: None,
        publish,
    }
}

/// Installs the default specification in the host, modified by `change`.
fn install(
    internet: &Internet,
    publish: &'static [&str],
    change: impl FnOnce(&mut NatSpec<'_>) + Send + 'static,
) -> Nat {
    let run = internet.run.clone();
    internet.host.run(move || {
        let publish: Vec<Publish> = publish.iter().map(|text| text.parse().unwrap()).collect();
        let mut spec = spec(&run, &publish);
        change(&mut spec);
        Nat::install(&spec).unwrap()
    })
}

fn route_localnet(internet: &Internet) {
    internet.host.sh(&format!("echo 1 >/proc/sys/net/ipv4/conf/{}/route_localnet", internet.interface()));
}

#[test]
fn translates_the_targets_source_and_drops_connections_from_outside() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    let nat = install(&internet, &[], |_| {});
    let _servers = [Echo::start(&internet.inet, INET), Echo::start(&internet.inet, INET6)];
    let _target = [Echo::start(&internet.target, "10.250.0.2:9"), Echo::start(&internet.target, "[2001:db8:2::2]:9")];
    assert_eq!(ask(&internet.target, INET).as_deref(), Some("198.51.100.2"));
    assert_eq!(ask(&internet.target, INET6).as_deref(), Some("2001:db8:1::2"));
    assert!(is_unanswered(&internet.inet, "10.250.0.2:9"), "unpublished");
    assert!(is_unanswered(&internet.inet, "[2001:db8:2::2]:9"), "unpublished");
    assert_eq!(ask(&internet.host, "10.250.0.2:9").as_deref(), Some("10.250.0.1"), "the host itself may");
    drop(nat);
    internet.host.until_no_table();
    assert_eq!(ask(&internet.inet, "10.250.0.2:9").as_deref(), Some("198.51.100.1"));
}

#[test]
fn without_nat_addresses_stay_and_routed_hosts_come_in() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    let _nat = install(&internet, &[], |spec| spec.masquerade = false);
    let _server = Echo::start(&internet.inet, INET);
    let _target = Echo::start(&internet.target, "[2001:db8:2::2]:9");
    assert_eq!(ask(&internet.target, INET).as_deref(), Some("10.250.0.2"));
    assert_eq!(ask(&internet.inet, "[2001:db8:2::2]:9").as_deref(), Some("2001:db8:1::1"));
}

#[test]
fn a_published_port_is_reached_from_everywhere_with_the_clients_address() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    route_localnet(&internet);
    let _nat = install(&internet, &["8080:80/udp", "8443:443"], |_| {});
    let _held = internet.host.run(|| reserve(&["8080:80/udp".parse().unwrap()]).unwrap());
    let _echo = [Echo::start(&internet.target, "10.250.0.2:80"), Echo::start(&internet.target, "[2001:db8:2::2]:80")];
    let seen = |namespace, to| ask(namespace, to).unwrap_or_else(|| panic!("no answer from {to}"));
    assert_eq!(seen(&internet.inet, "198.51.100.2:8080"), "198.51.100.1");
    assert_eq!(seen(&internet.inet, "[2001:db8:1::2]:8080"), "2001:db8:1::1");
    assert_eq!(seen(&internet.host, "198.51.100.2:8080"), "198.51.100.2");
    assert_eq!(seen(&internet.host, "[2001:db8:1::2]:8080"), "2001:db8:1::2");
    assert_eq!(seen(&internet.host, "127.0.0.1:8080"), "10.250.0.1");
    assert_eq!(seen(&internet.host, "127.0.0.99:8080"), "10.250.0.1");
    assert!(is_unanswered(&internet.host, "[::1]:8080"));
    tcp_through(&internet, "127.0.0.1:8443");
}

fn tcp_through(internet: &Internet, at: &'static str) {
    let server = internet.target.run(|| TcpListener::bind("0.0.0.0:443").unwrap());
    internet.host.run(move || {
        TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(60)).unwrap();
    });
    assert_eq!(server.accept().unwrap().1.ip().to_string(), "10.250.0.1");
}

#[test]
fn a_port_published_on_one_address_is_on_that_one_only() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    route_localnet(&internet);
    let _nat = install(&internet, &["127.0.0.1:8080:80/udp", "[2001:db8:1::2]:8081:80/udp"], |_| {});
    let _echo = [Echo::start(&internet.target, "10.250.0.2:80"), Echo::start(&internet.target, "[2001:db8:2::2]:80")];
    assert_eq!(ask(&internet.host, "127.0.0.1:8080").as_deref(), Some("10.250.0.1"));
    assert!(is_unanswered(&internet.inet, "198.51.100.2:8080"));
    assert_eq!(ask(&internet.inet, "[2001:db8:1::2]:8081").as_deref(), Some("2001:db8:1::1"));
    assert!(is_unanswered(&internet.inet, "198.51.100.2:8081"));
}

#[test]
fn another_runs_published_port_is_named() {
    let Some(internet) = Internet::new() else { return };
    let _nat = install(&internet, &["8080:80/udp"], |_| {});
    let error = internet.host.run(|| {
        let _held = reserve(&["8080:80/udp".parse().unwrap()]).unwrap();
        reserve(&["127.0.0.1:8080:1/udp".parse().unwrap()]).unwrap_err().to_string()
    });
    // Bound UDP sockets are listed for this process; a TCP socket would not be.
    assert!(error.contains("port 8080/udp is in use by "), "{error}");
    let run = internet.host.run(|| run_that_publishes(&"8080:1/udp".parse().unwrap()).unwrap());
    assert_eq!(run, Some(internet.run.clone()));
}

#[test]
fn the_hosts_loopback_is_closed_on_the_link() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    route_localnet(&internet);
    let _service = Echo::start(&internet.host, "127.0.0.1:5432");
    let _nat = install(&internet, &["1:1"], |_| {});
    assert!(is_unanswered(&internet.target, "10.250.0.1:5432"));
    assert!(is_unanswered(&internet.inet, "198.51.100.2:5432"));
    internet.inet.sh("ip route add 10.250.0.1/32 via 198.51.100.2");
    assert!(is_unanswered(&internet.inet, "10.250.0.1:5432"));
    // Frames with 127.0.0.1 on the wire, from the target and from outside.
    for (namespace, gateway) in [(&internet.target, "10.250.0.1"), (&internet.inet, "198.51.100.2")] {
        namespace.sh(&format!(
            "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet
             ip route del local 127.0.0.1 table local; ip route del local 127.0.0.0/8 table local
             ip route add 127.0.0.0/8 via {gateway}"
        ));
        assert!(is_unanswered(namespace, "127.0.0.1:5432"));
    }
}

#[test]
fn queries_to_the_gateway_reach_the_forwarders_own_port() {
    let Some(internet) = Internet::new() else { return };
    let _nat = install(&internet, &[], |spec| spec.dns_port = Some(5300));
    let _others = Echo::start(&internet.host, "127.0.0.1:53");
    let _forwarder =
        [Echo::start(&internet.host, "10.250.0.1:5300"), Echo::start(&internet.host, "[2001:db8:2::1]:5300")];
    assert_eq!(ask(&internet.target, "10.250.0.1:53").as_deref(), Some("10.250.0.2"));
    assert_eq!(ask(&internet.target, "[2001:db8:2::1]:53").as_deref(), Some("2001:db8:2::2"));
}

/// A second network behind the host, to which the host could route for others.
#[test]
fn the_host_does_not_route_for_others() {
    let Some(internet) = Internet::new() else { return };
    let Some(other) = TestNamespace::new() else { return };
    internet.host.sh(&format!(
        "ip link add eth1 type veth peer name eth0 netns {}
         ip addr add 203.0.113.1/24 dev eth1; ip addr add 2001:db8:3::1/64 dev eth1 nodad; ip link set eth1 up",
        other.id()
    ));
    other.sh("ip addr add 203.0.113.2/24 dev eth0; ip addr add 2001:db8:3::2/64 dev eth0 nodad
        ip link set eth0 up; ip route add default via 203.0.113.1; ip -6 route add default via 2001:db8:3::1");
    internet.inet.sh("ip route add 203.0.113.0/24 via 198.51.100.2; ip -6 route add 2001:db8:3::/64 via 2001:db8:1::2");
    internet.forward();
    other.until_answer("2001:db8:3::1");
    let _servers = [Echo::start(&internet.inet, INET), Echo::start(&internet.inet, INET6)];
    let nat = install(&internet, &[], |_| {});
    let asks = |who: &TestNamespace, expected: [bool; 2]| {
        for (to, is_open) in [INET, INET6].into_iter().zip(expected) {
            assert!(if is_open { ask(who, to).is_some() } else { is_unanswered(who, to) }, "{to}: {is_open}");
        }
    };
    asks(&other, [true, true]);
    let nat = internet.host.run(move || {
        nat.guard(&[ForwardGuard::Ipv4("eth1".into()), ForwardGuard::Ipv6("eth1".into())]).unwrap();
        nat
    });
    asks(&other, [false, false]);
    asks(&internet.target, [true, true]);
    let nat = internet.host.run(move || {
        nat.guard(&[ForwardGuard::Ipv6All]).unwrap();
        nat
    });
    asks(&other, [true, false]);
    asks(&internet.target, [true, true]);
    drop(nat);
    internet.host.until_no_table();
    asks(&other, [true, true]);
}

fn dropped(internet: &Internet) -> Vec<String> {
    let run = internet.run.clone();
    internet.host.run(move || drops(&run).unwrap()).into_iter().map(|(reason, _)| reason).collect()
}

/// Counts on `inet` what arrives from addresses of the target's side, and these segments.
fn count_on_inet(internet: &Internet) {
    internet.inet.sh("nft -f - <<'END'
        table inet seen { chain c { type filter hook prerouting priority -300
            ip saddr { 203.0.113.9, 10.250.0.2 } counter
            ip6 saddr { 2001:db8:9::9, 2001:db8:2::2 } counter
        }; }
END");
}

fn arrived(internet: &Internet) -> bool {
    let listing = internet.inet.sh("nft list table inet seen");
    listing.matches("counter packets 0 ").count() != 2
}

#[test]
fn foreign_source_addresses_are_dropped_and_counted() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    count_on_inet(&internet);
    internet.target.sh("ip addr add 203.0.113.9/32 dev eth0; ip addr add 2001:db8:9::9/128 dev eth0 nodad");
    let probe = |from: &str, to: &str| internet.target.try_sh(&format!("ping -n -c1 -W1 -I {from} {to}")).0;
    {
        let _nat = install(&internet, &[], |spec| spec.masquerade = false);
        probe("203.0.113.9", "198.51.100.1");
        assert!(arrived(&internet), "without NAT they pass");
    }
    internet.inet.sh("nft delete table inet seen");
    count_on_inet(&internet);
    let _nat = install(&internet, &[], |_| {});
    for (from, to) in [("203.0.113.9", "198.51.100.1"), ("2001:db8:9::9", "2001:db8:1::1")] {
        assert!(!probe(from, to), "{from}");
    }
    // A service of the host cannot be reached either.
    assert!(!probe("203.0.113.9", "198.51.100.2"));
    assert!(!arrived(&internet));
    assert_eq!(dropped(&internet), ["foreign source address"]);
    assert!(probe("10.250.0.2", "198.51.100.1") && probe("2001:db8:2::2", "2001:db8:1::1"), "its own pass");
}

/// A segment of no connection: RST, from port 1 to port 2.
fn send_reset(internet: &Internet) {
    internet.target.run(|| {
        use nix::sys::socket::*;
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Tcp).unwrap();
        let segment = [0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x04, 0, 0, 0, 0, 0, 0];
        let to = SockaddrIn::new(198, 51, 100, 1, 0);
        sendto(std::os::fd::AsRawFd::as_raw_fd(&socket), &segment, &to, MsgFlags::empty()).unwrap();
    });
}

#[test]
fn packets_that_nat_cannot_translate_do_not_leave() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    count_on_inet(&internet);
    let _nat = install(&internet, &[], |_| {});
    send_reset(&internet);
    // A packet that follows it has arrived.
    internet.target.until_answer("198.51.100.1");
    assert!(!arrived(&internet));
    assert_eq!(dropped(&internet), ["no connection, so NAT cannot translate them"]);
}

#[test]
fn claims_of_the_target_about_routes_do_not_reach_the_host() {
    let Some(internet) = Internet::new() else { return };
    internet.forward();
    let _nat = install(&internet, &[], |_| {});
    internet.target.run(|| {
        use nix::sys::socket::*;
        let claims: [(SockProtocol, &[u8], &str); 5] = [
            (SockProtocol::Icmp, &[5, 1, 0, 0, 198, 51, 100, 9], "10.250.0.1:0"),
            (SockProtocol::Icmp, &[3, 4, 0, 0, 0, 0, 2, 64], "10.250.0.1:0"),
            (SockProtocol::IcmpV6, &[2, 0, 0, 0, 0, 0, 5, 0], "[2001:db8:2::1]:0"),
            (SockProtocol::IcmpV6, &[134, 0, 0, 0, 64, 0, 7, 8], "[2001:db8:2::1]:0"),
            (SockProtocol::IcmpV6, &[137, 0, 0, 0, 0, 0, 0, 0], "[2001:db8:2::1]:0"),
        ];
        for (protocol, head, to) in claims {
            let to: std::net::SocketAddr = to.parse().unwrap();
            let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket(family, SockType::Raw, SockFlag::empty(), protocol).unwrap();
            let mut message = head.to_vec();
            message.resize(64, 0);
            let to = SockaddrStorage::from(to);
            sendto(std::os::fd::AsRawFd::as_raw_fd(&socket), &message, &to, MsgFlags::empty()).unwrap();
        }
    });
    let run = internet.run.clone();
    internet.target.until_answer("10.250.0.1");
    internet.target.until_answer("2001:db8:2::1");
    let found = internet.host.run(move || drops(&run).unwrap());
    assert_eq!(found, [("claim about the host's routes".to_owned(), 5)]);
}
