//! Checks that packets of the target are routed in both directions, by the kernel's own lookup
//! (RTM_GETROUTE) with the interface by which they will arrive. Rules of other programs, such as
//! those for the exit node of a VPN, may route replies to another interface than the link. Sends no
//! packet.

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

/// The input of the check.
#[derive(Debug, Clone, Copy)]
pub struct RoutesOfRun<'a> {
    /// Index of the host's end of the link.
    pub link: u32,
    /// The subnets of the link.
    pub subnets: &'a [Subnet],
    /// The host's default routes.
    pub uplink: &'a Uplink,
    /// Resolvers that the command may query itself.
    pub resolvers: &'a [IpAddr],
    /// The name and the id of the user, whose packets rules may route differently.
    pub user: (&'a str, u32),
}

/// Fails if packets between the target and the uplinks are not routed through the link, with each
/// mark that rules of the host mention and without one. Returns notes about routes that differ from
/// those of the user's own sockets. Forwarding must be on.
pub fn verify(run: &RoutesOfRun<'_>) -> Result<Vec<String>> {
    let mut netlink = Netlink::route()?;
    let (marks, uplinks) = (marks(&mut netlink)?, uplinks(&mut netlink)?);
    let mut notes = Vec::new();
    for subnet in run.subnets {
        let (target, is_ipv6) = (subnet.target(), subnet.is_ipv6());
        let Some(route) = (if is_ipv6 { &run.uplink.v6 } else { &run.uplink.v4 }) else { continue };
        verify_family(&mut netlink, run.link, target, route)?;
        let others = uplinks.iter().filter(|(family, index)| (*family == is_ipv6) && *index != route.index);
        let incoming: BTreeSet<u32> = others.map(|(_, index)| *index).chain([route.index]).collect();
        verify_answers(&mut netlink, run.link, target, route.remote, &incoming, &marks)?;
        let resolvers = run.resolvers.iter().filter(|address| address.is_ipv6() == is_ipv6 && !address.is_loopback());
        for remote in resolvers.copied().chain([route.remote]) {
            notes.extend(difference(&mut netlink, run, target, remote)?);
        }
    }
    Ok(notes)
}

/// The interfaces with a default route in any table: whether the route is IPv6, and the index of
/// the interface.
fn uplinks(netlink: &mut Netlink) -> Result<BTreeSet<(bool, u32)>> {
    let mut found = BTreeSet::new();
    netlink.dump(libc::RTM_GETROUTE, &[0; ROUTE_HEADER], |body| {
        let [family, length, .., kind, _, _, _, _] = body.get(..ROUTE_HEADER).unwrap_or_default() else { return };
        let is_ipv6 = i32::from(*family) == libc::AF_INET6;
        if *length != 0 || *kind != libc::RTN_UNICAST || !(is_ipv6 || i32::from(*family) == libc::AF_INET) {
            return;
        }
        let attributes = &body[ROUTE_HEADER..];
        let single = attribute(attributes, libc::RTA_OIF).and_then(|value| u32_at(value, 0));
        let hops = attribute(attributes, libc::RTA_MULTIPATH).map(next_hops).unwrap_or_default();
        found.extend(single.into_iter().chain(hops).map(|index| (is_ipv6, index)));
    })?;
    Ok(found)
}

/// The interfaces in a list of `struct rtnexthop`: length, two bytes, index, attributes.
fn next_hops(mut list: &[u8]) -> Vec<u32> {
    const HEADER: usize = 8;
    let mut indices = Vec::new();
    while let (Some(length), Some(index)) = (list.get(..2), u32_at(list, 4)) {
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        indices.push(index);
        if length < HEADER {
            break;
        }
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    indices
}

/// Checks replies that arrive by each of these interfaces, with each of these marks.
fn verify_answers(
    netlink: &mut Netlink,
    link: u32,
    target: IpAddr,
    remote: IpAddr,
    incoming: &BTreeSet<u32>,
    marks: &BTreeSet<u32>,
) -> Result<()> {
    let all: Vec<(u32, u32)> =
        incoming.iter().flat_map(|index| marks.iter().map(move |mark| (*index, *mark))).collect();
    let requests: Vec<_> = all.iter().map(|(index, mark)| lookup(remote, target, *index, *mark)).collect();
    for ((index, mark), answer) in all.iter().zip(netlink.try_batch(&requests)?) {
        let Ok(answer) = answer else {
            // With strict reverse path filtering, another uplink does not accept such packets.
            continue;
        };
        if answer.as_ref().and_then(outgoing).is_some_and(|to| to != link) {
            let object = format!("answers to {target} that arrive by interface {index} with mark {mark:#x}");
            return Err(misrouted(object));
        }
    }
    Ok(())
}

/// How the route of the target's packets differs from that of a socket of the user.
fn difference(netlink: &mut Netlink, run: &RoutesOfRun<'_>, target: IpAddr, remote: IpAddr) -> Result<Option<String>> {
    let (name, uid) = run.user;
    let requests = [local_lookup(remote, uid, 0), lookup(target, remote, run.link, 0)];
    let [Ok(Some(own)), forwarded] = <[_; 2]>::try_from(netlink.try_batch(&requests)?).unwrap_or([Ok(None), Ok(None)])
    else {
        // The user's own sockets do not reach it either.
        return Ok(None);
    };
    let Ok(Some(forwarded)) = forwarded else {
        return Ok(Some(format!(
            "{remote}: sockets of {name} reach it, and the host discards the command's packets to it (ip rule)"
        )));
    };
    let is_same = outgoing(&own) == outgoing(&forwarded) && gateway(&own) == gateway(&forwarded);
    Ok((!is_same).then(|| {
        format!(
            "{remote}: sockets of {name} send to it by {}, and the command's packets are forwarded by {}",
            hop(&own),
            hop(&forwarded)
        )
    }))
}

fn gateway(route: &NetlinkReply) -> Option<Vec<u8>> {
    attribute(route.payload.get(ROUTE_HEADER..)?, libc::RTA_GATEWAY).map(<[u8]>::to_vec)
}

/// The name of the interface of a route.
fn hop(route: &NetlinkReply) -> String {
    let name = outgoing(route).and_then(|index| nix::net::if_::if_indextoname(index).ok());
    name.map_or_else(|| "no interface".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn misrouted(object: String) -> Error {
    let cause = "a routing rule of the host sends them to another interface";
    Error::other("route", object, cause).hint("`ip rule` lists the rules; compare their order")
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
    let there = lookup(target, route.remote, link, 0);
    let back = lookup(route.remote, target, route.index, 0);
    let mut answers = netlink.try_batch(&[there, back])?.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(None));
    let hint =
        |error: Error, of: &str| error.hint(format!("a routing rule or route of the host discards {of} (ip rule)"));
    next().map_err(|error| hint(error, "the command's packets"))?;
    let back = next().map_err(|error| hint(error, "answers to the command"))?;
    match back.as_ref().and_then(outgoing) {
        Some(index) if index == link => Ok(()),
        _ => Err(misrouted(format!("answers to {target} that arrive by {}", route.interface))),
    }
}

/// Requests the route of a packet that arrives by the interface with this index, with this mark.
fn lookup(from: IpAddr, to: IpAddr, incoming: u32, mark: u32) -> NetlinkRequest {
    let mut message = RouteMessage::default();
    let (family, length) = family_of(to);
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.source_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    message.attributes.push(RouteAttribute::Source(from.into()));
    message.attributes.push(RouteAttribute::Iif(incoming));
    message.attributes.push(RouteAttribute::Mark(mark));
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
        notes(link, subnets, &uplink).map(drop)
    }

    const USER: u32 = 4242;

    fn notes(link: u32, subnets: &[Subnet], uplink: &Uplink) -> Result<Vec<String>> {
        verify(&RoutesOfRun { link, subnets, uplink, resolvers: &[], user: ("ada", USER) })
    }

    #[test]
    fn checks_each_uplink_and_mark() {
        in_fresh_namespace(|| {
            let (link, subnets) = host();
            ip("route add default via 198.18.0.1 metric 500");
            ip("route add default via 198.18.0.1 table 52");
            ip("rule add priority 5270 iif tun0 lookup 52");
            let error = verified(link, &subnets).unwrap_err().to_string();
            assert!(error.contains("with mark 0x0"), "{error}");
            ip("rule del priority 5270");
            ip("rule add priority 5270 fwmark 7 lookup 52");
            let error = verified(link, &subnets).unwrap_err().to_string();
            assert!(error.contains("with mark 0x7"), "{error}");
            ip(PASS[0]);
            verified(link, &subnets).unwrap();
        });
    }

    #[test]
    fn notes_routes_that_only_sockets_of_the_user_have() {
        in_fresh_namespace(|| {
            let (link, subnets) = host();
            PASS.iter().for_each(|pass| drop(ip(pass)));
            let found = || notes(link, &subnets, &Uplink::find(&mut Netlink::route().unwrap()).unwrap()).unwrap();
            assert_eq!(found(), <[String; 0]>::default());
            ip("route add default via 198.18.0.1 table 52");
            ip(&format!("rule add priority 5270 uidrange {USER}-{USER} lookup 52"));
            let noted = found();
            let expected = "sockets of ada send to it by tun0, and the command's packets are forwarded by up0";
            assert!(noted.len() == 1 && noted[0].contains(expected), "{noted:?}");
            ip("rule del priority 5270");
            ip("rule add priority 5270 iif lo lookup 52");
            // The uplink of a run is looked up as for a local packet, so it is the tunnel then.
            let noted = found();
            assert!(noted.len() == 1 && noted[0].contains(expected), "{noted:?}");
        });
    }

    #[test]
    fn parses_next_hops() {
        let hop = |index: u32| [&[16, 0, 0, 0][..], &index.to_ne_bytes(), &[8, 0, 5, 0, 198, 18, 0, 1]].concat();
        assert_eq!(next_hops(&[hop(3), hop(7)].concat()), [3, 7]);
        assert_eq!(next_hops(&[0, 0, 0, 0, 9, 0, 0, 0]), [9], "a broken length ends it");
        assert_eq!(next_hops(&[]), <[u32; 0]>::default());
    }

    #[test]
    fn accepts_a_host_without_rules() {
        in_fresh_namespace(|| {
            let (link, subnets) = host();
            verified(link, &subnets).unwrap();
            notes(link, &subnets, &Uplink::default()).unwrap();
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
