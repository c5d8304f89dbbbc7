//! Services of the target: what remotes connected to, by local port, instead of by client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{ApplicationProtocol, Report, ReportEndpoint};
use crate::flow::{Counters, Direction, EndpointKey, FailedAttempts, Payload, PerDirection, Protocol, Remote};
use crate::name::{Names, ServiceExchanges};
use crate::process::ProcessId;

/// Number of clients that a service lists.
const TOP_CLIENTS: usize = 10;

/// What the sums of the clients of a service do not contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceActivity {
    /// Requests and their responses.
    pub exchanges: ServiceExchanges,
    /// The highest rates; `None` of a run of less than a second.
    pub peak: Option<PeakRates>,
}

/// The highest rates of a service in any second, each by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeakRates {
    /// Connections that began, per second.
    pub connections: u64,
    /// Bytes on the wire in both directions, per second.
    pub wire_bytes: u64,
}

/// A service of the target, with the sums of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundService {
    /// The protocol.
    pub protocol: Protocol,
    /// The local port; 0 of clients that found the endpoint table full.
    pub port: u16,
    /// Number of distinct addresses that sent to it.
    pub clients: u64,
    /// There were more clients: the table of endpoints was full.
    pub at_least: bool,
    /// TCP: handshakes that began, failed ones included. Other protocols: flows.
    pub connections: u64,
    /// Counts by direction.
    pub counters: PerDirection<Counters>,
    /// What the service sent and received.
    pub payload: Payload,
    /// Failed attempts of clients.
    pub failed: FailedAttempts,
    /// Median handshake time over its flows, nanoseconds, without folded flows.
    pub handshake_rtt_ns: Option<u64>,
    /// The application protocol of the client with most bytes.
    pub application: Option<ApplicationProtocol>,
    /// Programs that served it, in the order of [`crate::process::Processes::list`].
    pub processes: Vec<ProcessId>,
    /// The clients with most bytes, and their bytes on the wire.
    pub top_clients: Vec<(IpAddr, u64)>,
    /// Response times and peaks.
    pub activity: ServiceActivity,
    /// The ports of the host that lead to it, in ascending order.
    pub published: Vec<u16>,
}

impl InboundService {
    /// The mean of a number per second of the run; `None` of a run that took no time.
    pub fn per_second(report: &Report, number: u64) -> Option<f64> {
        let duration_ns = report.replay.as_ref().map_or(report.run.duration_ns, |replay| replay.duration_ns);
        (duration_ns > 0).then(|| number as f64 * 1e9 / duration_ns as f64)
    }

    /// Bytes of requests that were not sampled, or whose exchanges do not take turns; `None` if it
    /// is unknown how many the service received.
    pub fn unsampled_request_bytes(&self) -> Option<u64> {
        let received = self.payload.bytes()?.ingress;
        Some(received.saturating_sub(self.activity.exchanges.request_bytes))
    }
}

impl Report {
    /// The services that remotes connected to, that with most bytes first.
    pub fn services(&self) -> Vec<InboundService> {
        let mut groups: BTreeMap<(Protocol, u16), Vec<&ReportEndpoint>> = BTreeMap::new();
        for known in &self.endpoints {
            let key = &known.endpoint.key;
            if key.is_service() {
                groups.entry((key.protocol, key.port)).or_default().push(known);
            }
        }
        groups.retain(|_, clients| !clients.iter().all(|known| known.endpoint.is_remnant()));
        let mut handshakes = self.inbound_handshakes();
        let mut services: Vec<InboundService> = groups
            .into_iter()
            .map(|(key, clients)| InboundService {
                activity: self.activity.get(&key).cloned().unwrap_or_default(),
                published: self.interface.published_as(key),
                ..service(key, &clients, handshakes.remove(&key).unwrap_or_default())
            })
            .collect();
        // The sort is stable: services of equal size stay sorted by protocol and port.
        services.sort_by_key(|service| std::cmp::Reverse(service.counters.both().wire_bytes));
        services
    }

    /// The ports that have a service.
    pub fn served_ports(&self) -> BTreeSet<(Protocol, u16)> {
        let endpoints = self.endpoints.iter().map(|known| &known.endpoint);
        let of_services = endpoints.filter(|endpoint| endpoint.key.is_service() && !endpoint.is_remnant());
        of_services.map(|endpoint| (endpoint.key.protocol, endpoint.key.port)).collect()
    }

    fn inbound_handshakes(&self) -> BTreeMap<(Protocol, u16), Vec<u64>> {
        let mut times: BTreeMap<(Protocol, u16), Vec<u64>> = BTreeMap::new();
        for flow in self.flows.iter().map(|known| &known.flow).filter(|flow| flow.opened_by == Direction::Ingress) {
            let EndpointKey { protocol, port, .. } = EndpointKey::of(&flow.key, flow.opened_by);
            times.entry((protocol, port)).or_default().extend(flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns));
        }
        times
    }
}

/// The exchanges of each service so far, without peaks.
pub fn service_activity(names: &Names) -> BTreeMap<(Protocol, u16), ServiceActivity> {
    let of_port = |(port, exchanges): (&u16, &ServiceExchanges)| {
        ((Protocol::TCP, *port), ServiceActivity { exchanges: exchanges.clone(), peak: None })
    };
    names.exchanges().iter().map(of_port).collect()
}

/// Adds up the clients, which are sorted by size.
fn service((protocol, port): (Protocol, u16), clients: &[&ReportEndpoint], mut handshakes: Vec<u64>) -> InboundService {
    let mut failed = FailedAttempts::default();
    clients.iter().for_each(|known| failed += known.endpoint.failed);
    let endpoints = || clients.iter().map(|known| &known.endpoint);
    let mut payload = Payload::default();
    endpoints().for_each(|endpoint| payload += endpoint.payload);
    let address = |known: &&&ReportEndpoint| match known.endpoint.key.remote {
        Remote::Address(address) => Some((address, known.endpoint.counters.both().wire_bytes)),
        Remote::Others => None,
    };
    let processes: BTreeSet<ProcessId> = clients.iter().flat_map(|known| known.processes.iter().copied()).collect();
    let middle = handshakes.len().checked_sub(1).map(|last| last / 2);
    InboundService {
        protocol,
        port,
        clients: clients.iter().filter_map(|known| address(&known)).count() as u64,
        at_least: endpoints().any(|endpoint| endpoint.key.remote == Remote::Others),
        connections: endpoints().map(|endpoint| endpoint.connections).sum(),
        counters: endpoints().map(|endpoint| endpoint.counters).sum(),
        payload,
        failed,
        handshake_rtt_ns: middle.map(|middle| *handshakes.select_nth_unstable(middle).1),
        application: clients.iter().find_map(|known| known.application.clone()),
        processes: processes.into_iter().collect(),
        top_clients: clients.iter().filter_map(|known| address(&known)).take(TOP_CLIENTS).collect(),
        activity: ServiceActivity::default(),
        published: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;

    fn client(port: u16, last: u8, connections: u64) -> ReportEndpoint {
        let key = EndpointKey {
            remote: Remote::Address([192, 0, 2, last].into()),
            protocol: Protocol::TCP,
            port,
            direction: Direction::Ingress,
            fragment: false,
        };
        let endpoint = Endpoint {
            key,
            flows: 1,
            connections,
            counters: PerDirection::default(),
            payload: Payload::default(),
            handshake_rtt_ns: None,
            failed: FailedAttempts::default(),
        };
        ReportEndpoint { endpoint, display_name: None, names: Vec::new(), application: None, processes: Vec::new() }
    }

    /// The handshake of a connection may have found the table full.
    #[test]
    fn an_ephemeral_port_is_a_service_only_if_a_handshake_was_counted() {
        let endpoints = vec![client(42_870, 1, 0), client(50_000, 1, 0), client(50_000, 2, 1), client(8_080, 1, 0)];
        let report = Report { endpoints, ..Report::empty() };
        let services: Vec<(u16, u64)> = report.services().iter().map(|one| (one.port, one.clients)).collect();
        assert_eq!(services, [(8_080, 1), (50_000, 2)]);
        let ports: Vec<u16> = report.served_ports().into_iter().map(|(_, port)| port).collect();
        assert_eq!(ports, [8_080, 50_000]);
    }

    #[test]
    fn no_rule_allows_an_ephemeral_port_without_a_handshake() {
        let learned = |endpoints| {
            let report = Report { endpoints, ..Report::empty() };
            crate::allow::learn(&[&report], &Default::default(), crate::allow::PolicyDate::new(2026, 1, 1)).len()
        };
        assert_eq!((learned(vec![client(42_870, 1, 0)]), learned(vec![client(42_870, 1, 1)])), (0, 1));
    }
}
