//! What an address means to a run: another host, or something that exists only because of the run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Interface;
use crate::flow::{Direction, EndpointKey, Remote};
use crate::wire::port;

/// The part that an address plays in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRole {
    /// Any other host.
    Other,
    /// A multicast group, or the broadcast address.
    Group,
    /// The host that netwatch runs on: the gateway of the run.
    Gateway,
    /// The link of the run: no such address exists outside the run.
    OwnLink,
}

impl Interface {
    /// The part that an address plays in the run with this interface.
    pub fn role_of(&self, address: IpAddr) -> AddressRole {
        if self.gateway.contains(&address) {
            return AddressRole::Gateway;
        }
        let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
        match address {
            _ if address.is_multicast() || is_broadcast => AddressRole::Group,
            _ if address.is_loopback() || address.is_unspecified() || self.local.contains(&address) => {
                AddressRole::OwnLink
            }
            IpAddr::V4(v4) if self.has_on_link(v4) => AddressRole::OwnLink,
            // The gateway is the only other host on the link.
            IpAddr::V6(v6) if is_link_local(v6) && !self.gateway.is_empty() => AddressRole::Gateway,
            _ => AddressRole::Other,
        }
    }

    /// Whether a flow or an endpoint is DNS to the forwarder of the run, which passes it on to the
    /// resolvers of the host. Outputs name it [`DnsForwarder::NAME`](super::DnsForwarder::NAME).
    pub fn is_dns_forwarder(&self, key: &EndpointKey) -> bool {
        let is_query = key.port == port::DNS && key.direction == Direction::Egress && key.protocol.has_ports();
        matches!(key.remote, Remote::Address(address) if is_query && self.gateway.contains(&address))
    }

    /// The IPv4 subnet of a run is a /30 unless the user chose another one. Its first and last
    /// address belong to no host.
    fn has_on_link(&self, address: Ipv4Addr) -> bool {
        let prefix = |address: Ipv4Addr| u32::from(address) >> 2;
        self.gateway.iter().any(|gateway| matches!(gateway, IpAddr::V4(v4) if prefix(*v4) == prefix(address)))
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_addresses_of_the_run_from_those_of_other_hosts() {
        let interface = Interface {
            local: vec![[10, 87, 0, 2].into(), "64:ff9b:1:77::2".parse().unwrap()],
            gateway: vec![[10, 87, 0, 1].into(), "64:ff9b:1:77::1".parse().unwrap()],
            ..Interface::default()
        };
        let table = [
            ("203.0.113.9", AddressRole::Other),
            ("10.87.0.4", AddressRole::Other),
            ("10.87.0.3", AddressRole::OwnLink),
            ("10.87.0.2", AddressRole::OwnLink),
            ("10.87.0.1", AddressRole::Gateway),
            ("64:ff9b:1:77::1", AddressRole::Gateway),
            ("fe80::1", AddressRole::Gateway),
            ("224.0.0.251", AddressRole::Group),
            ("255.255.255.255", AddressRole::Group),
            ("ff02::fb", AddressRole::Group),
            ("127.0.0.1", AddressRole::OwnLink),
            ("169.254.169.254", AddressRole::Other),
        ];
        for (address, expected) in table {
            assert_eq!(interface.role_of(address.parse().unwrap()), expected, "{address}");
        }
        let capture = Interface::default();
        assert_eq!(capture.role_of("fe80::1".parse().unwrap()), AddressRole::Other, "a capture has no gateway");
    }
}
