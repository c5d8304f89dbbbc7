//! The veth pair between the host and the namespace of a run: creates it, sets its addresses and
//! routes, reads its counters, and deletes it. What the host does with the packets is in
//! `forwarding`, `nat` and `firewall`.
//!
//! The host's end is named after the run; the target's is `eth0`, created inside the namespace.
//! Both send no router solicitations, do no duplicate address detection, and have no addresses but
//! the run's. So the link carries the target's traffic and only a few packets of the kernel: ARP
//! and neighbor discovery of the one neighbor, and MLD for the groups of the addresses. Permanent
//! neighbor entries would save those packets, but break the link for a target that changes its MAC
//! address.

mod made;
mod ready;
#[cfg(test)]
mod tests;

pub use made::MadeLinks;

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use self::ready::LinkEnd;
use super::NETWATCH_GROUP;
use super::namespace::Namespace;
use super::netlink::{Netlink, NetlinkReply, NetlinkRequest, attribute, u32_at, u64_at};
use super::route::{LINK_LOCAL_GATEWAY, LINK_LOCAL_TARGET, add_address, add_default_route};
use super::subnet::{Subnet, Subnets};
use super::sysctl::SysctlSetting;
use super::uplink::MTU_OF_IPV6;
use crate::error::{Error, Result};

/// Name of the target's end.
pub const INNER_INTERFACE: &str = "eth0";

/// The counters of an interface, in its own view: the host's end receives what the target sends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEndCounters {
    /// Socket buffers received.
    pub rx_packets: u64,
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Packets received and discarded.
    pub rx_dropped: u64,
    /// Socket buffers sent.
    pub tx_packets: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
    /// Packets discarded instead of sent: by veth, when the other end is down. Their bytes are
    /// counted nowhere.
    pub tx_dropped: u64,
}

/// The link to set up.
#[derive(Debug, Clone)]
pub struct LinkPlan<'a> {
    /// Name of the host's end, [`RunId::interface`](crate::undo::RunId::interface).
    pub interface: &'a str,
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// The addresses.
    pub subnets: Subnets,
    /// Whether the target has a link-local IPv6 address even without an IPv6 subnet, as on the
    /// host.
    pub link_local: bool,
}

/// The link of a run. The kernel removes it in the background together with the namespace, so
/// dropping this value does nothing; [`Link::delete`] is for a namespace that another process may
/// keep alive.
#[derive(Debug)]
pub struct Link {
    name: String,
    index: u32,
    inner_index: u32,
    host: Netlink,
}

impl Link {
    /// Creates the link between the calling thread's namespace and `namespace`, with addresses and
    /// routes. When this returns, packets of both families can be sent both ways. `before_up` is
    /// called before any packet can have passed: the classifier is attached there.
    pub fn create(
        plan: &LinkPlan<'_>,
        namespace: &mut Namespace,
        before_up: impl FnOnce(&str, u32) -> Result<()>,
    ) -> Result<Self> {
        let mut host = Netlink::route()?;
        let (index, inner_index) = create_pair(&mut host, plan, namespace)?;
        let mut link = Self { name: plan.interface.to_owned(), index, inner_index, host };
        link.configure(plan, namespace, before_up).inspect_err(|_| drop(delete(plan.interface)))?;
        Ok(link)
    }

    fn configure(
        &mut self,
        plan: &LinkPlan<'_>,
        namespace: &mut Namespace,
        before_up: impl FnOnce(&str, u32) -> Result<()>,
    ) -> Result<()> {
        before_up(&self.name, self.index)?;
        let subnets: Vec<Subnet> = plan.subnets.all().collect();
        let ipv6 = plan.subnets.v6.is_some();
        // The kernel disables IPv6 on an interface with a smaller MTU.
        let only_link_local = !ipv6 && plan.link_local && plan.mtu >= MTU_OF_IPV6;
        let quiet_host = quiet(&self.name, ipv6)?;
        let quiet_inner = namespace.run_in(|| {
            if ipv6 || only_link_local {
                enable_ipv6("lo")?;
            }
            quiet(INNER_INTERFACE, ipv6 || only_link_local)
        })??;
        // The target's end is brought up first, so the first packets of the host's end arrive
        // instead of being counted as dropped.
        let mut inner = quiet_inner;
        inner.push(set_up(1, "lo"));
        inner.extend(end(self.inner_index, INNER_INTERFACE, &subnets, Subnet::target, LINK_LOCAL_TARGET));
        if only_link_local {
            inner.push(add_address(self.inner_index, LINK_LOCAL_TARGET.into(), 64));
        }
        inner.extend(subnets.iter().map(|subnet| add_default_route(self.inner_index, subnet.gateway())));
        namespace.route()?.batch(&inner)?;
        let mut outer = quiet_host;
        outer.extend(end(self.index, &self.name, &subnets, Subnet::gateway, LINK_LOCAL_GATEWAY));
        self.host.batch(&outer)?;
        self.wait_until_ready(namespace, &subnets)
    }

    fn wait_until_ready(&mut self, namespace: &mut Namespace, subnets: &[Subnet]) -> Result<()> {
        let (index, inner_index) = (self.index, self.inner_index);
        let (outer, inner) = (
            addresses(subnets, Subnet::gateway, LINK_LOCAL_GATEWAY),
            addresses(subnets, Subnet::target, LINK_LOCAL_TARGET),
        );
        ready::wait([
            LinkEnd { netlink: namespace.route()?, index: inner_index, name: INNER_INTERFACE, addresses: inner },
            LinkEnd { netlink: &mut self.host, index, name: &self.name, addresses: outer },
        ])
    }

    /// Name of the host's end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Index of the host's end.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Index of the target's end, in its namespace.
    pub fn inner_index(&self) -> u32 {
        self.inner_index
    }

    fn read(&mut self) -> Result<NetlinkReply> {
        let answers = self.host.batch(&[read_request(self.index, &self.name)])?;
        answers.into_iter().flatten().next().ok_or_else(|| no_answer(&self.name))
    }

    /// The counters of the host's end at this moment. Packets may be in transit, so the balance may
    /// be open. `None` if the interface no longer exists.
    pub fn counters(&mut self) -> Result<Option<HostEndCounters>> {
        match self.read() {
            Ok(message) => Ok(Some(counters(&message, &self.name)?)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes both ends at once. Otherwise the kernel does so when it removes the namespace.
    pub fn delete(mut self) -> Result<()> {
        delete_with(&mut self.host, &self.name).map(drop)
    }
}

/// Whether the target's end has left its namespace, where `route` is open. The kernel does not
/// remove it with the namespace then.
pub fn inner_end_is_elsewhere(inner_index: u32, route: &mut Netlink) -> Result<bool> {
    match route.batch(&[read_request(inner_index, INNER_INTERFACE)]) {
        Ok(_) => Ok(false),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The counters of an interface of the calling thread's network namespace; `None` if it is not
/// there.
pub fn counters_of(name: &str) -> Result<Option<HostEndCounters>> {
    read_counters(name, &[read_by_name(name)])
}

/// Takes the host's end of a link down, then reads its counters. In the other order, packets in
/// transit could be counted by the interface and not yet by the classifier. `None` if the interface
/// no longer exists.
pub fn take_down_and_count(name: &str) -> Result<Option<HostEndCounters>> {
    read_counters(name, &[take_down(name), read_by_name(name)])
}

fn read_counters(name: &str, requests: &[NetlinkRequest]) -> Result<Option<HostEndCounters>> {
    match Netlink::route()?.batch(requests) {
        Ok(answers) => {
            let message = answers.into_iter().flatten().next().ok_or_else(|| no_answer(name))?;
            Ok(Some(counters(&message, name)?))
        }
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The counters of the namespace's loopback interface: each packet once as sent and once as
/// received.
pub fn loopback_counters(namespace: &mut Namespace) -> Result<HostEndCounters> {
    let answers = namespace.route()?.batch(&[read_request(1, "lo")])?;
    let message = answers.into_iter().flatten().next().ok_or_else(|| no_answer("lo"))?;
    counters(&message, "lo")
}

/// Removes an interface of netwatch by its name, with its other end; false if there is none. For
/// undoing: a named namespace that other processes have joined outlives its run, and would keep the
/// link alive.
pub fn delete(interface: &str) -> Result<bool> {
    delete_with(&mut Netlink::route()?, interface)
}

fn delete_with(netlink: &mut Netlink, interface: &str) -> Result<bool> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
    match netlink.batch(&[NetlinkRequest::new("delete interface", interface, RouteNetlinkMessage::DelLink(message))]) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates the pair and reads the indices, in one system call.
fn create_pair(host: &mut Netlink, plan: &LinkPlan<'_>, namespace: &Namespace) -> Result<(u32, u32)> {
    let pair =
        NetlinkRequest::new("create interface", plan.interface, RouteNetlinkMessage::NewLink(pair(plan, namespace)))
            .create();
    let mut answers = host.batch(&[pair, read_by_name(plan.interface)])?;
    let message = answers.pop().flatten().ok_or_else(|| no_answer(plan.interface))?;
    let index = u32_at(&message.payload, 4);
    let peer = message.payload.get(16..).and_then(|all| u32_at(attribute(all, libc::IFLA_LINK)?, 0));
    index.zip(peer).ok_or_else(|| no_answer(plan.interface))
}

/// The pair has one queue in each direction. veth passes packets on in the context of the sender
/// and needs no more; by default, the kernel creates a queue (with a kobject and an event for udev)
/// for every processor.
fn pair(plan: &LinkPlan<'_>, namespace: &Namespace) -> LinkMessage {
    let end = |name: &str| {
        vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(plan.mtu),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
        ]
    };
    let mut peer = LinkMessage::default();
    peer.attributes = end(INNER_INTERFACE);
    peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()));
    let mut message = LinkMessage::default();
    message.attributes = end(plan.interface);
    message.attributes.push(LinkAttribute::Group(NETWATCH_GROUP));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    message
}

/// Disables automatic IPv6 addresses.
fn address_mode(interface: &str) -> NetlinkRequest {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])]));
    NetlinkRequest::new("configure interface", interface, RouteNetlinkMessage::SetLink(message))
}

/// The addresses of one end.
fn addresses(subnets: &[Subnet], own: impl Fn(&Subnet) -> IpAddr, link_local: Ipv6Addr) -> Vec<IpAddr> {
    let has_v6 = subnets.iter().any(Subnet::is_ipv6);
    subnets.iter().map(own).chain(has_v6.then_some(link_local.into())).collect()
}

/// The requests that set the addresses of an end and bring it up.
fn end(
    index: u32,
    name: &str,
    subnets: &[Subnet],
    own: impl Fn(&Subnet) -> IpAddr,
    link_local: Ipv6Addr,
) -> Vec<NetlinkRequest> {
    let mut requests = vec![set_up(index, name)];
    for subnet in subnets {
        requests.push(add_address(index, own(subnet), subnet.net().prefix_len()));
        if subnet.is_ipv6() {
            requests.push(add_address(index, link_local.into(), 64));
        }
    }
    requests
}

fn set_up(index: u32, name: &str) -> NetlinkRequest {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    NetlinkRequest::new("bring up interface", name, RouteNetlinkMessage::SetLink(message))
}

fn take_down(name: &str) -> NetlinkRequest {
    let mut message = LinkMessage::default();
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    NetlinkRequest::new("take down interface", name, RouteNetlinkMessage::SetLink(message))
}

fn read_request(index: u32, name: &str) -> NetlinkRequest {
    let mut message = LinkMessage::default();
    message.header.index = index;
    NetlinkRequest::new("read interface", name, RouteNetlinkMessage::GetLink(message))
}

fn read_by_name(name: &str) -> NetlinkRequest {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    NetlinkRequest::new("read interface", name, RouteNetlinkMessage::GetLink(message))
}

fn counters(message: &NetlinkReply, name: &str) -> Result<HostEndCounters> {
    message.payload.get(16..).and_then(counters_in).ok_or_else(|| no_answer(name))
}

/// The counters in the attributes of a message about an interface.
pub(super) fn counters_in(attributes: &[u8]) -> Option<HostEndCounters> {
    let stats = attribute(attributes, libc::IFLA_STATS64)?;
    // `struct rtnl_link_stats64`: rx and tx packets, bytes, errors, dropped.
    let number = |position: usize| u64_at(stats, position * 8);
    Some(HostEndCounters {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_bytes: number(2)?,
        tx_bytes: number(3)?,
        rx_dropped: number(6)?,
        tx_dropped: number(7)?,
    })
}

fn no_answer(name: &str) -> Error {
    Error::other("read interface", name, "the answer of the kernel is incomplete")
}

/// Disables router advertisements: the target's end has its routes, and the host must not accept
/// routes from the target. This also stops router solicitations, for which there is no rtnetlink
/// attribute. Returns the requests to send before the interface is brought up.
fn quiet(interface: &str, ipv6: bool) -> Result<Vec<NetlinkRequest>> {
    match SysctlSetting::new(format!("ipv6/conf/{interface}/accept_ra"), "0").write_own() {
        // A kernel without IPv6 (or an MTU too small for it) sends none of these packets, and
        // refuses the request.
        Err(error) if error.errno() == Some(Errno::ENOENT) && !ipv6 => return Ok(Vec::new()),
        other => other?,
    }
    if ipv6 {
        enable_ipv6(interface)?;
    }
    Ok(vec![address_mode(interface)])
}

/// Enables IPv6 on the interface, for hosts where it is off by default on new ones. `all` is not
/// changed: the switch of the interface decides.
fn enable_ipv6(interface: &str) -> Result<()> {
    SysctlSetting::new(format!("ipv6/conf/{interface}/disable_ipv6"), "0").write_own()
}
