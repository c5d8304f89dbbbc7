//! Chooses the services of the host's loopback that the namespace gets. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::flow::Protocol;
use crate::host::listeners::HostListener;
use crate::report::HostService;

/// The chosen services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceChoice {
    /// In the order of their protocol and address.
    pub services: Vec<HostService>,
    /// Number of services beyond the limit.
    pub left_out: usize,
}

/// The input of the choice.
#[derive(Debug, Clone)]
pub struct ChoiceInput<'a> {
    /// The ports from the command line; `None` for all that the host serves.
    pub ports: Option<&'a [u16]>,
    /// The sockets of the host.
    pub listeners: &'a [HostListener],
    /// Ports that the host's kernel assigns to clients.
    pub client_ports: RangeInclusive<u16>,
    /// Ports of the host that lead to the command.
    pub published: &'a [u16],
    /// Maximum number of services.
    pub limit: usize,
}

/// Chooses the services. A listed port that the host does not serve yet is chosen for every
/// protocol and address.
pub fn choose(input: &ChoiceInput<'_>) -> ServiceChoice {
    let found = input.listeners.iter().filter(|listener| match input.ports {
        Some(ports) => ports.contains(&listener.bound.port()),
        None => is_service(listener, input),
    });
    let mut services: BTreeSet<HostService> = found.flat_map(services_of).collect();
    for port in input.ports.unwrap_or_default() {
        if !services.iter().any(|service| service.address.port() == *port) {
            services.extend(every_service_at(*port));
        }
    }
    let left_out = services.len().saturating_sub(input.limit);
    ServiceChoice { services: services.into_iter().take(input.limit).collect(), left_out }
}

/// Whether a socket is a service, and neither a port that leads to the command nor the socket of a
/// UDP client. Such a socket is bound to every address and to a port of the range for clients.
fn is_service(listener: &HostListener, input: &ChoiceInput<'_>) -> bool {
    let port = listener.bound.port();
    let is_client = Protocol(listener.protocol) == Protocol::UDP
        && listener.bound.ip().to_canonical().is_unspecified()
        && input.client_ports.contains(&port);
    !is_client && !input.published.contains(&port)
}

fn services_of(listener: &HostListener) -> impl Iterator<Item = HostService> + use<> {
    let protocol = Protocol(listener.protocol);
    listener.loopback_addresses().into_iter().map(move |address| HostService { protocol, address })
}

fn every_service_at(port: u16) -> impl Iterator<Item = HostService> {
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    [Protocol::TCP, Protocol::UDP].into_iter().flat_map(move |protocol| {
        addresses.map(|address| HostService { protocol, address: SocketAddr::new(address, port) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(protocol: Protocol, bound: &str) -> HostListener {
        HostListener { protocol: protocol.0, bound: bound.parse().unwrap(), v6_only: false }
    }

    fn chosen(ports: Option<&[u16]>, limit: usize) -> (Vec<String>, usize) {
        let listeners = [
            listener(Protocol::TCP, "127.0.0.1:5432"),
            listener(Protocol::TCP, "[::]:22"),
            listener(Protocol::TCP, "0.0.0.0:8080"),
            listener(Protocol::UDP, "127.0.0.53:53"),
            listener(Protocol::UDP, "0.0.0.0:40000"),
            listener(Protocol::UDP, "127.0.0.1:40001"),
        ];
        let input =
            ChoiceInput { ports, listeners: &listeners, client_ports: 32768..=60999, published: &[8080], limit };
        let choice = choose(&input);
        (choice.services.iter().map(ToString::to_string).collect(), choice.left_out)
    }

    #[test]
    fn without_a_list_everything_that_the_host_serves() {
        let all =
            ["tcp 127.0.0.1:22", "tcp 127.0.0.1:5432", "tcp [::1]:22", "udp 127.0.0.1:40001", "udp 127.0.0.53:53"];
        let (services, left_out) = chosen(None, 10);
        assert_eq!((services, left_out), (all.map(str::to_owned).to_vec(), 0));
        let (services, left_out) = chosen(None, 2);
        assert_eq!((services, left_out), (all[..2].iter().map(|one| (*one).to_owned()).collect(), 3));
    }

    #[test]
    fn a_listed_port_has_what_the_host_serves_there() {
        assert_eq!(chosen(Some(&[5432]), 10).0, ["tcp 127.0.0.1:5432"]);
        let every = ["tcp 127.0.0.1:7", "tcp [::1]:7", "udp 127.0.0.1:7", "udp [::1]:7"];
        assert_eq!(chosen(Some(&[7]), 10).0, every, "not served yet");
    }
}
