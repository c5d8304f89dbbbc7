//! The services of the host's loopback that `--host-loopback` brings into the namespace.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Interface;
use crate::flow::{Flow, ObservationPoint, Protocol};

/// A service on the loopback of the host, which the namespace has at the same address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostService {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// A loopback address and the port.
    pub address: SocketAddr,
}

impl HostService {
    fn is_end_of(&self, flow: &Flow) -> bool {
        let ends = [flow.key.local, flow.key.remote].map(|end| SocketAddr::new(end.addr, end.port));
        self.protocol.0 == flow.key.protocol && ends.contains(&self.address)
    }
}

impl Interface {
    /// The service of the host's loopback that a flow leads to.
    pub fn host_service_of(&self, flow: &Flow) -> Option<HostService> {
        let services = || self.host_loopback.iter().find(|service| service.is_end_of(flow)).copied();
        (flow.key.point == ObservationPoint::Loopback).then(services).flatten()
    }
}

/// `tcp 127.0.0.1:5432`.
impl fmt::Display for HostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.address)
    }
}

impl FromStr for HostService {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = "expected a protocol and an address, as in `tcp 127.0.0.1:5432`";
        let (protocol, address) = text.split_once(' ').ok_or(invalid)?;
        let protocol = [Protocol::TCP, Protocol::UDP].into_iter().find(|known| known.name() == Some(protocol));
        Ok(Self { protocol: protocol.ok_or(invalid)?, address: address.parse().map_err(|_| invalid)? })
    }
}

impl Serialize for HostService {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostService {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_can_be_read_back() {
        for text in ["tcp 127.0.0.1:5432", "udp [::1]:53"] {
            assert_eq!(text.parse::<HostService>().unwrap().to_string(), text);
        }
        for wrong in ["", "tcp", "icmp 127.0.0.1:1", "tcp localhost:1", "tcp 127.0.0.1"] {
            assert!(wrong.parse::<HostService>().is_err(), "{wrong}");
        }
    }
}
