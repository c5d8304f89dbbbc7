//! ICMP errors: they look like flows of their own and belong to connections of other protocols.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Report, ReportEndpoint, ReportFlow};
use crate::flow::{Direction, Endpoint, EndpointKey, Protocol};
use crate::process::Evidence;

impl Report {
    /// The endpoints that have only ICMP errors: no program pings there, no remote gets an answer.
    pub fn icmp_errors(&self) -> HashSet<EndpointKey> {
        of_endpoints(&self.endpoints, &self.flows, self.replay.is_some())
    }

    /// Number of connections, without ICMP errors.
    pub fn connection_count(&self) -> u64 {
        let errors = self.icmp_errors();
        let own = self.endpoints.iter().map(|known| &known.endpoint).filter(|one| !errors.contains(&one.key));
        own.map(|endpoint| endpoint.connections).sum()
    }

    /// Number of endpoints, without those that have only ICMP errors.
    pub fn endpoint_count(&self) -> u64 {
        let errors = self.icmp_errors();
        self.endpoints.iter().filter(|known| !errors.contains(&known.endpoint.key)).count() as u64
    }
}

/// Errors are never answered. Those of remotes quote packets of flows, unless they come from a host
/// of these. Those of the kernel have no socket, and go to remotes with other traffic; where no
/// packet has a socket, as in a replay, they are like a ping without an answer, and count as one.
pub(super) fn of_endpoints(
    endpoints: &[ReportEndpoint],
    flows: &[ReportFlow],
    is_replay: bool,
) -> HashSet<EndpointKey> {
    let all = || endpoints.iter().map(|known| &known.endpoint);
    let mut errors: HashSet<EndpointKey> = all().filter(|one| is_candidate(one)).map(|one| one.key).collect();
    if errors.is_empty() {
        return errors;
    }
    let others = all().filter(|one| !one.key.protocol.is_icmp());
    let contacted: HashSet<IpAddr> = others.filter_map(|one| one.key.remote.address()).collect();
    let has_sockets = !is_replay && flows.iter().any(is_proven);
    let has_quoted = flows.iter().any(|known| known.flow.icmp_error.is_some());
    errors.retain(|key| {
        let is_contacted = key.remote.address().is_some_and(|address| contacted.contains(&address));
        match key.direction {
            Direction::Ingress => is_contacted || has_quoted,
            Direction::Egress => is_contacted && has_sockets,
        }
    });
    for known in flows.iter().filter(|known| Protocol(known.flow.key.protocol).is_icmp()) {
        if is_proven(known) && known.flow.opened_by == Direction::Egress {
            errors.remove(&EndpointKey::of(&known.flow.key, known.flow.opened_by));
        }
    }
    errors
}

fn is_candidate(endpoint: &Endpoint) -> bool {
    let answers = match endpoint.key.direction {
        Direction::Ingress => endpoint.counters.egress,
        Direction::Egress => endpoint.counters.ingress,
    };
    endpoint.key.protocol.is_icmp() && answers.packets == 0
}

/// Whether a process is known by a socket.
fn is_proven(known: &ReportFlow) -> bool {
    known.users.iter().any(|user| user.evidence != Evidence::Netns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{
        Counters, FailedAttempts, Flow, FlowKey, IcmpError, ObservationPoint, Payload, PerDirection, Remote,
        TransportAddress,
    };
    use crate::process::{FlowUser, ProcessId};

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

    /// A flow of UDP to a host that no endpoint has, of a process that is known by its socket.
    fn flow(icmp_error: Option<IcmpError>) -> ReportFlow {
        let end = |last: u8| TransportAddress { addr: [198, 51, 100, last].into(), port: 53 };
        let (point, protocol, fragment) = (ObservationPoint::Link, Protocol::UDP.0, false);
        let flow = Flow {
            key: FlowKey { point, protocol, fragment, local: end(1), remote: end(2) },
            counters: PerDirection::default(),
            payload: Payload::default(),
            first_seen_ns: 1,
            last_seen_ns: 1,
            opened_by: Direction::Egress,
            connections: 1,
            tcp: None,
            icmp_error,
            epoch: 0,
            serial: 0,
            ended: None,
        };
        let users = vec![FlowUser { process: ProcessId(0), evidence: Evidence::Socket, is_maker: true }];
        ReportFlow { flow, naming: None, users }
    }

    fn endpoints() -> Vec<ReportEndpoint> {
        use Direction::{Egress, Ingress};
        vec![
            endpoint(Protocol::UDP, 1, Egress, 1, 1),
            endpoint(Protocol::ICMP, 1, Egress, 1, 0),
            endpoint(Protocol::ICMP, 2, Ingress, 0, 1),
            endpoint(Protocol::ICMP, 3, Ingress, 1, 1),
            endpoint(Protocol::ICMP, 4, Egress, 1, 0),
            endpoint(Protocol::UDP, 5, Egress, 1, 1),
            endpoint(Protocol::ICMP, 5, Egress, 1, 1),
        ]
    }

    fn places(flows: &[ReportFlow], is_replay: bool) -> Vec<usize> {
        let endpoints = endpoints();
        let errors = of_endpoints(&endpoints, flows, is_replay);
        (0..endpoints.len()).filter(|at| errors.contains(&endpoints[*at].endpoint.key)).collect()
    }

    #[test]
    fn errors_of_remotes_and_of_the_kernel_are_no_endpoints() {
        let error = flow(Some(IcmpError { kind: 3, code: 3 }));
        assert_eq!(places(&[error], false), [1, 2], "not pings that were answered, or to other hosts");
        let (endpoints, flows) = (endpoints(), vec![flow(Some(IcmpError { kind: 3, code: 3 }))]);
        let report = Report { endpoints, flows, ..Report::empty() };
        assert_eq!((report.endpoint_count(), report.connection_count()), (5, 5));
    }

    #[test]
    fn a_ping_of_a_remote_without_an_answer_is_no_error() {
        assert_eq!(places(&[flow(None)], false), [1]);
    }

    #[test]
    fn a_ping_may_be_without_a_socket() {
        assert_eq!(places(&[flow(None)], true), [0; 0]);
        assert_eq!(places(&[], false), [0; 0]);
    }
}
