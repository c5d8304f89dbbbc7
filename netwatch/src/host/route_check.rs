//! Checks that packets of the target find their way in both directions, by the kernel's own lookup
//! (RTM_GETROUTE) with the interface by which they will arrive: rules of other programs, as for the
//! exit node of a VPN, may route answers elsewhere than to the link. Sends no packet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{Netlink, NetlinkReply, NetlinkRequest, attribute, u32_at};
use super::subnet::Subnet;
use super::uplink::{DefaultRoute, Uplink};
use crate::error::{Error, Result};

/// `struct rtmsg`, and `struct fib_rule_hdr`, which is as long.
const ROUTE_HEADER: usize = 12;
const FRA_FWMARK: u16 = 10;

/// Fails if packets between the target and the uplink are not routed through the link, which has
/// this index at the host's end. Forwarding must be on.
pub fn verify(link: u32, subnets: &[Subnet], uplink: &Uplink) -> Result<()> {
    let mut netlink = Netlink::route()?;
    for subnet in subnets {
        let route = if subnet.is_ipv6() { &uplink.v6 } else { &uplink.v4 };
        if let Some(route) = route {
            verify_family(&mut netlink, link, subnet.target(), route)?;
        }
    }
    Ok(())
}

/// The interfaces by which a local socket of this user would send to these addresses: without a
/// mark, and with each mark that a routing rule of the host mentions.
pub fn interfaces_to(addresses: impl Iterator<Item = IpAddr>, uid: u32) -> Result<BTreeSet<u32>> {
    let mut netlink = Netlink::route()?;
    let marks = marks(&mut netlink)?;
    let with_marks = |address| marks.iter().map(move |mark| local_lookup(address, uid, *mark));
    let requests: Vec<_> = addresses.flat_map(with_marks).collect();
    let answers = netlink.try_batch(&requests)?;
    Ok(answers.into_iter().filter_map(|answer| outgoing(&answer.ok()??)).collect())
}

/// 0, and the marks of the host's routing rules.
fn marks(netlink: &mut Netlink) -> Result<BTreeSet<u32>> {
    let mut marks = BTreeSet::from([0]);
    netlink.dump(libc::RTM_GETRULE, &[0; ROUTE_HEADER], |body| {
        let mark = body.get(ROUTE_HEADER..).and_then(|attributes| attribute(attributes, FRA_FWMARK));
        marks.extend(mark.and_then(|value| u32_at(value, 0)));
    })?;
    Ok(marks)
}

/// Requests the route of a packet that a socket of this user sends.
fn local_lookup(to: IpAddr, uid: u32, mark: u32) -> NetlinkRequest {
    let mut message = RouteMessage::default();
    let (family, length) = family_of(to);
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message.attributes.push(RouteAttribute::Uid(uid));
    message.attributes.push(RouteAttribute::Mark(mark));
    NetlinkRequest::new("route", format!("packets to {to}"), RouteNetlinkMessage::GetRoute(message))
}

fn family_of(address: IpAddr) -> (AddressFamily, u8) {
    if address.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) }
}

fn verify_family(netlink: &mut Netlink, link: u32, target: IpAddr, route: &DefaultRoute) -> Result<()> {
    let there = lookup(target, route.remote, link);
    let back = lookup(route.remote, target, route.index);
    let mut answers = netlink.try_batch(&[there, back])?.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(None));
    let hint =
        |error: Error, of: &str| error.hint(format!("a routing rule or route of the host discards {of} (ip rule)"));
    next().map_err(|error| hint(error, "the command's packets"))?;
    let back = next().map_err(|error| hint(error, "answers to the command"))?;
    match back.as_ref().and_then(outgoing) {
        Some(index) if index == link => Ok(()),
        _ => {
            let object = format!("answers to {target} that arrive by {}", route.interface);
            let cause = "a routing rule of the host sends them to another interface";
            Err(Error::other("route", object, cause).hint("`ip rule` lists the rules; compare their order"))
        }
    }
}

/// Requests the route of a packet that arrives by the interface with this index.
fn lookup(from: IpAddr, to: IpAddr, incoming: u32) -> NetlinkRequest {
    let mut message = RouteMessage::default();
    let (family, length) = family_of(to);
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.source_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message.attributes.push(RouteAttribute::Source(from.into()));
    message.attributes.push(RouteAttribute::Iif(incoming));
    NetlinkRequest::new("route", format!("packets from {from} to {to}"), RouteNetlinkMessage::GetRoute(message))
}

fn outgoing(route: &NetlinkReply) -> Option<u32> {
    u32_at(attribute(route.payload.get(ROUTE_HEADER..)?, libc::RTA_OIF)?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forwarding::Families;
    use crate::host::subnet::{Occupied, Subnets, WantedSubnets};

    /// The subnets are given.
    const NONE: Families = Families { ipv4: false, ipv6: false };
    use crate::host::testing::{in_fresh_namespace, ip};

    const PASS: [&str; 2] = [
        "rule add priority 0 to 10.9.8.0/30 lookup main suppress_prefixlength 29",
        "-6 rule add priority 0 to 64:ff9b:1:9::/64 lookup main suppress_prefixlength 63",
    ];

    /// A link, an uplink, and a tunnel in which a rule before main routes everything.
    fn host() -> (u32, Vec<Subnet>) {
        let links = [
            ("nw0", "10.9.8.1/30", "64:ff9b:1:9::1/64"),
            ("up0", "198.51.100.2/24", "2001:db8:1::2/64"),
            ("tun0", "198.18.0.2/24", "2001:db8:2::2/64"),
        ];
        for (name, v4, v6) in links {
            ip(&format!("link add {name} type veth peer name {name}p"));
            [name.to_owned(), format!("{name}p")].iter().for_each(|end| drop(ip(&format!("link set {end} up"))));
            ip(&format!("addr add {v4} dev {name}"));
            ip(&format!("addr add {v6} dev {name} nodad"));
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1").unwrap();
        }
        ip("route add default via 198.51.100.1");
        ip("-6 route add default via 2001:db8:1::1");
        let wanted = WantedSubnets::parse(["10.9.8.0/30", "64:ff9b:1:9::/64"]).unwrap();
        let subnets = Subnets::choose(&wanted, NONE, &Occupied::default(), 0).unwrap();
        let index = nix::net::if_::if_nametoindex("nw0").unwrap();
        (index, subnets.all().collect())
    }

    fn verified(link: u32, subnets: &[Subnet]) -> Result<()> {
        let uplink = Uplink::find(&mut Netlink::route().unwrap()).unwrap();
        assert!(uplink.v4.is_some() && uplink.v6.is_some(), "{uplink:?}");
        verify(link, subnets, &uplink)
    }

    #[test]
    fn accepts_a_host_without_rules() {
        in_fresh_namespace(|| {
            let (link, subnets) = host();
            verified(link, &subnets).unwrap();
            verify(link, &subnets, &Uplink::default()).unwrap();
        });
    }

    #[test]
    fn refuses_a_rule_before_main_and_accepts_it_after_a_pass() {
        for family in 0..2 {
            in_fresh_namespace(|| {
                let (link, subnets) = host();
                let flag = ["-4", "-6"][family];
                ip(&format!("{flag} route add default via {} table 52", ["198.18.0.1", "2001:db8:2::1"][family]));
                ip(&format!("{flag} rule add priority 5270 lookup 52"));
                let error = verified(link, &subnets).unwrap_err().to_string();
                assert!(error.contains("another interface"), "{error}");
                ip(PASS[family]);
                verified(link, &subnets).unwrap();
            });
        }
    }

    #[test]
    fn refuses_rules_that_discard_either_direction() {
        in_fresh_namespace(|| {
            let (link, subnets) = host();
            ip("rule add priority 10 iif nw0 prohibit");
            let error = verified(link, &subnets).unwrap_err().to_string();
            assert!(error.contains("discards the command's packets"), "{error}");
            ip("rule del priority 10");
            ip("-6 rule add priority 10 iif up0 blackhole");
            let error = verified(link, &subnets).unwrap_err().to_string();
            assert!(error.contains("discards answers to the command"), "{error}");
        });
    }
}
