//! Plain data of a report: the run and its surroundings, and flows and endpoints with their names,
//! protocols and processes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::host_service::HostService;
use super::published::PublishedPort;
use crate::flow::{Amount, Endpoint, Flow};
use crate::name::{Hidden, NameSource, SourcedName};
use crate::process::{FlowUser, ProcessId};
use crate::wire::Name;

/// The name by which a remote is displayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName {
    /// The name.
    pub name: Name,
    /// Its evidence.
    pub source: NameSource,
}

/// An application protocol and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationProtocol {
    /// As in [`crate::wire::Application::name`]; the IANA service name where the port is the only
    /// evidence.
    pub name: Cow<'static, str>,
    /// The message that identifies the protocol (`client_hello`, `request` and so on), or
    /// [`ApplicationProtocol::PORT`].
    pub evidence: Cow<'static, str>,
}

impl ApplicationProtocol {
    /// Evidence: only the port number, which is a guess.
    pub const PORT: &'static str = "port";

    /// Whether the content of packets identifies the protocol.
    pub fn is_proven(&self) -> bool {
        self.evidence != Self::PORT
    }
}

/// Facts from the ClientHello of TLS, DTLS or QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The newest version offered, such as `TLS 1.3`.
    pub offered_version: String,
    /// Application protocols offered (ALPN).
    pub alpn: Vec<String>,
    /// The JA4 fingerprint of the client; `None` if only a part of the ClientHello was seen.
    pub ja4: Option<String>,
    /// A post-quantum key share was offered.
    pub post_quantum: bool,
}

/// Names and protocol of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowNaming {
    /// The name of the remote, by the best evidence.
    pub display_name: Option<DisplayName>,
    /// Names in the packets of the flow itself.
    pub names: Vec<SourcedName>,
    /// The protocol that the content identifies.
    pub application: Option<ApplicationProtocol>,
    /// Reasons that hide names.
    pub hidden: Vec<Hidden>,
    /// From the ClientHello.
    pub tls: Option<TlsFacts>,
}

/// A flow with its names, protocol and processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFlow {
    /// Key, counters and times.
    pub flow: Flow,
    /// Names and protocol; `None` without any. Boxed because most of many flows have none.
    pub naming: Option<Box<FlowNaming>>,
    /// Processes that used the flow, the best evidence first.
    pub users: Vec<FlowUser>,
}

impl ReportFlow {
    /// The name of the remote, by the best evidence.
    pub fn display_name(&self) -> Option<&DisplayName> {
        self.naming.as_ref()?.display_name.as_ref()
    }
}

/// An endpoint with its names, protocol and processes. Flows that the target opened and that have
/// another display name are another endpoint, with the same key: several hosts may share an
/// address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEndpoint {
    /// Key and counters.
    pub endpoint: Endpoint,
    /// The display name of its flows.
    pub display_name: Option<DisplayName>,
    /// All names of its address and its flows, in the order in which they were first seen.
    pub names: Vec<SourcedName>,
    /// The protocol of the flows that carried most bytes, or the one registered for the port.
    pub application: Option<ApplicationProtocol>,
    /// Processes of its flows, in the order of [`crate::process::Processes::list`].
    pub processes: Vec<ProcessId>,
}

impl ReportEndpoint {
    /// Adds another endpoint with the same key.
    pub fn add(&mut self, other: &Self) {
        self.endpoint.add(&other.endpoint);
        let new = other.names.iter().filter(|name| !self.names.contains(name));
        self.names.extend(new.cloned().collect::<Vec<_>>());
        self.processes.extend(&other.processes);
        self.processes.sort_unstable();
        self.processes.dedup();
    }

    /// Names other than the display name, without repetitions.
    pub fn other_names(&self) -> impl Iterator<Item = &Name> {
        let mut seen: Vec<&Name> = self.display_name.iter().map(|display| &display.name).collect();
        self.names.iter().map(SourcedName::shown).filter(move |name| {
            let is_new = !seen.contains(name);
            seen.push(name);
            is_new
        })
    }
}

/// The command, its user and its exit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Run {
    /// The id of the run, as in the name of its interface.
    pub id: String,
    /// Program and arguments; bytes that are not UTF-8 are replaced by U+FFFD. Of a session that
    /// attached, those of netwatch.
    pub command: Vec<String>,
    /// Name of the user of the command, or the uid in decimal.
    pub user: String,
    /// Process id of the command; `None` if it was never started.
    pub pid: Option<u32>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// From the start of the command to its exit (or to now), nanoseconds.
    pub duration_ns: u64,
    /// How the command exited; `None` while it runs.
    pub exit: Option<ExitStatus>,
    /// What ended the command; `None` while it runs, or if netwatch ended first. `Some` exactly if
    /// `exit` is.
    pub ended_by: Option<EndedBy>,
    /// Kernel release as in uname(2); empty if unknown.
    pub kernel: String,
    /// Version of netwatch that metered the run; empty if unknown.
    pub netwatch: String,
    /// What the command and its descendants used; `None` if unknown.
    pub usage: Option<ResourceUsage>,
}

impl Run {
    /// Whether netwatch attached to what ran already: there was no command, so the command line is
    /// that of netwatch.
    pub fn is_attached(&self) -> bool {
        self.pid.is_none() && self.command.get(1).is_some_and(|word| word == "attach")
    }
}

/// CPU and memory of the processes of a run, as their cgroup counts them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ResourceUsage {
    /// Time in user mode, nanoseconds.
    pub user_ns: u64,
    /// Time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// Peak of memory, bytes, page cache included; `None` where the memory controller is off.
    pub memory_peak: Option<u64>,
}

/// How the command exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this exit code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// What ended the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The command itself, or what netwatch attached to.
    Command,
    /// `--duration` expired.
    Duration,
    /// This signal, which netwatch forwarded or the terminal sent.
    Signal(i32),
}

/// The link of the target to the host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the host end of the veth pair; of cgroups, see [`Interface::of_cgroups`].
    pub name: String,
    /// Size of the largest IP packet, bytes.
    pub mtu: u32,
    /// Addresses of the target.
    pub local: Vec<IpAddr>,
    /// Addresses of the host on the link: the default routes of the target.
    pub gateway: Vec<IpAddr>,
    /// The broadcast address of its IPv4 subnet, while the run lasts: recordings and documents do
    /// not contain it.
    pub broadcast: Option<Ipv4Addr>,
    /// Services of the host's loopback that the namespace's loopback leads to (`--host-loopback`).
    pub host_loopback: Vec<HostService>,
    /// Ports of the host that lead to ports of the target (`--publish`).
    pub published: Vec<PublishedPort>,
}

/// What the name begins with in place of that of an interface, which cannot contain a colon.
const CGROUP: &str = "cgroup:";

impl Interface {
    /// In place of an interface: the cgroups whose sockets are metered, by their paths.
    pub fn of_cgroups(paths: &str) -> Self {
        Self { name: format!("{CGROUP}{paths}"), ..Self::default() }
    }

    /// Whether it stands for the sockets of cgroups.
    pub fn is_of_cgroups(&self) -> bool {
        self.name.starts_with(CGROUP)
    }
}

/// The forwarder that answers DNS queries sent to the gateway.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DnsForwarder {
    /// The resolvers of the host that it queries, in this order; empty without any.
    pub resolvers: Vec<SocketAddr>,
}

impl DnsForwarder {
    /// The host of what the command asked over it, in every output: its address, the gateway,
    /// exists in the run only.
    pub const NAME: &'static str = "DNS";
}

/// A replayed capture, in place of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replay {
    /// File name of the capture.
    pub file: String,
    /// `pcap` or `pcapng`.
    pub format: &'static str,
    /// Names of the link types of its frames.
    pub link_types: Vec<String>,
    /// The classifier in the kernel counted; otherwise the same code in user space.
    pub by_kernel: bool,
    /// Addresses and networks of the target; if empty, the end that opened a flow counts as local.
    pub local: Vec<String>,
    /// Time of the earliest frame, nanoseconds since the Unix epoch; 0 without frames.
    pub started_ns: u64,
    /// From the earliest to the latest frame, nanoseconds.
    pub duration_ns: u64,
    /// Frames read, and their bytes.
    pub frames: Amount,
    /// Frames among them that the capture holds only in part.
    pub cut_frames: u64,
    /// Frames among them that the kernel engine cannot take.
    pub left_out: Amount,
    /// Packets that the program that wrote the capture lost, as the file states. They are in no
    /// count.
    pub missing: u64,
    /// Set if reading stopped before the end of the file.
    pub ended_early: Option<EndedEarly>,
}

/// Where reading of a capture stopped before the end of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedEarly {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// The reason.
    pub cause: String,
}
