//! The sockets that the forwarder listens on, bound to the gateway addresses and to the interface
//! of the run.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::error::{Error, Result};
use crate::wire::port;

/// Size of the UDP receive buffer, bytes. A small datagram occupies about 800 of them; the default
/// buffer overflows in a burst of 500 queries.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Maximum number of ports to try until one is free in both protocols.
const MAX_BIND_ATTEMPTS: usize = 32;

/// The UDP and the TCP socket of one gateway address, on the same port.
#[derive(Debug)]
pub(super) struct ListeningPair {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) address: SocketAddr,
}

impl ListeningPair {
    /// Binds port 53. Where another server has bound that on all addresses, the kernel chooses
    /// another port, to which the caller has to redirect.
    pub(super) fn bind(address: IpAddr, interface: Option<&str>) -> Result<Self> {
        match Self::bind_port(address, port::DNS, interface) {
            Err((_, Errno::EADDRINUSE)) => {}
            result => return result.map_err(|(operation, errno)| failed(operation, address, errno)),
        }
        for _ in 0..MAX_BIND_ATTEMPTS {
            match Self::bind_port(address, 0, interface) {
                Err((_, Errno::EADDRINUSE)) => {}
                result => return result.map_err(|(operation, errno)| failed(operation, address, errno)),
            }
        }
        Err(failed("bind", address, Errno::EADDRINUSE))
    }

    /// A duplicate of the UDP socket, to read its counters.
    pub(super) fn duplicate_udp(&self) -> Result<UdpSocket> {
        self.udp.try_clone().map_err(|error| failed("duplicate the socket of", self.address.ip(), errno_of(&error)))
    }

    fn bind_port(address: IpAddr, port: u16, interface: Option<&str>) -> Result<Self, (&'static str, Errno)> {
        let udp = open(address, SockType::Datagram, interface)?;
        bind(udp.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))
            .map_err(|errno| ("bind", errno))?;
        let udp = UdpSocket::from(udp);
        let address = udp.local_addr().map_err(|error| ("bind", errno_of(&error)))?;
        let tcp = open(address.ip(), SockType::Stream, interface)?;
        bind(tcp.as_raw_fd(), &SockaddrStorage::from(address)).map_err(|errno| ("bind", errno))?;
        // EADDRINUSE can occur as late as here: with SO_REUSEADDR two sockets may bind, but not
        // both listen.
        listen(&tcp, Backlog::MAXCONN).map_err(|errno| ("listen on", errno))?;
        Ok(Self { udp, tcp: TcpListener::from(tcp), address })
    }
}

/// Opens a socket for this address that accepts packets from this interface only.
///
/// The interface restricts the clients. If the socket were bound to the address only, another
/// machine on the host's network could route packets to the gateway address and use the host's
/// resolvers.
fn open(address: IpAddr, kind: SockType, interface: Option<&str>) -> Result<OwnedFd, (&'static str, Errno)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(|errno| ("open a socket for", errno))?;
    let set = || {
        // The address may not be usable yet. The kernel applies this option to IPv6 sockets too
        // (ipv6_can_nonlocal_bind).
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        if let Some(interface) = interface {
            setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
        }
        match kind {
            // Connections of an earlier run with this address may still be in TIME_WAIT, and must
            // not prevent the bind.
            SockType::Stream => setsockopt(&socket, sockopt::ReuseAddr, &true),
            // No SO_REUSEADDR for UDP: the bind would also succeed while another server with that
            // option uses the port, and the TCP port would still be in use.
            _ => setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
                .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)),
        }
    };
    set().map_err(|errno| ("prepare a socket for", errno))?;
    Ok(socket)
}

/// Number of datagrams that the kernel has dropped at this socket (sk_drops; net/core/sock.c); 0 if
/// it does not report that (before Linux 4.12).
pub(super) fn dropped_datagrams(socket: &UdpSocket) -> u64 {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut values = [0_u32; DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `values`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { u64::from(values[DROPS]) } else { 0 }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn failed(operation: &str, address: IpAddr, errno: Errno) -> Error {
    Error::os(format!("{operation} the DNS forwarder's address"), address.to_string(), errno)
}
