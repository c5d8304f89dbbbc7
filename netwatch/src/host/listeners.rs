//! The sockets of the host that serve its loopback addresses: listening TCP sockets, and UDP
//! sockets that are bound and not connected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use nix::errno::Errno;

use super::netlink::{Netlink, SOCK_DIAG_BY_FAMILY, SOCK_DIAG_FAMILIES, attribute, sock_diag_request, u32_at};
use super::sysctl;
use crate::error::{Error, Result};

/// `TCP_CLOSE`, the state of UDP sockets that are not connected, and `TCP_LISTEN`.
const UDP_UNCONNECTED: u32 = 1 << 7;
const TCP_LISTENING: u32 = 1 << 10;
/// `INET_DIAG_SKV6ONLY`.
const V6_ONLY: u16 = 11;
/// `struct inet_diag_msg`, which attributes follow.
const MESSAGE: usize = 72;
/// The index of `lo` in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// A socket that serves loopback addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostListener {
    /// TCP or UDP, as in the IP header.
    pub protocol: u8,
    /// The address that it is bound to.
    pub bound: SocketAddr,
    /// An IPv6 socket that does not serve IPv4.
    pub v6_only: bool,
}

impl HostListener {
    /// The loopback addresses by which a program reaches it.
    pub fn loopback_addresses(&self) -> Vec<SocketAddr> {
        let at = |address: IpAddr| SocketAddr::new(address, self.bound.port());
        match self.bound.ip().to_canonical() {
            address if address.is_loopback() => vec![at(address)],
            IpAddr::V4(address) if address.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
            IpAddr::V6(address) if address.is_unspecified() => {
                let v4 = (!self.v6_only).then(|| at(Ipv4Addr::LOCALHOST.into()));
                v4.into_iter().chain([at(Ipv6Addr::LOCALHOST.into())]).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The sockets of the calling thread's network namespace that serve a loopback address.
pub fn on_loopback() -> Result<Vec<HostListener>> {
    let mut sock_diag = Netlink::sock_diag()?;
    let mut found = Vec::new();
    for family in SOCK_DIAG_FAMILIES {
        for (protocol, states) in [(libc::IPPROTO_TCP, TCP_LISTENING), (libc::IPPROTO_UDP, UDP_UNCONNECTED)] {
            let each = |body: &[u8]| found.extend(parse(body, protocol as u8));
            match sock_diag.dump(SOCK_DIAG_BY_FAMILY, &sock_diag_request(family, protocol, states), each) {
                // A kernel without udp_diag lists TCP sockets only.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                listed => listed?,
            }
        }
    }
    found.retain(|listener: &HostListener| !listener.loopback_addresses().is_empty());
    Ok(found)
}

/// The ports that the kernel assigns to clients, in the calling thread's network namespace.
pub fn client_ports() -> Result<RangeInclusive<u16>> {
    let key = "ipv4/ip_local_port_range";
    let text = sysctl::read(key)?.unwrap_or_default();
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    match (ports.next().flatten(), ports.next().flatten()) {
        (Some(first), Some(last)) => Ok(first..=last),
        _ => Err(Error::other("read", key, format!("unknown format: {text}"))),
    }
}

/// `struct inet_diag_msg`: family in byte 0; port at 4 and address at 8 in network order, the
/// interface that the socket is bound to at 40.
fn parse(body: &[u8], protocol: u8) -> Option<HostListener> {
    let address: IpAddr = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(body.get(8..12)?).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?).into(),
    };
    let port = u16::from_be_bytes(<[u8; 2]>::try_from(body.get(4..6)?).ok()?);
    let is_elsewhere = ![0, LOOPBACK_INDEX].contains(&u32_at(body, 40)?);
    // A UDP socket without a port receives nothing.
    if port == 0 || is_elsewhere {
        return None;
    }
    let v6_only = body.get(MESSAGE..).and_then(|all| attribute(all, V6_ONLY)).is_some_and(|value| value != [0]);
    Some(HostListener { protocol, bound: SocketAddr::new(address, port), v6_only })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;

    use super::*;
    use crate::host::testing::in_fresh_namespace;

    fn addresses(bound: &str, v6_only: bool) -> Vec<String> {
        let listener = HostListener { protocol: 6, bound: bound.parse().unwrap(), v6_only };
        listener.loopback_addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wildcard_sockets_serve_the_loopback_too() {
        assert_eq!(addresses("127.0.0.53:53", false), ["127.0.0.53:53"]);
        assert_eq!(addresses("0.0.0.0:22", false), ["127.0.0.1:22"]);
        assert_eq!(addresses("[::]:22", false), ["127.0.0.1:22", "[::1]:22"]);
        assert_eq!(addresses("[::]:22", true), ["[::1]:22"]);
        assert_eq!(addresses("[::ffff:127.0.0.1]:22", false), ["127.0.0.1:22"]);
        assert_eq!(addresses("198.51.100.1:22", false), [""; 0]);
    }

    #[test]
    fn lists_listening_and_unconnected_sockets() {
        in_fresh_namespace(|| {
            Command::new("ip").args(["addr", "add", "198.51.100.1/24", "dev", "lo"]).status().unwrap();
            let _tcp = ["127.0.0.1:81", "[::]:82", "198.51.100.1:83"].map(|at| TcpListener::bind(at).unwrap());
            let _udp = UdpSocket::bind("[::1]:84").unwrap();
            let connected = UdpSocket::bind("127.0.0.1:85").unwrap();
            connected.connect("127.0.0.1:81").unwrap();
            let found: Vec<_> = on_loopback().unwrap();
            let mut shown: Vec<_> = found.iter().map(|one| (one.bound.to_string(), one.protocol)).collect();
            shown.sort();
            let expected = [("127.0.0.1:81", 6), ("[::1]:84", 17), ("[::]:82", 6)];
            assert_eq!(shown, expected.map(|(bound, protocol)| (bound.to_owned(), protocol)));
            assert!(found.iter().any(|one| one.loopback_addresses().len() == 2), "both families: {found:?}");
        });
    }
}
