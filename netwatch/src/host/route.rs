//! The rtnetlink messages for addresses and default routes. `link` sends them.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::NetlinkRequest;

/// The link-local address of the host's end, the same in every run, because it is valid on its own
/// link only.
pub const LINK_LOCAL_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The link-local address of the target's end.
pub const LINK_LOCAL_TARGET: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Sets an address on the interface with this index. Without duplicate address detection: netwatch
/// sets the addresses of both ends, and the check would block IPv6 for 1.8 seconds.
pub fn add_address(index: u32, address: IpAddr, length: u8) -> NetlinkRequest {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = length;
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    NetlinkRequest::new("add address", format!("{address}/{length}"), RouteNetlinkMessage::NewAddress(message)).create()
}

/// Routes all packets of the gateway's family to it.
pub fn add_default_route(index: u32, gateway: IpAddr) -> NetlinkRequest {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(gateway),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Oif(index));
    NetlinkRequest::new("add default route by", gateway.to_string(), RouteNetlinkMessage::NewRoute(message)).create()
}
