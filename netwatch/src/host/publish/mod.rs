//! `--publish [ADDR:]HOST_PORT:PORT[/udp]`: parses the argument, and reserves the host's port for
//! the run. [`super::nat`] translates the packets.

mod holder;
mod reserve;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

pub use reserve::{PortReservation, reserve};

use crate::error::{Error, Result};
use crate::host::sysctl;

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocols' own names")]
pub enum PublishProtocol {
    Tcp,
    Udp,
}

impl PublishProtocol {
    /// `IPPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

impl fmt::Display for PublishProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A published port: a port of the host that leads to a port of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Publish {
    /// The host's address on which it is published; all addresses if `None`, all of one family if
    /// unspecified (`0.0.0.0`, `::`).
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The target's port.
    pub target_port: u16,
    /// The transport.
    pub protocol: PublishProtocol,
}

impl Publish {
    /// Whether clients of this family can use it.
    pub fn serves(&self, ipv6: bool) -> bool {
        self.address.is_none_or(|address| address.is_ipv6() == ipv6)
    }

    /// The single address on which it is published; `None` for all.
    pub fn only(&self) -> Option<IpAddr> {
        self.address.filter(|address| !address.is_unspecified())
    }

    /// Whether a packet could match both.
    pub fn clashes(&self, other: &Self) -> bool {
        let family = [false, true].into_iter().any(|ipv6| self.serves(ipv6) && other.serves(ipv6));
        let address = match (self.only(), other.only()) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        family && address && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host_port, self.target_port, self.protocol)
    }
}

impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|cause| {
            Error::other("publish", text, cause)
                .hint("write [ADDR:]HOSTPORT:PORT[/udp], as in 8080:80 or [::1]:5353:53/udp")
        })
    }
}

fn parse(text: &str) -> Result<Publish, String> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), PublishProtocol::Tcp),
        Some((ports, "udp")) => (ports, PublishProtocol::Udp),
        Some((_, other)) => return Err(format!("`{other}` is neither tcp nor udp")),
    };
    let (rest, target) = ports.rsplit_once(':').ok_or("there is no target port")?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (Some(parse_address(address)?), host),
        None => (None, rest),
    };
    Ok(Publish { address, host_port: parse_port(host)?, target_port: parse_port(target)?, protocol })
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        None => text.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4),
    };
    match address {
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) => Err("nothing can be translated from ::1; publish on 127.0.0.1".into()),
        Some(address) if address.is_multicast() => Err(format!("{address} is a multicast address")),
        Some(address) => Ok(address),
        None if text.contains(':') && bracketed.is_none() => {
            Err(format!("`{text}` is not an address (IPv6 needs brackets)"))
        }
        None => Err(format!("`{text}` is not an address")),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or(format!("`{text}` is not a port (1 to 65535)"))
}

/// The target's ports among these that need CAP_NET_BIND_SERVICE.
pub fn privileged(publish: &[Publish]) -> Result<Vec<u16>> {
    let first_unprivileged = sysctl::read("ipv4/ip_unprivileged_port_start")?.and_then(|text| text.parse().ok());
    let limit: u16 = first_unprivileged.unwrap_or(1024);
    Ok(publish.iter().map(|publish| publish.target_port).filter(|port| *port < limit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_users_type() {
        for (typed, shown) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("53:5353/udp", "53:5353/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("0.0.0.0:1:65535", "0.0.0.0:1:65535/tcp"),
            ("[2001:db8::1]:8080:80/udp", "[2001:db8::1]:8080:80/udp"),
            ("[::]:8080:80", "[::]:8080:80/tcp"),
        ] {
            let publish: Publish = typed.parse().unwrap();
            assert_eq!(publish.to_string(), shown);
            assert_eq!(shown.parse::<Publish>().unwrap(), publish);
        }
    }

    #[test]
    fn errors_name_the_cause() {
        for (typed, cause) in [
            ("8080", "there is no target port"),
            ("", "there is no target port"),
            ("8080:", "`` is not a port (1 to 65535)"),
            ("0:80", "`0` is not a port (1 to 65535)"),
            ("80:65536", "`65536` is not a port (1 to 65535)"),
            ("80:80/sctp", "`sctp` is neither tcp nor udp"),
            ("host:80:80", "`host` is not an address"),
            ("::1:80:80", "`::1` is not an address (IPv6 needs brackets)"),
            ("[::1]:80:80", "nothing can be translated from ::1; publish on 127.0.0.1"),
            ("[10.0.0.1]:80:80", "`[10.0.0.1]` is not an address"),
            ("224.0.0.1:80:80", "224.0.0.1 is a multicast address"),
        ] {
            let error = typed.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains(&format!(": {cause}; write [ADDR:]")), "{error}");
        }
    }

    #[test]
    fn clashes_are_detected() {
        let clash = |one: &str, two: &str| one.parse::<Publish>().unwrap().clashes(&two.parse().unwrap());
        assert!(clash("80:1", "80:2"));
        assert!(clash("80:1", "10.0.0.1:80:2"));
        assert!(clash("0.0.0.0:80:1", "80:2"));
        assert!(!clash("80:1", "80:1/udp"));
        assert!(!clash("0.0.0.0:80:1", "[::]:80:2"));
        assert!(!clash("10.0.0.1:80:1", "10.0.0.2:80:1"));
        assert!(!clash("80:80", "81:80"));
    }
}
