//! The report: everything that is said about a run, as plain data for every sink.

use std::net::{IpAddr, SocketAddr};

use super::{
    Amount, Balance, Counters, Direction, Endpoint, Flow, Folded, InterfaceCounters, Lost, PerDirection, Remainders,
    Remote, Scope, Table, hints,
};

/// What was run, as whom, and how it ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Run {
    /// The run's id, as in the interface's name.
    pub id: String,
    /// Program and arguments; what is not UTF-8 is replaced.
    pub command: Vec<String>,
    /// Name of the user it ran as, or the uid in decimal.
    pub user: String,
    /// The command's process; `None` when it was never started.
    pub pid: Option<u32>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// From the start of the command to its end (or to now), nanoseconds.
    pub duration_ns: u64,
    /// How the command ended; `None` while it runs.
    pub exit: Option<Exit>,
    /// Who ended it.
    pub ended_by: EndedBy,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Who ended the command.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Nobody yet, or itself.
    #[default]
    Command,
    /// `--duration` ran out.
    Duration,
    /// netwatch received this signal.
    Signal(i32),
}

/// The interface of the namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the host's end of the veth.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The target's addresses.
    pub local: Vec<IpAddr>,
    /// The host's addresses on the link: the target's default routes.
    pub gateway: Vec<IpAddr>,
    /// `--host-loopback` was given.
    pub host_loopback: bool,
}

/// Who answers the queries that are sent to the gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The host's resolvers behind the gateway, in the order in which they are asked; empty when there is none.
    pub resolvers: Vec<SocketAddr>,
}

/// What was replayed, where nothing was run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The capture's name.
    pub file: String,
    /// `pcap` or `pcapng`.
    pub format: &'static str,
    /// Names of the link types that its frames have.
    pub link_types: Vec<String>,
    /// Whether the classifier in the kernel counted, or the same code without one.
    pub by_kernel: bool,
    /// Addresses and networks of the target; when empty, the end that opened a flow is taken as local.
    pub local: Vec<String>,
    /// Time of the earliest frame, nanoseconds since the Unix epoch; 0 without frames.
    pub started_ns: u64,
    /// From there to the latest frame, nanoseconds.
    pub duration_ns: u64,
    /// What was read.
    pub frames: Amount,
    /// Frames among them of which the capture kept only the beginning.
    pub cut_frames: u64,
    /// Frames among them that could not be handed to a kernel.
    pub left_out: Amount,
    /// The file was not read to its end.
    pub ended_early: Option<EndedEarly>,
}

/// Where reading a capture ended before the file did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedEarly {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Why it was not read on.
    pub cause: String,
}

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
    pub flows: Vec<Flow>,
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
    pub endpoints: Vec<Endpoint>,
    /// In the order in which they began.
    pub flows: Vec<Flow>,
    /// The namespace's own `lo`.
    pub loopback: Loopback,
    /// Plain sentences for people, hints included.
    pub notes: Vec<String>,
    /// A capture was replayed: then there is no run, no interface, no forwarder and no loopback.
    pub replay: Option<Replay>,
}

impl Report {
    /// Puts together what the caller knows and what the table counted, and adds the hints that follow from both.
    pub fn new(facts: Facts, table: &Table) -> Self {
        let Facts { run, interface, dns, interface_counters, complete, lost, mut notes, replay } = facts;
        let loopback = Loopback { totals: table.totals(Scope::Loopback), flows: table.flows(Scope::Loopback) };
        notes.extend(hints::localhost(&loopback.flows, &interface));
        Self {
            run,
            interface,
            dns,
            complete,
            totals: table.totals(Scope::Link),
            balance: match &replay {
                Some(replay) => Balance::of_file(table, replay.frames, replay.left_out),
                None => Balance::new(table, interface_counters, !complete),
            },
            remainders: table.remainders(Scope::Link).clone(),
            lost,
            folded: table.folded(),
            endpoints: table.endpoints(Scope::Link),
            flows: table.flows(Scope::Link),
            loopback,
            notes,
            replay,
        }
    }

    /// The resolvers behind an endpoint that is the gateway's DNS forwarder; empty for every other endpoint.
    pub fn forwarded_to(&self, endpoint: &Endpoint) -> &[SocketAddr] {
        let key = &endpoint.key;
        let Remote::Address(address) = key.remote else { return &[] };
        let is_dns = key.port == 53 && key.direction == Direction::Egress && key.protocol.has_ports();
        if is_dns && self.interface.gateway.contains(&address) { &self.dns.resolvers } else { &[] }
    }
}
