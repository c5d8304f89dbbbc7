//! The sockets of the proxy in the namespace.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::error::{Error, Result};
use crate::flow::Protocol;
use crate::host::namespace::Namespace;
use crate::report::HostService;

/// A socket in the namespace, and the service of the host that it leads to.
#[derive(Debug)]
pub(super) struct BoundSocket {
    pub service: HostService,
    pub kind: BoundKind,
}

#[derive(Debug)]
pub(super) enum BoundKind {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// The sockets of the proxy. Clients wait in them until the proxy starts.
#[derive(Debug)]
pub struct LoopbackSockets {
    pub(super) sockets: Vec<BoundSocket>,
}

impl LoopbackSockets {
    /// Binds a socket for each service in the namespace, whose loopback is up. Services of a family
    /// that the namespace does not have are left out.
    pub fn bind(namespace: &Namespace, services: &[HostService]) -> Result<Self> {
        let bind_all = || services.iter().filter_map(|service| bind_one(*service).transpose()).collect::<Result<_>>();
        Ok(Self { sockets: namespace.run_in(bind_all)?? })
    }

    /// The services that the namespace has.
    pub fn services(&self) -> Vec<HostService> {
        self.sockets.iter().map(|bound| bound.service).collect()
    }
}

/// `None` if the namespace does not have the address family.
fn bind_one(service: HostService) -> Result<Option<BoundSocket>> {
    match open(service) {
        Ok(kind) => Ok(Some(BoundSocket { service, kind })),
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => Ok(None),
        Err(Errno::EMFILE) => Err(failed(service, Errno::EMFILE).hint("name fewer ports, or raise `ulimit -n`")),
        Err(errno) => Err(failed(service, errno)),
    }
}

fn failed(service: HostService, errno: Errno) -> Error {
    Error::os("bind for --host-loopback", service.to_string(), errno)
}

fn open(service: HostService) -> Result<BoundKind, Errno> {
    let is_tcp = service.protocol == Protocol::TCP;
    let kind = if is_tcp { SockType::Stream } else { SockType::Datagram };
    let family = if service.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket: OwnedFd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // No SO_REUSEADDR for UDP: a program in the namespace could bind the same port beside it, and
    // receive what is meant for the host's service.
    if is_tcp {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(service.address))?;
    if is_tcp {
        listen(&socket, Backlog::MAXCONN)?;
        return Ok(BoundKind::Tcp(socket.into()));
    }
    Ok(BoundKind::Udp(socket.into()))
}
