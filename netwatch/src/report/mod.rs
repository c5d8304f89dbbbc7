//! The report of a run or a replay: plain data for every output format.

mod address;
mod attempt_names;
mod attempts;
mod by_process;
mod endpoint_places;
mod failures;
mod folded;
mod host_service;
mod icmp_errors;
mod losses;
mod model;
mod naming;
mod notes;
mod program;
mod published;
mod series;
mod service;
mod unfinished;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub use crate::flow::TimeHistogram;
pub use address::AddressRole;
pub use attempt_names::AttemptNames;
pub use by_process::{AttributionCounts, FlowSum, FoldedTraffic, ProcessTraffic};
pub use endpoint_places::EndpointPlaces;
pub use failures::Failure;
pub use folded::FoldedFacts;
pub use host_service::HostService;
pub use losses::loss_reasons;
pub use model::{
    ApplicationProtocol, DisplayName, DnsForwarder, EndedBy, EndedEarly, ExitStatus, FlowNaming, Interface, Replay,
    ReportEndpoint, ReportFlow, ResourceUsage, Run, TlsFacts,
};
pub use naming::{FlowShare, Naming, name_of_address, naming_of, registered_service};
pub use notes::{counted, were};
pub use published::{PublishedPort, list_published};
pub use series::{EndpointSeries, Interval, MAX_INTERVALS, Series};
pub use service::{InboundService, PeakRates, ServiceActivity, service_activity};
pub use unfinished::UnfinishedRun;

use crate::flow::{
    Balance, Counters, Endpoint, Flow, FlowTable, FoldedCounts, InterfaceCounters, ObservationLosses, ObservationPoint,
    Payload, PayloadGap, PerDirection, Protocol, Remainders, Traffic,
};
use crate::name::Names;
use crate::process::{Attempt, FlowUsers, ProcessId, ProcessNumber, Processes};

/// Input of a report beside the flow table, the names and the users of flows.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The command, its user and its exit.
    pub run: Run,
    /// The link of the target to the host.
    pub interface: Interface,
    /// The DNS forwarder.
    pub dns: DnsForwarder,
    /// Counters of the host end of the veth pair; `None` if it vanished before they could be read.
    pub interface_counters: Option<InterfaceCounters>,
    /// The run has ended, the host end is down and everything is drained. Otherwise the report is
    /// interim and its balance live.
    pub complete: bool,
    /// Lost observations.
    pub lost: ObservationLosses,
    /// Processes and their local sockets.
    pub processes: Processes,
    /// Attempts that failed without a packet.
    pub attempts: Vec<Attempt>,
    /// Sentences for people, without a full stop: no uplink, a chain that drops packets, processes
    /// that were killed.
    pub notes: Vec<String>,
    /// The replayed capture; then the run, the interface and the forwarder are empty.
    pub replay: Option<Replay>,
}

/// Traffic on the loopback of the namespace, each packet counted once. Not part of the totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loopback {
    /// All packets on `lo`; egress is what the local ends of the flows sent.
    pub totals: PerDirection<Counters>,
    /// Its flows, by their first packet.
    pub flows: Vec<ReportFlow>,
}

/// All results of a run or a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The command, its user and its exit.
    pub run: Run,
    /// The link of the target to the host.
    pub interface: Interface,
    /// The DNS forwarder.
    pub dns: DnsForwarder,
    /// False for interim figures.
    pub complete: bool,
    /// Traffic of the target on the link: flows and remainders without link housekeeping.
    pub totals: PerDirection<Counters>,
    /// Counted packets compared with the interface.
    pub balance: Balance,
    /// Packets in no flow, by kind.
    pub remainders: Remainders,
    /// Lost observations.
    pub lost: ObservationLosses,
    /// Totals of folded flows.
    pub folded: FoldedCounts,
    /// Endpoints, largest first.
    pub endpoints: Vec<ReportEndpoint>,
    /// Flows of the link, by their first packet.
    pub flows: Vec<ReportFlow>,
    /// Traffic on the loopback of the namespace.
    pub loopback: Loopback,
    /// DNS lookups, and the traffic without a name.
    pub naming: Naming,
    /// Processes and their local sockets.
    pub processes: Processes,
    /// Failed attempts, by their first time.
    pub attempts: Vec<Attempt>,
    /// The run over time.
    pub series: Series,
    /// What the endpoints do not contain of the services of the target, by protocol and local port.
    pub activity: BTreeMap<(Protocol, u16), ServiceActivity>,
    /// Sentences for people, hints included.
    pub notes: Vec<String>,
    /// The replayed capture; then the run, the interface, the forwarder and the loopback are empty.
    pub replay: Option<Replay>,
    /// Per process and endpoint, the traffic of folded flows.
    pub folded_traffic: Vec<FoldedTraffic>,
    /// Numbers of folded flows on the link, by the evidence for their process.
    pub folded_attribution: AttributionCounts,
}

/// The flows of a report, joined with their names and processes.
#[derive(Debug)]
pub struct ReportFlows<'a> {
    /// Flows of the link, by their first packet.
    pub link: Vec<ReportFlow>,
    /// Flows of the loopback, likewise.
    pub loopback: Vec<ReportFlow>,
    /// Names and processes of flows that were folded into their endpoints.
    pub folded: &'a FoldedFacts,
    /// The place of each process in the list of the report, by its number.
    pub ids: &'a BTreeMap<ProcessNumber, ProcessId>,
}

impl Report {
    /// The payload of TCP and UDP on the link.
    pub fn payload(&self) -> Payload {
        let has_payload = |protocol| [Protocol::TCP, Protocol::UDP].contains(&protocol);
        let mut sum = Payload::default();
        let endpoints = self.endpoints.iter().map(|known| &known.endpoint);
        endpoints.filter(|endpoint| has_payload(endpoint.key.protocol)).for_each(|endpoint| sum += endpoint.payload);
        let in_no_flow =
            |traffic: &Traffic| matches!(traffic, Traffic::Overflow(number) if has_payload(Protocol(*number)));
        if self.remainders.details().any(|(traffic, _)| in_no_flow(traffic)) {
            sum += Payload::unknown(PayloadGap::TableFull);
        }
        sum
    }

    /// The report of a run in which nothing happened.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        let facts = Facts {
            run: Run::default(),
            interface: Interface::default(),
            dns: DnsForwarder { resolvers: Vec::new() },
            interface_counters: None,
            complete: true,
            lost: ObservationLosses::default(),
            processes: Processes::default(),
            attempts: Vec::new(),
            notes: Vec::new(),
            replay: None,
        };
        let names = Names::new(crate::name::NameLimits::default(), crate::name::Hosts::default());
        Self::new(facts, &FlowTable::default(), &names, &FlowUsers::default())
    }

    /// Joins flows, names and processes, and adds the hints that the result suggests.
    pub fn new(facts: Facts, table: &FlowTable, names: &Names, users: &FlowUsers) -> Self {
        let flows = ReportFlows {
            link: naming::flows(table.flows(ObservationPoint::Link), names, users),
            loopback: naming::flows(table.flows(ObservationPoint::Loopback), names, users),
            folded: &FoldedFacts::default(),
            ids: &BTreeMap::new(),
        };
        Self::of_flows(facts, table, flows, names)
    }

    /// Builds a report from flows that are already joined with their names and processes, and adds
    /// the hints that the result suggests.
    pub fn of_flows(facts: Facts, table: &FlowTable, flows: ReportFlows<'_>, names: &Names) -> Self {
        let ReportFlows { link: mut flows, loopback: mut on_loopback, folded, ids } = flows;
        // A flow that TCP closed has ended, also while the meter has an entry for it.
        for known in flows.iter_mut().chain(&mut on_loopback) {
            known.flow.ended = known.flow.end_reason();
        }
        let Facts { run, interface, dns, interface_counters, complete, lost, processes, attempts, mut notes, replay } =
            facts;
        let loopback = Loopback { totals: table.totals(ObservationPoint::Loopback), flows: on_loopback };
        if replay.is_none() {
            notes.extend(notes::of_flows(&run, &interface, &flows, &loopback.flows));
        }
        notes.extend(notes::abstract_sockets(&processes, run.exit));
        notes.extend(notes::folded_facts(folded.lost));
        let lookups = match complete {
            true => names.lookups().to_vec(),
            false => names.settled_lookups(run.started_ns.saturating_add(run.duration_ns)),
        };
        let mut endpoints = naming::endpoints(
            table.endpoints(ObservationPoint::Link),
            &flows,
            names,
            naming::Folded { facts: folded, ids },
        );
        let errors = icmp_errors::of_endpoints(&endpoints, &flows, replay.is_some());
        endpoints.iter_mut().filter(|known| errors.contains(&known.endpoint.key)).for_each(|known| {
            known.endpoint.connections = 0;
        });
        Self {
            complete,
            totals: table.totals(ObservationPoint::Link),
            balance: match &replay {
                Some(replay) => Balance::of_file(table, replay.frames, replay.left_out),
                None if interface.is_of_cgroups() => Balance::not_applicable(table),
                None => Balance::new(table, interface_counters, !complete),
            },
            remainders: table.remainders(ObservationPoint::Link).clone(),
            lost,
            folded: table.folded(),
            endpoints,
            attempts: attempts::all(
                attempts.into_iter(),
                folded.attempts(ids),
                &flows,
                &loopback.flows,
                &attempts::Queries {
                    lookups: &lookups,
                    flows: names.query_flows(),
                    are_all_flows_listed: table.folded().flows == 0,
                    processes: &processes,
                },
            ),
            naming: naming::result(&flows, names, lookups, &interface.gateway, folded),
            folded_traffic: folded.traffic(ids),
            folded_attribution: folded.attribution,
            flows,
            loopback,
            processes,
            series: Series::default(),
            activity: service_activity(names),
            notes,
            replay,
            run,
            interface,
            dns,
        }
    }

    /// Whether a connection was open before netwatch attached: no handshake of it was observed.
    pub fn has_started_before(&self, flow: &Flow) -> bool {
        self.run.is_attached() && flow.is_without_handshake()
    }

    /// Addresses of remotes without a name, those with most bytes first; group addresses and the
    /// gateway are left out.
    pub fn unnamed_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        naming::unnamed_addresses(&self.endpoints, &self.interface.gateway)
    }

    /// The resolvers behind the endpoint of the DNS forwarder on the gateway; empty for every other
    /// endpoint.
    pub fn forwarded_to(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        if self.interface.is_dns_forwarder(&endpoint.key) { &self.dns.resolvers } else { &[] }
    }
}
