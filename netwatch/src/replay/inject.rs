//! Passes frames to the kernel through an interface, for frames that it accepts in no other way: a
//! veth pair in a separate network namespace. The other end is down, so that only the classifier at
//! the egress sees the frames. The kernel removes everything when the socket is closed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netwatch_common::parse::Hook;
use nix::net::if_::if_nametoindex;

use crate::error::{self, Error, Result};
use crate::host::namespace;
use crate::host::netlink::{Netlink, NetlinkRequest};
use crate::meter::KernelMeter;

/// The largest MTU that veth accepts: the longest IPv4 packet.
const MTU: u32 = 65_535;
const NAME: &str = "replay0";
const PEER: &str = "replay1";

/// One interface for each hook at which a frame can be counted.
#[derive(Debug, Default)]
pub(super) struct Injector(Vec<(Hook, Lane)>);

/// An interface with a classifier.
#[derive(Debug)]
struct Lane {
    socket: OwnedFd,
    ifindex: u32,
}

impl Injector {
    /// Sends a frame to be counted at `hook`. False if it is too short or too long for any
    /// interface.
    pub(super) fn send(&mut self, meter: &mut KernelMeter, hook: Hook, frame: &[u8]) -> Result<bool> {
        if !self.0.iter().any(|(known, _)| *known == hook) {
            self.0.push((hook, namespace::in_new(|| Lane::new(meter, hook))??));
        }
        let lane = self.0.iter().find(|(known, _)| *known == hook).map(|(_, lane)| lane);
        match lane.map_or(Ok(()), |lane| lane.send(frame)) {
            Ok(()) => Ok(true),
            // Shorter than an Ethernet header, or longer than the MTU.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => Ok(false),
            Err(error) => Err(Error::os("send a frame on", NAME, error)),
        }
    }
}

impl Lane {
    /// Creates the interface in the network namespace of the thread, which then lives as long as
    /// the socket.
    fn new(meter: &mut KernelMeter, hook: Hook) -> Result<Self> {
        let mut netlink = Netlink::route()?;
        netlink
            .batch(&[NetlinkRequest::new("create interface", NAME, RouteNetlinkMessage::NewLink(pair())).create()])?;
        let ifindex = if_nametoindex(NAME).map_err(|errno| Error::os("find interface", NAME, errno))?;
        be_silent()?;
        meter.attach_egress(hook, ifindex)?;
        netlink.batch(&[NetlinkRequest::new("bring up interface", NAME, RouteNetlinkMessage::SetLink(up(ifindex)))])?;
        let socket = packet_socket()
            .map_err(|error| Error::os("open packet socket", "", error).hint(error::needs("CAP_NET_RAW")))?;
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

/// Disables IPv6, so that the kernel sends no packets if the interface ever gets a carrier.
/// `/proc/sys/net` belongs to the calling thread's namespace.
fn be_silent() -> Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6");
    match std::fs::write(&path, "1") {
        // A kernel without IPv6 sends none.
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
