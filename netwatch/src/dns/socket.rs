//! The sockets the forwarder listens on: bound to the gateway addresses, and to the run's interface, before anything runs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::error::{Error, Result};

const PORT: u16 = 53;

/// Room for a burst of queries, bytes: a small datagram occupies about 800 of them, and the default buffer loses the last of 500.
const RECEIVE_BUFFER: usize = 2 << 20;

/// How often to look for a port that is free in both protocols.
const TRIES: usize = 32;

/// One gateway address, in both protocols, on the same port.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) address: SocketAddr,
}

impl Pair {
    /// Port 53; where another server has that on all addresses, a port of our own, which the caller has to redirect to.
    pub(super) fn bind(address: IpAddr, interface: Option<&str>) -> Result<Self> {
        match Self::bind_port(address, PORT, interface) {
            Err((_, Errno::EADDRINUSE)) => {}
            result => return result.map_err(|(what, errno)| failed(what, address, errno)),
        }
        for _ in 0..TRIES {
            match Self::bind_port(address, 0, interface) {
                Err((_, Errno::EADDRINUSE)) => {}
                result => return result.map_err(|(what, errno)| failed(what, address, errno)),
            }
        }
        Err(failed("bind", address, Errno::EADDRINUSE))
    }

    fn bind_port(address: IpAddr, port: u16, interface: Option<&str>) -> Result<Self, (&'static str, Errno)> {
        let udp = open(address, SockType::Datagram, interface)?;
        bind(udp.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))
            .map_err(|errno| ("bind", errno))?;
        let udp = UdpSocket::from(udp);
        let address = udp.local_addr().map_err(|error| ("bind", errno_of(&error)))?;
        let tcp = open(address.ip(), SockType::Stream, interface)?;
        bind(tcp.as_raw_fd(), &SockaddrStorage::from(address)).map_err(|errno| ("bind", errno))?;
        // EADDRINUSE can come as late as here: with SO_REUSEADDR two sockets may bind, but not both listen.
        listen(&tcp, Backlog::MAXCONN).map_err(|errno| ("listen on", errno))?;
        Ok(Self { udp, tcp: TcpListener::from(tcp), address })
    }
}

/// A socket for this address that takes packets from this interface only.
///
/// The device matters for who may ask: bound to the address alone, a neighbour of the host could route packets to the gateway address and
/// use the host's resolver. With it, only what comes out of the namespace is heard; answers leave the same way.
fn open(address: IpAddr, kind: SockType, interface: Option<&str>) -> Result<OwnedFd, (&'static str, Errno)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(|errno| ("open a socket for", errno))?;
    let set = || {
        // The address may be a moment younger than we are. The kernel honours this one for IPv6 sockets too (ipv6_can_nonlocal_bind).
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        if let Some(interface) = interface {
            setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
        }
        match kind {
            // A run before us may have had the same address: its connections in TIME_WAIT must not keep us out.
            SockType::Stream => setsockopt(&socket, sockopt::ReuseAddr, &true),
            // Never SO_REUSEADDR for UDP: it would let us in beside a server that has it too, and TCP would still be taken.
            _ => setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
                .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)),
        }
    };
    set().map_err(|errno| ("prepare a socket for", errno))?;
    Ok(socket)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn failed(what: &str, address: IpAddr, errno: Errno) -> Error {
    Error::os(format!("{what} the DNS forwarder's address"), address.to_string(), errno)
}
