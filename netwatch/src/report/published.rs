//! Ports that `--publish` makes reachable: a port of the host that leads to one of the command.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Interface;
use crate::flow::Protocol;

/// A port of the host that leads to a port of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// TCP or UDP.
    #[serde(serialize_with = "write_protocol", deserialize_with = "read_protocol")]
    pub protocol: Protocol,
    /// The address of the host on which it is published; unspecified for all addresses of one
    /// family, `None` for all of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port of the host.
    pub host_port: u16,
    /// The port of the command.
    pub port: u16,
}

/// `tcp 8080 to 80`, `tcp 127.0.0.1:8080 to 80`.
impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, host_port, port } = self;
        match address {
            Some(address) => write!(f, "{protocol} {} to {port}", SocketAddr::new(*address, *host_port)),
            None => write!(f, "{protocol} {host_port} to {port}"),
        }
    }
}

/// All of them in one line; `None` without any.
pub fn list_published(ports: &[PublishedPort]) -> Option<String> {
    let listed: Vec<String> = ports.iter().map(ToString::to_string).collect();
    (!listed.is_empty()).then(|| format!("host to command: {}", listed.join(", ")))
}

impl Interface {
    /// The ports of the host that lead to a port of the command, in ascending order.
    pub fn published_as(&self, (protocol, port): (Protocol, u16)) -> Vec<u16> {
        let published = self.published.iter().filter(|known| (known.protocol, known.port) == (protocol, port));
        let mut ports: Vec<u16> = published.map(|known| known.host_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

fn write_protocol<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(protocol)
}

fn read_protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = [Protocol::TCP, Protocol::UDP].into_iter().find(|known| known.name() == Some(&name));
    known.ok_or_else(|| D::Error::custom(format!("`{name}` is neither tcp nor udp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ports_are_displayed() {
        let everywhere = PublishedPort { protocol: Protocol::TCP, address: None, host_port: 8080, port: 80 };
        let one = |address: &str| PublishedPort { address: address.parse().ok(), ..everywhere };
        let ports = [everywhere, one("127.0.0.1"), one("2001:db8::1")];
        let line = "host to command: tcp 8080 to 80, tcp 127.0.0.1:8080 to 80, tcp [2001:db8::1]:8080 to 80";
        assert_eq!(list_published(&ports).as_deref(), Some(line));
        assert_eq!(list_published(&[]), None);
    }

    #[test]
    fn only_protocols_that_can_be_published_are_read() {
        let read = |protocol: &str| {
            let json = format!("{{\"protocol\":\"{protocol}\",\"host_port\":53,\"port\":5353}}");
            serde_json::from_str::<PublishedPort>(&json).map(|port| port.protocol).map_err(|error| error.to_string())
        };
        assert_eq!(read("udp"), Ok(Protocol::UDP));
        assert!(read("sctp").unwrap_err().contains("`sctp` is neither tcp nor udp"));
    }
}
