//! The report: everything that is said about a run, as plain data for every sink.

mod attempts;
mod by_process;
mod gaps;
mod hints;
mod known;
mod naming;
mod parts;
mod port;
mod rfc3339;
mod run;
mod series;

use std::net::{IpAddr, SocketAddr};

pub use by_process::{Attributed, OfProcess, Part};
pub use known::{FlowNaming, KnownEndpoint, KnownFlow, Shown, Spoken, Tls};
pub use naming::{Naming, Share};
pub use parts::Parts;
pub use rfc3339::rfc3339;
pub use run::{Dns, EndedBy, EndedEarly, Exit, Interface, Replay, Run};
pub use series::{Series, Step};

use crate::flow::{
    Balance, Counters, Direction, Endpoint, FlowTable, Folded, InterfaceCounters, Lost, ObservationPoint, PerDirection,
    Remainders, Remote,
};
use crate::name::Names;
use crate::process::{Attempt, Processes, Users};

/// What the caller knows beside the table.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The run.
    pub run: Run,
    /// The interface.
    pub interface: Interface,
    /// The forwarder.
    pub dns: Dns,
    /// Counters of the veth's host end; `None` when it vanished before they could be read.
    pub interface_counters: Option<InterfaceCounters>,
    /// The run is over, the host's end was taken down, everything was drained. Otherwise the report is interim and its balance live.
    pub complete: bool,
    /// Observations that were missed.
    pub lost: Lost,
    /// Who it was.
    pub processes: Processes,
    /// Attempts that failed before they were a packet.
    pub attempts: Vec<Attempt>,
    /// Plain sentences, without a full stop: no uplink, a chain that drops, processes that were ended, what draining the sockets gave.
    pub notes: Vec<String>,
    /// A capture was replayed: then there is no run, no interface and no forwarder.
    pub replay: Option<Replay>,
}

/// Traffic on the namespace's own `lo`, each packet once. Not part of the totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loopback {
    /// Everything on `lo`; egress is what the flows' local ends sent.
    pub totals: PerDirection<Counters>,
    /// Its flows in the order in which they began.
    pub flows: Vec<KnownFlow>,
}

/// Everything there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The run.
    pub run: Run,
    /// The interface.
    pub interface: Interface,
    /// The forwarder.
    pub dns: Dns,
    /// False for interim figures.
    pub complete: bool,
    /// What the target sent and received on the link: flows and remainders without link housekeeping.
    pub totals: PerDirection<Counters>,
    /// The reconciliation.
    pub balance: Balance,
    /// What belongs to no flow.
    pub remainders: Remainders,
    /// Observations that were missed.
    pub lost: Lost,
    /// Detail that the flow table had no room for.
    pub folded: Folded,
    /// Largest first.
    pub endpoints: Vec<KnownEndpoint>,
    /// In the order in which they began.
    pub flows: Vec<KnownFlow>,
    /// The namespace's own `lo`.
    pub loopback: Loopback,
    /// Names as a result: questions, and what has no name.
    pub naming: Naming,
    /// Who it was.
    pub processes: Processes,
    /// Attempts that came to nothing, in the order of their first time.
    pub attempts: Vec<Attempt>,
    /// Plain sentences for people, hints included.
    pub notes: Vec<String>,
    /// A capture was replayed: then there is no run, no interface, no forwarder and no loopback.
    pub replay: Option<Replay>,
}

impl Report {
    /// Puts together what the caller knows, what the table counted, what names were heard and who it was, and adds the hints that follow.
    pub fn new(facts: Facts, table: &FlowTable, names: &Names, users: &Users) -> Self {
        let Facts { run, interface, dns, interface_counters, complete, lost, processes, attempts, mut notes, replay } =
            facts;
        let loopback = Loopback {
            totals: table.totals(ObservationPoint::Loopback),
            flows: naming::flows(table.flows(ObservationPoint::Loopback), names, users),
        };
        let flows = naming::flows(table.flows(ObservationPoint::Link), names, users);
        notes.extend(hints::localhost(&loopback.flows, &interface));
        notes.extend(hints::abstract_sockets(&processes, run.exit));
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

    /// Addresses of remotes without a name, those that carried most first. Not groups and the gateway, which have none.
    pub fn unnamed_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        naming::unnamed_addresses(&self.endpoints, &self.interface.gateway)
    }

    /// The resolvers behind an endpoint that is the gateway's DNS forwarder; empty for every other endpoint.
    pub fn forwarded_to(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        let key = &endpoint.key;
        let Remote::Address(address) = key.remote else { return &[] };
        let is_dns = key.port == 53 && key.direction == Direction::Egress && key.protocol.has_ports();
        if is_dns && self.interface.gateway.contains(&address) { &self.dns.resolvers } else { &[] }
    }
}
