//! The uplink of the host: for each family the route that a packet to an arbitrary remote takes,
//! its interface and its MTU. The kernel looks the route up as it would for a packet, so that
//! policy routing (tables and rules of a VPN) is followed. Sends no packet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::forwarding::Families;
use super::netlink::{Netlink, NetlinkReply, NetlinkRequest, attribute, u32_at};
use crate::error::Result;

/// MTU of Ethernet, for hosts without an uplink. Bytes.
const MTU_WITHOUT_UPLINK: u32 = 1500;
/// Smallest MTU of IPv6 (RFC 8200): the kernel disables IPv6 on an interface with less. Bytes.
pub const MTU_OF_IPV6: u32 = 1280;
/// Largest MTU of veth. Bytes.
const MTU_OF_VETH: u32 = 65_535;

/// Addresses to look up, for which hosts have no special route. There are several, because a test
/// network may contain one of them.
const UNKNOWN_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 77), Ipv4Addr::new(198, 51, 100, 77), Ipv4Addr::new(192, 88, 99, 77)];
const UNKNOWN_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0x7777, 0, 0, 0, 0, 0x77),
    Ipv6Addr::new(0x3fff, 0x777, 0, 0, 0, 0, 0, 0x77),
    Ipv6Addr::new(0x2000, 0x77, 0, 0, 0, 0, 0, 0x77),
];

/// A route with a longer prefix leads to a network and is not a default route. Some VPNs replace
/// the default route by halves or eighths.
const MAX_DEFAULT_LENGTH: u8 = 7;

/// The uplink: the default routes of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The IPv4 route.
    pub v4: Option<DefaultRoute>,
    /// The IPv6 route. The target gets IPv6 only if the host has it.
    pub v6: Option<DefaultRoute>,
}

/// The default route of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// The next hop; `None` on point-to-point interfaces.
    pub gateway: Option<IpAddr>,
    /// An arbitrary address behind the route.
    pub remote: IpAddr,
    /// The source address of the host's packets.
    pub source: Option<IpAddr>,
    /// The routing table that contains the route (254 is main).
    pub table: u32,
    /// The route's MTU, or the interface's where the route has none. Bytes.
    pub mtu: u32,
}

impl Uplink {
    /// Looks the routes up. A host without an uplink is not an error.
    pub fn find(netlink: &mut Netlink) -> Result<Self> {
        let requests: Vec<_> =
            candidates().flat_map(|address| [lookup(address, false), lookup(address, true)]).collect();
        // An error (network unreachable, prohibited, blackhole) means that there is no such route.
        let answers: Vec<_> = netlink.try_batch(&requests)?.into_iter().map(|answer| answer.ok().flatten()).collect();
        let mut found: BTreeMap<bool, (RouteFound, IpAddr)> = BTreeMap::new();
        for (address, answers) in candidates().zip(answers.chunks_exact(2)) {
            if let [Some(route), Some(matched)] = answers
                && is_default(matched)
                && let Some(route) = RouteFound::parse(route)
            {
                found.entry(address.is_ipv4()).or_insert((route, address));
            }
        }
        let interfaces = interfaces(netlink, found.values().map(|(route, _)| route.index))?;
        let mut finish = |is_ipv4| found.remove(&is_ipv4).and_then(|(route, remote)| route.finish(remote, &interfaces));
        Ok(Self { v4: finish(true), v6: finish(false) })
    }

    /// The uplink without the routes of these families.
    #[must_use]
    pub fn without(self, closed: Families) -> Self {
        Self { v4: self.v4.filter(|_| !closed.ipv4), v6: self.v6.filter(|_| !closed.ipv6) }
    }

    /// The MTU for the link, bytes: the smaller one of both families, so that no packet of the
    /// target is too large for the uplink; but at least the minimum of IPv6 if the host has IPv6.
    pub fn mtu(&self) -> u32 {
        let routes = [&self.v4, &self.v6].into_iter().flatten();
        let smallest = routes.map(|route| route.mtu).min().unwrap_or(MTU_WITHOUT_UPLINK);
        let least = if self.v6.is_some() { MTU_OF_IPV6 } else { 68 };
        smallest.clamp(least, MTU_OF_VETH)
    }
}

fn candidates() -> impl Iterator<Item = IpAddr> {
    UNKNOWN_V4.into_iter().map(IpAddr::from).chain(UNKNOWN_V6.into_iter().map(IpAddr::from))
}

/// Requests the route of a packet to `address`; with `matched`, the entry of the routing table that
/// matches.
fn lookup(address: IpAddr, matched: bool) -> NetlinkRequest {
    let mut message = RouteMessage::default();
    message.header.address_family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.header.flags = if matched { RouteFlags::FibMatch } else { RouteFlags::LookupTable };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    NetlinkRequest::new("look up route to", address.to_string(), RouteNetlinkMessage::GetRoute(message))
}

/// Whether this entry is a default route that forwards. `struct rtmsg`: family, prefix length, …,
/// type in byte 7.
fn is_default(matched: &NetlinkReply) -> bool {
    matched.payload.get(1).is_some_and(|length| *length <= MAX_DEFAULT_LENGTH)
        && matched.payload.get(7) == Some(&libc::RTN_UNICAST)
}

#[derive(Debug)]
struct RouteFound {
    index: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    table: u32,
    mtu: Option<u32>,
}

impl RouteFound {
    fn parse(route: &NetlinkReply) -> Option<Self> {
        const RTAX_MTU: u16 = 2;
        let attributes = route.payload.get(12..)?;
        let number = |kind| attribute(attributes, kind).and_then(|value| u32_at(value, 0));
        let metrics = attribute(attributes, libc::RTA_METRICS);
        Some(Self {
            index: number(libc::RTA_OIF)?,
            gateway: attribute(attributes, libc::RTA_GATEWAY).and_then(address),
            source: attribute(attributes, libc::RTA_PREFSRC).and_then(address),
            table: number(libc::RTA_TABLE).unwrap_or_default(),
            mtu: metrics.and_then(|metrics| u32_at(attribute(metrics, RTAX_MTU)?, 0)).filter(|mtu| *mtu > 0),
        })
    }

    fn finish(self, remote: IpAddr, interfaces: &BTreeMap<u32, (String, u32)>) -> Option<DefaultRoute> {
        let (name, mtu) = interfaces.get(&self.index)?;
        Some(DefaultRoute {
            interface: name.clone(),
            index: self.index,
            gateway: self.gateway,
            remote,
            source: self.source,
            table: self.table,
            mtu: self.mtu.unwrap_or(*mtu).min(*mtu),
        })
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Name and MTU by index. An interface that was just removed is left out, and so is its route.
fn interfaces(netlink: &mut Netlink, indices: impl Iterator<Item = u32>) -> Result<BTreeMap<u32, (String, u32)>> {
    let requests: Vec<_> = indices
        .map(|index| {
            let mut message = LinkMessage::default();
            message.header.index = index;
            NetlinkRequest::new("read interface", format!("number {index}"), RouteNetlinkMessage::GetLink(message))
        })
        .collect();
    let answers = netlink.try_batch(&requests)?;
    Ok(answers.into_iter().filter_map(|answer| name_and_mtu(&answer.ok()??)).collect())
}

fn name_and_mtu(link: &NetlinkReply) -> Option<(u32, (String, u32))> {
    let attributes = link.payload.get(16..)?;
    let name = String::from_utf8_lossy(attribute(attributes, libc::IFLA_IFNAME)?).trim_end_matches('\0').to_owned();
    let mtu = u32_at(attribute(attributes, libc::IFLA_MTU)?, 0)?;
    Some((u32_at(&link.payload, 4)?, (name, mtu)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    fn find() -> Uplink {
        Uplink::find(&mut Netlink::route().unwrap()).unwrap()
    }

    /// A pair of interfaces that are up, with addresses by which gateways are reachable.
    fn interface(name: &str, v4: &str, v6: &str) {
        ip(&format!("link add {name} type veth peer name {name}p"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}p up"));
        ip(&format!("addr add {v4} dev {name}"));
        ip(&format!("addr add {v6} dev {name} nodad"));
    }

    #[test]
    fn finds_no_uplink_without_default_routes() {
        in_fresh_namespace(|| {
            interface("u0", "203.0.113.2/24", "2001:db8:7777::2/64");
            let uplink = find();
            assert_eq!(uplink, Uplink::default());
            assert_eq!(uplink.mtu(), 1500);
        });
    }

    #[test]
    fn finds_default_routes_of_both_families_and_the_smaller_mtu() {
        in_fresh_namespace(|| {
            interface("u0", "203.0.113.2/24", "2001:db8:7777::2/64");
            ip("link set u0 mtu 1450");
            ip("route add default via 203.0.113.1 dev u0");
            assert_eq!(find().v6, None);
            ip("-6 route add default via 2001:db8:7777::1 dev u0 mtu 1400");
            let uplink = find();
            let v4 = uplink.v4.as_ref().unwrap();
            assert_eq!((v4.interface.as_str(), v4.mtu, v4.table), ("u0", 1450, 254));
            assert_eq!(v4.gateway, Some("203.0.113.1".parse().unwrap()));
            assert_eq!(v4.source, Some("203.0.113.2".parse().unwrap()));
            assert_eq!(uplink.v6.as_ref().unwrap().mtu, 1400);
            assert_eq!(uplink.mtu(), 1400);
        });
    }

    #[test]
    fn follows_policy_routing_and_halved_defaults() {
        in_fresh_namespace(|| {
            interface("u0", "198.51.100.2/24", "2001:db8:1::2/64");
            interface("vpn0", "10.8.0.2/24", "2001:db8:2::2/64");
            ip("link set vpn0 mtu 1420");
            ip("route add default via 198.51.100.1");
            ip("route add default dev vpn0 table 51820");
            ip("rule add not fwmark 0xca6c lookup 51820");
            ip("rule add lookup main suppress_prefixlength 0 priority 100");
            let v4 = find().v4.unwrap();
            assert_eq!((v4.interface.as_str(), v4.mtu, v4.table), ("vpn0", 1420, 51820));
            ip("-6 route add 2000::/3 via 2001:db8:2::1 dev vpn0");
            assert_eq!(find().v6.unwrap().interface, "vpn0");
        });
    }

    #[test]
    fn ignores_default_routes_that_reject() {
        in_fresh_namespace(|| {
            ip("route add unreachable default");
            ip("-6 route add unreachable default");
            assert_eq!(find(), Uplink::default());
            ip("route replace blackhole default");
            ip("-6 route replace blackhole default");
            assert_eq!(find(), Uplink::default());
        });
    }

    #[test]
    fn finds_multipath_defaults() {
        in_fresh_namespace(|| {
            interface("u0", "198.51.100.2/24", "2001:db8:1::2/64");
            interface("u1", "203.0.113.2/24", "2001:db8:2::2/64");
            ip("route add default nexthop via 198.51.100.1 nexthop via 203.0.113.1");
            ip("-6 route add default nexthop via 2001:db8:1::1 nexthop via 2001:db8:2::1");
            let uplink = find();
            assert!(uplink.v4.is_some() && uplink.v6.is_some(), "{uplink:?}");
        });
    }
}
