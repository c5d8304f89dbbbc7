//! Frames that a kernel takes from an interface only: sent on a veth pair in a network namespace of its own. The other end is down, so
//! nobody but the classifier, which sits where the frame leaves, ever sees them. All of it goes with the socket.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netwatch_common::parse::Hook;
use nix::net::if_::if_nametoindex;

use crate::error::{Error, Result};
use crate::host::namespace;
use crate::host::netlink::{Netlink, NetlinkRequest};
use crate::meter::KernelMeter;

/// The largest that veth takes: the longest IPv4 packet.
const MTU: u32 = 65_535;
const NAME: &str = "replay0";
const PEER: &str = "replay1";

/// One interface for each place where a frame may be said to be seen.
#[derive(Debug, Default)]
pub(super) struct Injector(Vec<(Hook, Lane)>);

/// An interface that a classifier counts at.
#[derive(Debug)]
struct Lane {
    socket: OwnedFd,
    ifindex: u32,
}

impl Injector {
    /// Sends a frame to be counted at `hook`. False if it is too short or too long for any interface.
    pub(super) fn send(&mut self, probe: &mut KernelMeter, hook: Hook, frame: &[u8]) -> Result<bool> {
        if !self.0.iter().any(|(known, _)| *known == hook) {
            self.0.push((hook, namespace::in_new(|| Lane::new(probe, hook))??));
        }
        let lane = self.0.iter().find(|(known, _)| *known == hook).map(|(_, lane)| lane);
        match lane.map_or(Ok(()), |lane| lane.send(frame)) {
            Ok(()) => Ok(true),
            // Shorter than an Ethernet header, longer than the MTU.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => Ok(false),
            Err(error) => Err(Error::os("send a frame on", NAME, error)),
        }
    }
}

impl Lane {
    /// In the thread's network namespace, which then lives as long as the socket.
    fn new(probe: &mut KernelMeter, hook: Hook) -> Result<Self> {
        let mut netlink = Netlink::route()?;
        netlink
            .batch(&[NetlinkRequest::new("create interface", NAME, RouteNetlinkMessage::NewLink(pair())).create()])?;
        let ifindex = if_nametoindex(NAME).map_err(|errno| Error::os("find interface", NAME, errno))?;
        be_silent()?;
        probe.attach_egress(hook, ifindex)?;
        netlink.batch(&[NetlinkRequest::new("bring up interface", NAME, RouteNetlinkMessage::SetLink(up(ifindex)))])?;
        let socket = packet_socket()
            .map_err(|error| Error::os("open packet socket", "", error).hint("needs CAP_NET_RAW; run with sudo"))?;
        Ok(Self { socket, ifindex })
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: plain data, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = self.ifindex as i32;
        let (to, length) = ((&raw const address).cast(), size_of_val(&address) as u32);
        // SAFETY: both pointers are valid for the lengths beside them.
        let sent = unsafe { libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, length) };
        if sent == frame.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn pair() -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(PEER.to_owned()), LinkAttribute::Mtu(MTU)];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(NAME.to_owned()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    message
}

fn up(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

/// The kernel would say hello in IPv6 if the interface ever had a carrier. `/proc/sys/net` is the calling thread's.
fn be_silent() -> Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6");
    match std::fs::write(&path, "1") {
        // A kernel without IPv6 is silent.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::os("write", path, error)),
        _ => Ok(()),
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; a fresh descriptor is ours.
    unsafe {
        match libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
