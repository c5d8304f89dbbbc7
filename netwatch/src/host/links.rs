//! Lists interfaces that netwatch did not create, with what connects them, and reports when they
//! change. Reads only.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::link::{HostEndCounters, counters_in};
use super::netlink::{Netlink, attribute, u16_at, u32_at};
use crate::error::{Error, Result};

/// `struct ifinfomsg`: the type, the index and the flags are at 2, 4 and 8, attributes follow.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`: attributes follow.
const ADDRESS_HEADER: usize = 8;
/// `RTNLGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// Size of the receive buffer, bytes. Only that something arrived matters.
const BUFFER: usize = 32 * 1024;

/// An interface of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, such as `veth`; empty for hardware.
    pub kind: String,
    /// `ARPHRD_*`.
    pub hardware: u16,
    /// Size of the largest IP packet, bytes.
    pub mtu: u32,
    /// The interface that it is stacked on or connected with, if there is one.
    pub other: Option<OtherLink>,
    /// The packets that carry its own pass another network namespace.
    pub is_carried_elsewhere: bool,
    /// Its counters.
    pub counters: HostEndCounters,
}

/// The other end of a pair, or the interface below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherLink {
    /// Its index.
    pub index: u32,
    /// The id of its network namespace, if that is another one.
    pub namespace: Option<i32>,
}

impl LinkFacts {
    fn parse(body: &[u8]) -> Option<Self> {
        let attributes = body.get(LINK_HEADER..)?;
        let kind = attribute(attributes, libc::IFLA_LINKINFO).and_then(|info| attribute(info, libc::IFLA_INFO_KIND));
        // 0 for a tunnel that is not bound to an interface.
        let other =
            attribute(attributes, libc::IFLA_LINK).and_then(|index| u32_at(index, 0)).filter(|index| *index > 0);
        let namespace = attribute(attributes, libc::IFLA_LINK_NETNSID).and_then(|id| u32_at(id, 0));
        let namespace = namespace.map(u32::cast_signed);
        Some(Self {
            index: u32_at(body, 4)?,
            name: text(attribute(attributes, libc::IFLA_IFNAME)?),
            kind: kind.map(text).unwrap_or_default(),
            hardware: u16_at(body, 2)?,
            mtu: attribute(attributes, libc::IFLA_MTU).and_then(|mtu| u32_at(mtu, 0))?,
            other: other.map(|index| OtherLink { index, namespace }),
            is_carried_elsewhere: namespace.is_some(),
            counters: counters_in(attributes)?,
        })
    }

    /// Whether it is the loopback.
    pub fn is_loopback(&self) -> bool {
        self.hardware == libc::ARPHRD_LOOPBACK
    }

    /// Whether its packets have an Ethernet header.
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }

    /// Whether its packets pass other interfaces of the same namespace as well: it is stacked on
    /// them, joins them, or is a tunnel through them, which need not be bound to one.
    pub fn is_stacked(&self) -> bool {
        let is_above = self.other.is_some_and(|other| other.namespace.is_none());
        let is_kind = |kinds: &[&str]| kinds.contains(&self.kind.as_str());
        let is_tunnel = is_kind(&["vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"]);
        is_above || is_kind(&["bridge", "bond", "team", "vrf"]) || is_tunnel && !self.is_carried_elsewhere
    }

    /// Whether a program sends and receives its packets: it has a tap device.
    pub fn is_tap(&self) -> bool {
        self.kind == "tun" && self.is_ethernet()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// The interfaces of the network namespace of this rtnetlink socket.
pub fn all(route: &mut Netlink) -> Result<Vec<LinkFacts>> {
    let mut links: Vec<LinkFacts> = Vec::new();
    route.dump(libc::RTM_GETLINK, &[0; LINK_HEADER], |body| {
        // A dump that is repeated contains an interface twice.
        if let Some(link) = LinkFacts::parse(body).filter(|link| links.iter().all(|known| known.index != link.index)) {
            links.push(link);
        }
    })?;
    Ok(links)
}

/// The interface with this index in the network namespace of this socket; `None` if there is none.
pub fn find(route: &mut Netlink, index: u32) -> Result<Option<LinkFacts>> {
    let mut body = [0; LINK_HEADER];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    match route.send_request("read interface", libc::RTM_GETLINK, &body) {
        Ok(reply) => Ok(reply.and_then(|reply| LinkFacts::parse(&reply.payload))),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The addresses of all interfaces except the loopback, in the network namespace of this socket.
pub fn addresses(route: &mut Netlink) -> Result<Vec<IpAddr>> {
    const LOOPBACK_INDEX: u32 = 1;
    let mut found = Vec::new();
    route.dump(libc::RTM_GETADDR, &[0; ADDRESS_HEADER], |body| {
        let address = body.get(ADDRESS_HEADER..).and_then(|all| {
            // On a link to one peer, the other attribute is the address of the peer.
            address_of(attribute(all, libc::IFA_LOCAL).or_else(|| attribute(all, libc::IFA_ADDRESS))?)
        });
        let is_loopback = u32_at(body, 4) == Some(LOOPBACK_INDEX);
        found.extend(address.filter(|address| !is_loopback && !found.contains(address)));
    })?;
    Ok(found)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// The id by which interfaces in the namespace of this socket refer to another namespace; `None`
/// if none does.
pub fn namespace_id(route: &mut Netlink, netns: BorrowedFd<'_>) -> Result<Option<i32>> {
    /// `NETNSA_NSID` and `NETNSA_FD` (linux/net_namespace.h).
    const ID: u16 = 1;
    const FD: u16 = 3;
    // `struct rtgenmsg` with padding, and one attribute.
    let mut body = vec![0; 4];
    body.extend(8_u16.to_ne_bytes());
    body.extend(FD.to_ne_bytes());
    body.extend(netns.as_raw_fd().to_ne_bytes());
    let reply = route.send_request("find the network namespace", libc::RTM_GETNSID, &body)?;
    let id = reply.and_then(|reply| u32_at(attribute(reply.payload.get(4..)?, ID)?, 0));
    // -1: it has no id.
    Ok(id.map(u32::cast_signed).filter(|id| *id >= 0))
}

/// Notifies of changes of the interfaces of a network namespace.
#[derive(Debug)]
pub struct LinkChanges {
    socket: Socket,
}

impl LinkChanges {
    /// Follows the network namespace of the calling thread.
    pub fn follow() -> Result<Self> {
        let failed = |error| Error::os("follow changes of", "interfaces", error);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.add_membership(LINK_GROUP).map_err(failed)?;
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self { socket })
    }

    /// Reads all notifications. What has changed has to be read from the interfaces.
    pub fn clear(&self) {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            buffer.reserve(BUFFER);
            match self.socket.recv(&mut buffer, 0) {
                // ENOBUFS: some did not fit the socket.
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOBUFS)) => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for LinkChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    fn find_by(route: &mut Netlink, index: u32) -> Option<String> {
        find(route, index).unwrap().map(|link| link.name)
    }

    #[test]
    fn lists_pairs_stacked_interfaces_and_addresses() {
        in_fresh_namespace(|| {
            let mut route = Netlink::route().unwrap();
            let changes = LinkChanges::follow().unwrap();
            ip("link add left type veth peer name right");
            ip("link add bridge0 type bridge");
            ip("link add above link left type macvlan");
            ip("addr add 198.51.100.1/24 dev left");
            let links = all(&mut route).unwrap();
            let find = |name: &str| links.iter().find(|link| link.name == name).unwrap();
            assert_eq!(find("left").other, Some(OtherLink { index: find("right").index, namespace: None }));
            let stacked = ["lo", "left", "bridge0", "above"].map(|name| find(name).is_stacked());
            assert_eq!(stacked, [false, true, true, true]);
            assert_eq!(find_by(&mut route, find("left").index), Some("left".to_owned()));
            assert_eq!(find_by(&mut route, 4242), None);
            assert!(find("lo").is_loopback() && find("above").is_ethernet() && find("above").kind == "macvlan");
            assert_eq!(addresses(&mut route).unwrap(), [IpAddr::from([198, 51, 100, 1])]);
            assert!(changes.socket.recv(&mut Vec::with_capacity(BUFFER), 0).is_ok(), "a notification");
            changes.clear();
            assert!(changes.socket.recv(&mut Vec::with_capacity(BUFFER), 0).is_err(), "all were read");
        });
    }

    #[test]
    fn the_other_end_is_in_a_namespace_with_an_id() {
        in_fresh_namespace(|| {
            let mut route = Netlink::route().unwrap();
            let other = crate::host::existing::ExistingNamespace::of_test();
            assert_eq!(namespace_id(&mut route, other.as_fd()).unwrap(), None, "no interface refers to it");
            ip("link add left type veth peer name right");
            let inside = other.as_fd().as_raw_fd();
            ip(&format!("link set right netns /proc/{}/fd/{inside}", std::process::id()));
            let links = all(&mut route).unwrap();
            let left = links.iter().find(|link| link.name == "left").unwrap();
            let id = namespace_id(&mut route, other.as_fd()).unwrap();
            assert!(id.is_some() && left.other.unwrap().namespace == id, "{left:?}, {id:?}");
            let inner = other.run_in(|| all(&mut Netlink::route().unwrap()).unwrap()).unwrap();
            assert_eq!(inner.iter().find(|link| link.name == "right").unwrap().other.unwrap().index, left.index);
        });
    }
}
