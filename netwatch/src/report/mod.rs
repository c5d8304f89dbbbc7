//! The report of a run or a replay: plain data for every output format.

mod address;
mod attempts;
mod by_process;
mod model;
mod naming;
mod notes;
mod series;
mod unfinished;

use std::net::{IpAddr, SocketAddr};

pub use address::AddressRole;
pub use by_process::{AttributionCounts, FlowSum, ProcessTraffic};
pub use model::{
    ApplicationProtocol, DisplayName, DnsForwarder, EndedBy, EndedEarly, ExitStatus, FlowNaming, Interface, Replay,
    ReportEndpoint, ReportFlow, Run, TlsFacts,
};
pub use naming::{FlowShare, Naming};
pub use series::{Interval, Series};
pub use unfinished::UnfinishedRun;

use crate::flow::{
    Balance, Counters, Direction, Endpoint, FlowTable, Folded, InterfaceCounters, Lost, ObservationPoint, PerDirection,
    Remainders, Remote,
};
use crate::name::Names;
use crate::process::{Attempt, Processes, Users};

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
    pub lost: Lost,
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
    pub lost: Lost,
    /// Totals of folded flows.
    pub folded: Folded,
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
    /// Sentences for people, hints included.
    pub notes: Vec<String>,
    /// The replayed capture; then the run, the interface, the forwarder and the loopback are empty.
    pub replay: Option<Replay>,
}

impl Report {
    /// Joins flows, names and processes, and adds the hints that the result suggests.
    pub fn new(facts: Facts, table: &FlowTable, names: &Names, users: &Users) -> Self {
        let Facts { run, interface, dns, interface_counters, complete, lost, processes, attempts, mut notes, replay } =
            facts;
        let loopback = Loopback {
            totals: table.totals(ObservationPoint::Loopback),
            flows: naming::flows(table.flows(ObservationPoint::Loopback), names, users),
        };
        let flows = naming::flows(table.flows(ObservationPoint::Link), names, users);
        notes.extend(notes::localhost(&loopback.flows, &interface));
        notes.extend(notes::abstract_sockets(&processes, run.exit));
        Self {
            complete,
            totals: table.totals(ObservationPoint::Link),
            balance: match &replay {
                Some(replay) => Balance::of_file(table, replay.frames, replay.left_out),
                None => Balance::new(table, interface_counters, !complete),
            },
            remainders: table.remainders(ObservationPoint::Link).clone(),
            lost,
            folded: table.folded(),
            endpoints: naming::endpoints(table.endpoints(ObservationPoint::Link), &flows, names),
            attempts: attempts::all(attempts, &flows, &loopback.flows, names.lookups()),
            naming: naming::result(&flows, names, &interface.gateway),
            flows,
            loopback,
            processes,
            notes,
            replay,
            run,
            interface,
            dns,
        }
    }

    /// Addresses of remotes without a name, those with most bytes first; group addresses and the
    /// gateway are left out.
    pub fn unnamed_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        naming::unnamed_addresses(&self.endpoints, &self.interface.gateway)
    }

    /// The resolvers behind the endpoint of the DNS forwarder on the gateway; empty for every other
    /// endpoint.
    pub fn forwarded_to(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        let key = &endpoint.key;
        let Remote::Address(address) = key.remote else { return &[] };
        let is_dns = key.port == 53 && key.direction == Direction::Egress && key.protocol.has_ports();
        if is_dns && self.interface.gateway.contains(&address) { &self.dns.resolvers } else { &[] }
    }
}
