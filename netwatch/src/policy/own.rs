//! What only exists because of the run: the link's own addresses, and groups on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::report::Interface;

/// What an address is to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Somebody else, somewhere else.
    Elsewhere,
    /// Multicast, or the broadcast of any link.
    Group,
    /// The machine itself: the gateway of the run.
    Machine,
    /// The run's own link: no user has it.
    Own,
}

/// Where an address is.
pub(crate) fn place(address: IpAddr, interface: &Interface) -> Place {
    if interface.gateway.contains(&address) {
        return Place::Machine;
    }
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    match address {
        _ if address.is_multicast() || is_broadcast => Place::Group,
        _ if address.is_loopback() || address.is_unspecified() || interface.local.contains(&address) => Place::Own,
        IpAddr::V4(v4) if is_on_link(v4, interface) => Place::Own,
        // Nobody but the gateway is on the link.
        IpAddr::V6(v6) if is_link_local(v6) && !interface.gateway.is_empty() => Place::Machine,
        _ => Place::Elsewhere,
    }
}

/// A run's IPv4 subnet is a /30 unless another was asked for; its first and last address are nobody's.
fn is_on_link(address: Ipv4Addr, interface: &Interface) -> bool {
    let prefix = |address: Ipv4Addr| u32::from(address) >> 2;
    interface.gateway.iter().any(|gateway| matches!(gateway, IpAddr::V4(v4) if prefix(*v4) == prefix(address)))
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let interface = Interface {
            local: vec![[10, 87, 0, 2].into(), "64:ff9b:1:77::2".parse().unwrap()],
            gateway: vec![[10, 87, 0, 1].into(), "64:ff9b:1:77::1".parse().unwrap()],
            ..Interface::default()
        };
        let table = [
            ("203.0.113.9", Place::Elsewhere),
            ("10.87.0.4", Place::Elsewhere),
            ("10.87.0.3", Place::Own),
            ("10.87.0.2", Place::Own),
            ("10.87.0.1", Place::Machine),
            ("64:ff9b:1:77::1", Place::Machine),
            ("fe80::1", Place::Machine),
            ("224.0.0.251", Place::Group),
            ("255.255.255.255", Place::Group),
            ("ff02::fb", Place::Group),
            ("127.0.0.1", Place::Own),
            ("169.254.169.254", Place::Elsewhere),
        ];
        for (address, expected) in table {
            assert_eq!(place(address.parse().unwrap(), &interface), expected, "{address}");
        }
        assert_eq!(place("fe80::1".parse().unwrap(), &Interface::default()), Place::Elsewhere, "of a capture");
    }
}
