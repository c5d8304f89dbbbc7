//! Reserves the host's ports before the run starts. So a port that is in use is an error, and no
//! other program can take one during the run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

use super::holder::holder;
use super::{Publish, PublishProtocol};
use crate::error::{Error, Result};
use crate::host::nat;

/// Sockets bound to the published ports, so that no other program and no other run can take them.
/// They never listen, because packets for these ports are translated before the kernel looks up a
/// socket.
#[derive(Debug)]
pub struct PortReservation {
    _sockets: Vec<OwnedFd>,
}

/// Reserves the ports; the error names the process that uses one.
pub fn reserve(ports: &[Publish]) -> Result<PortReservation> {
    for (index, port) in ports.iter().enumerate() {
        if let Some(earlier) = ports[..index].iter().find(|earlier| earlier.clashes(port)) {
            return Err(Error::other("publish", port.to_string(), format!("{earlier} already has that port")));
        }
    }
    let mut sockets = Vec::new();
    for port in ports {
        for address in addresses(port) {
            sockets.extend(take(port, address)?);
        }
    }
    Ok(PortReservation { _sockets: sockets })
}

fn addresses(port: &Publish) -> Vec<IpAddr> {
    match port.address {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// `None` if the kernel does not have the address family.
fn take(port: &Publish, address: IpAddr) -> Result<Option<OwnedFd>> {
    match bound(port, address, false) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::EAFNOSUPPORT) => Ok(None),
        Err(Errno::EADDRNOTAVAIL) if port.address.is_none() => Ok(None),
        Err(Errno::EADDRNOTAVAIL) => Err(Error::os("publish", port.to_string(), Errno::EADDRNOTAVAIL)
            .hint(format!("{address} is not an address of this host"))),
        Err(Errno::EADDRINUSE) => take_from_leftovers(port, address).map(Some),
        Err(errno) => Err(Error::os("publish", port.to_string(), errno)),
    }
}

/// Reserves a port that is in use. That is possible if no process listens on it, and only old or
/// outgoing connections use it.
fn take_from_leftovers(port: &Publish, address: IpAddr) -> Result<OwnedFd> {
    let holder = match holder(port.protocol, port.host_port) {
        Some(process) => Some(process),
        None => nat::run_that_publishes(port)?.map(|run| format!("netwatch run {run}")),
    };
    let shown = format!("{}/{}", port.host_port, port.protocol);
    if let Some(holder) = holder {
        return Err(Error::os("publish", port.to_string(), Errno::EADDRINUSE)
            .hint(format!("port {shown} is in use by {holder}: stop it or choose another port of the host")));
    }
    bound(port, address, true).map_err(|errno| {
        Error::os("publish", port.to_string(), errno)
            .hint(format!("port {shown} is in use; choose another port of the host"))
    })
}

fn bound(port: &Publish, address: IpAddr, reuse: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match port.protocol {
        PublishProtocol::Tcp => SockType::Stream,
        PublishProtocol::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&socket, sockopt::ReuseAddr, &reuse)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port.host_port)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nft::testbed::TestNamespace;

    fn ports(list: &[&str]) -> Vec<Publish> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn refused(list: &[&str]) -> String {
        reserve(&ports(list)).unwrap_err().to_string()
    }

    #[test]
    fn a_port_is_reserved_until_the_reservation_is_dropped() {
        let Some(ns) = TestNamespace::new() else { return };
        ns.run(|| {
            let held = reserve(&ports(&["8080:80", "8080:80/udp", "127.0.0.1:8081:80"])).unwrap();
            assert!(std::net::TcpListener::bind("127.0.0.1:8080").is_err());
            assert!(refused(&["8080:81"]).contains("(EADDRINUSE); port 8080/tcp is in use"));
            drop(held);
            reserve(&ports(&["8080:81"])).unwrap();
        });
    }

    #[test]
    fn the_error_names_the_process_that_uses_the_port() {
        let Some(ns) = TestNamespace::new() else { return };
        ns.run(|| {
            let _server = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
            let me = format!("(pid {})", std::process::id());
            assert!(refused(&["8080:80"]).contains(&me), "{}", refused(&["8080:80"]));
            reserve(&ports(&["8080:80/udp"])).unwrap();
            let _server = std::net::UdpSocket::bind("[::]:53").unwrap();
            assert!(refused(&["0.0.0.0:53:53/udp"]).contains(&me));
        });
    }

    #[test]
    fn other_errors_name_their_cause() {
        let Some(ns) = TestNamespace::new() else { return };
        ns.run(|| {
            let error = refused(&["203.0.113.77:80:80"]);
            assert_eq!(error, "cannot publish 203.0.113.77:80:80/tcp: Cannot assign requested address (EADDRNOTAVAIL); 203.0.113.77 is not an address of this host");
            assert!(refused(&["80:1", "127.0.0.1:80:2"]).ends_with("80:1/tcp already has that port"));
        });
    }

    #[test]
    fn old_connections_do_not_prevent_a_reservation() {
        let Some(ns) = TestNamespace::new() else { return };
        ns.run(|| {
            let server = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
            let mut client = std::net::TcpStream::connect("127.0.0.1:8080").unwrap();
            let (accepted, _) = server.accept().unwrap();
            // The server closes first and keeps the port in TIME_WAIT.
            drop((accepted, server));
            assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0, "the server has closed");
            drop(client);
            reserve(&ports(&["8080:80"])).unwrap();
        });
    }
}
