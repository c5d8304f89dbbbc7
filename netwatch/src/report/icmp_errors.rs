//! ICMP errors: they look like flows of their own and belong to connections of other protocols.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Report, ReportEndpoint, ReportFlow};
use crate::flow::{Direction, Endpoint, EndpointKey, Protocol};
use crate::process::Evidence;

impl Report {
    /// The endpoints that have only ICMP errors: no program pings there, no remote gets an answer.
    pub fn icmp_errors(&self) -> HashSet<EndpointKey> {
        of_endpoints(&self.endpoints, &self.flows)
    }

    /// Number of endpoints, without those that have only ICMP errors.
    pub fn endpoint_count(&self) -> u64 {
        let errors = self.icmp_errors();
        self.endpoints.iter().filter(|known| !errors.contains(&known.endpoint.key)).count() as u64
    }
}

/// Errors of remotes are never answered. Those of the kernel have no socket, and go to remotes with
/// other traffic.
pub(super) fn of_endpoints(endpoints: &[ReportEndpoint], flows: &[ReportFlow]) -> HashSet<EndpointKey> {
    let all = || endpoints.iter().map(|known| &known.endpoint);
    let mut errors: HashSet<EndpointKey> = all().filter(|one| is_candidate(one)).map(|one| one.key).collect();
    if errors.is_empty() {
        return errors;
    }
    let others = all().filter(|one| !one.key.protocol.is_icmp());
    let contacted: HashSet<IpAddr> = others.filter_map(|one| one.key.remote.address()).collect();
    errors.retain(|key| {
        let is_contacted = key.remote.address().is_some_and(|address| contacted.contains(&address));
        key.direction == Direction::Ingress || is_contacted
    });
    for known in flows.iter().filter(|known| Protocol(known.flow.key.protocol).is_icmp()) {
        let is_proven = known.users.iter().any(|user| user.evidence != Evidence::Netns);
        if is_proven && known.flow.opened_by == Direction::Egress {
            errors.remove(&EndpointKey::of(&known.flow.key, known.flow.opened_by));
        }
    }
    errors
}

fn is_candidate(endpoint: &Endpoint) -> bool {
    let is_unanswered = endpoint.counters.egress.packets == 0;
    endpoint.key.protocol.is_icmp() && (endpoint.key.direction == Direction::Egress || is_unanswered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Counters, FailedAttempts, Payload, PerDirection, Remote};

    fn endpoint(protocol: Protocol, last: u8, direction: Direction, sent: u64, received: u64) -> ReportEndpoint {
        let remote = Remote::Address([192, 0, 2, last].into());
        let packets = |packets| Counters { packets, ..Counters::default() };
        let endpoint = Endpoint {
            key: EndpointKey { remote, protocol, port: 0, direction, fragment: false },
            flows: 1,
            connections: 1,
            counters: PerDirection { egress: packets(sent), ingress: packets(received) },
            payload: Payload::default(),
            handshake_rtt_ns: None,
            failed: FailedAttempts::default(),
        };
        ReportEndpoint { endpoint, display_name: None, names: Vec::new(), application: None, processes: Vec::new() }
    }

    #[test]
    fn errors_of_remotes_and_of_the_kernel_are_no_endpoints() {
        use Direction::{Egress, Ingress};
        let endpoints = vec![
            endpoint(Protocol::UDP, 1, Egress, 1, 1),
            endpoint(Protocol::ICMP, 1, Egress, 1, 0),
            endpoint(Protocol::ICMP, 2, Ingress, 0, 1),
            endpoint(Protocol::ICMP, 3, Ingress, 1, 1),
            endpoint(Protocol::ICMP, 4, Egress, 1, 0),
        ];
        let errors = of_endpoints(&endpoints, &[]);
        let is_error: Vec<bool> = endpoints.iter().map(|known| errors.contains(&known.endpoint.key)).collect();
        assert_eq!(is_error, [false, true, true, false, false], "a ping that was answered, and one that was not");
        let report = Report { endpoints, ..Report::empty() };
        assert_eq!(report.endpoint_count(), 3);
    }
}
