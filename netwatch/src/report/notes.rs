//! Sentences of a report for people: hints that the counts suggest, and gaps, the reasons why a
//! report may be incomplete.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{AddressRole, ExitStatus, Interface, Report, ReportFlow, Run};
use crate::flow::{Direction, Flow, RemainderKind, Remote, TransportAddress};
use crate::process::{LocalSocket, Processes};

/// Items listed in a hint; further ones are counted.
const MAX_LISTED: usize = 3;
/// Ports in the flag that a hint suggests.
const MAX_PORTS: usize = 32;

/// The hints that the flows of a run, or of a session that attached, suggest.
pub(super) fn of_flows(run: &Run, interface: &Interface, link: &[ReportFlow], loopback: &[ReportFlow]) -> Vec<String> {
    match run.is_attached() {
        true => started_before(link.iter().chain(loopback)).into_iter().collect(),
        false => localhost(loopback).into_iter().chain(groups(link, interface)).collect(),
    }
}

/// The note about connections that were open before netwatch attached.
fn started_before<'f>(flows: impl Iterator<Item = &'f ReportFlow>) -> Option<String> {
    match flows.filter(|known| known.flow.is_without_handshake()).count() {
        0 => None,
        1 => Some("1 connection started before netwatch attached: what it sent before is not counted".to_owned()),
        n => Some(format!("{n} connections started before netwatch attached: what they sent before is not counted")),
    }
}

/// The hint for a command whose own localhost refused a connection: most likely it wanted a service
/// of the host.
fn localhost(loopback: &[ReportFlow]) -> Option<String> {
    let failed = loopback.iter().map(|known| &known.flow).filter(|flow| {
        let failed = flow.failed();
        failed.refused + failed.unreachable > 0
    });
    let servers: BTreeSet<TransportAddress> = failed.map(server_end).filter(|end| end.addr.is_loopback()).collect();
    servers.first()?;
    let listed = list(servers.iter().map(|end| SocketAddr::from((end.addr, end.port)).to_string()));
    let ports: BTreeSet<u16> = servers.iter().map(|end| end.port).collect();
    let ports: Vec<String> = ports.iter().take(MAX_PORTS).map(u16::to_string).collect();
    Some(format!(
        "{listed} refused the connection: this is the localhost of the namespace; with --host-loopback={} it leads to \
         that of the host",
        ports.join(",")
    ))
}

/// The note about packets to groups, which without netwatch would reach the local network.
fn groups(flows: &[ReportFlow], interface: &Interface) -> Option<String> {
    let sent = flows.iter().map(|known| &known.flow).filter(|flow| flow.counters.egress.packets > 0);
    // To policies the broadcast address of the link is one of the run itself.
    let is_broadcast = |address: IpAddr| interface.broadcast.is_some_and(|broadcast| address == broadcast);
    let is_group = |address| interface.role_of(address) == AddressRole::Group || is_broadcast(address);
    let to_group = sent.filter(|flow| is_group(flow.key.remote.addr));
    let groups: BTreeSet<TransportAddress> = to_group.map(|flow| flow.key.remote).collect();
    groups.first()?;
    let listed = list(groups.iter().map(|end| SocketAddr::from((end.addr, end.port)).to_string()));
    Some(format!("packets to {listed} did not leave this machine: multicast and broadcast are not forwarded"))
}

/// The hint for a failed command that connected to abstract socket names which do not exist:
/// abstract names belong to a network namespace, so those of X11 and D-Bus are only on the host. A
/// command that succeeded gets no hint, because the listener may merely have exited before the
/// check.
pub(super) fn abstract_sockets(processes: &Processes, exit: Option<ExitStatus>) -> Option<String> {
    if matches!(exit, None | Some(ExitStatus::Code(0))) {
        return None;
    }
    let never_existed = |peer: &&LocalSocket| peer.connections > 0 && peer.missing >= peer.connections;
    let failed = processes.local_sockets.iter().filter(|peer| peer.path.starts_with('@')).filter(never_existed);
    let mut missing = failed.filter(|peer| !is_reached_by_path(processes, peer)).peekable();
    missing.peek()?;
    let listed = list(missing.map(|peer| peer.path.clone()));
    Some(format!(
        "the namespace has no socket named {listed}: abstract Unix sockets (X11, D-Bus) exist only in the network \
         namespace of the host, which may be why the command failed; sockets with a path are reachable"
    ))
}

/// A number of things: `1 packet`, `2 packets`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// `1 packet was`, `2 packets were`.
pub fn were(number: u64, one: &str) -> String {
    format!("{} {}", counted(number, one), if number == 1 { "was" } else { "were" })
}

/// The note about facts of folded flows that exceeded the limits.
pub(super) fn folded_facts(lost: u64) -> Option<String> {
    (lost > 0)
        .then(|| format!("names, processes, failed attempts and addresses of folded flows beyond the limits: {lost}"))
}

/// The first items, and how many more there are.
fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    let rest = items.len().saturating_sub(MAX_LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    items[..items.len() - rest].join(", ") + &more
}

/// Whether a path of the same name was reached: X11 clients try the abstract name first, then the
/// path.
fn is_reached_by_path(processes: &Processes, peer: &LocalSocket) -> bool {
    let path = &peer.path[1..];
    path.starts_with('/')
        && processes.local_sockets.iter().any(|other| other.path == path && other.failed < other.connections)
}

/// The end that did not open the flow.
fn server_end(flow: &Flow) -> TransportAddress {
    match flow.opened_by {
        Direction::Egress => flow.key.remote,
        Direction::Ingress => flow.key.local,
    }
}

impl Report {
    /// Reasons why there may have been more than the report lists, a sentence without a full stop
    /// each; empty if the report is complete.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let mut gap = |applies: bool, text: String| {
            if applies {
                gaps.push(text)
            }
        };
        gap(!self.complete, "the run had not ended, figures are interim".to_owned());
        let packets = |kind| self.remainders.of(kind).both().packets;
        let (overflow, malformed) = (packets(RemainderKind::Overflow), packets(RemainderKind::Malformed));
        gap(
            overflow > 0,
            format!("the flow table was full for {}, their remotes are unknown", counted(overflow, "packet")),
        );
        gap(malformed > 0, format!("{} malformed", were(malformed, "packet")));
        let missing = if self.has_unnamed() { "names" } else { "lookups" };
        gap(self.lost.samples > 0, format!("{} lost, {missing} may be missing", were(self.lost.samples, "sample")));
        let lost = &self.processes.lost;
        let events = lost.events + lost.unknown;
        gap(events > 0, format!("{} lost", were(events, "process event")));
        gap(lost.sockets > 0, format!("{} could not be tracked", counted(lost.sockets, "socket")));
        gap(lost.beyond > 0, format!("processes, sockets and attempts beyond the limits: {}", lost.beyond));
        let (at_least, folded) = (if self.folded.at_least { "at least " } else { "" }, self.folded.flows);
        gap(folded > 0, format!("{at_least}{} folded, only their endpoints are known", were(folded, "flow")));
        let names = self.lost_names();
        gap(names > 0, format!("name parsing lost data {}, names may be missing", counted(names, "time")));
        if let Some(early) = self.replay.as_ref().and_then(|replay| replay.ended_early.as_ref()) {
            gap(true, format!("the capture was read up to byte {} only ({})", early.offset, early.cause));
        }
        let missing = self.replay.as_ref().map_or(0, |replay| replay.missing);
        let packets = if missing == 1 { "packet" } else { "packets" };
        gap(missing > 0, format!("{missing} {packets} missing in the capture, as it states: in no count"));
        for others in self.others() {
            gap(true, format!("the endpoint table was full, some remotes of {others} are added up"));
        }
        gaps
    }

    /// Number of lost observations about names. 0 if no name is missing: the tables of names under
    /// way were full, but every remote has its name all the same.
    pub fn lost_names(&self) -> u64 {
        if self.has_unnamed() { self.naming.lost.sum() } else { 0 }
    }

    fn has_unnamed(&self) -> bool {
        self.naming.unnamed.flows > 0 || self.folded.flows > 0
    }

    /// Local sockets that matter. Every program that uses glibc tries the socket of nscd, which
    /// hardly any machine has; and an attempt that always failed moved nothing.
    pub fn used_local_sockets(&self) -> impl Iterator<Item = &LocalSocket> {
        const NSCD: [&str; 2] = ["/var/run/nscd/socket", "/run/nscd/socket"];
        let is_used = |socket: &&LocalSocket| {
            !NSCD.contains(&socket.path.as_str()) && socket.failed.max(socket.missing) < socket.connections
        };
        self.processes.local_sockets.iter().filter(is_used)
    }

    /// Protocol and direction (`udp out`) of endpoints that hold several remotes.
    fn others(&self) -> BTreeSet<String> {
        let keys = self.endpoints.iter().map(|known| &known.endpoint.key);
        let others = keys.filter(|key| key.remote == Remote::Others);
        others.map(|key| format!("{} {}", key.protocol, key.direction.of_flow())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Counters, FlowKey, ObservationPoint, Payload, PerDirection};

    fn peer(path: &str, connections: u64, missing: u64) -> LocalSocket {
        LocalSocket { path: path.to_owned(), connections, failed: missing, missing, processes: Vec::new() }
    }

    fn hint(unix: Vec<LocalSocket>) -> Option<String> {
        abstract_sockets(&Processes { local_sockets: unix, ..Processes::default() }, Some(ExitStatus::Code(1)))
    }

    #[test]
    fn the_broadcast_address_of_the_link_is_a_group() {
        let interface = Interface {
            local: vec![[10, 87, 0, 2].into()],
            gateway: vec![[10, 87, 0, 1].into()],
            broadcast: Some([10, 87, 0, 255].into()),
            ..Interface::default()
        };
        let sent_to = |address: [u8; 4]| {
            let end = |addr: [u8; 4]| TransportAddress { addr: addr.into(), port: 9 };
            let (local, remote) = (end([10, 87, 0, 2]), end(address));
            let key = FlowKey { point: ObservationPoint::Link, protocol: 17, fragment: false, local, remote };
            let egress = Counters { packets: 1, ..Counters::default() };
            let flow = Flow {
                key,
                epoch: 0,
                serial: 0,
                counters: PerDirection { egress, ingress: Counters::default() },
                payload: Payload::default(),
                first_seen_ns: 1,
                last_seen_ns: 1,
                opened_by: Direction::Egress,
                connections: 0,
                tcp: None,
                icmp_error: None,
                ended: None,
            };
            groups(&[ReportFlow { flow, naming: None, users: Vec::new() }], &interface)
        };
        for group in [[10, 87, 0, 255], [255; 4], [224, 0, 0, 251]] {
            assert!(sent_to(group).is_some_and(|note| note.contains("did not leave this machine")), "{group:?}");
        }
        assert_eq!((sent_to([10, 87, 0, 3]), sent_to([198, 51, 100, 255])), (None, None));
    }

    #[test]
    fn a_missing_abstract_name_gets_a_hint() {
        let hint = hint(vec![peer("@/tmp/dbus-x", 1, 1), peer("@own", 3, 0), peer("/run/gone.sock", 1, 1)]);
        assert!(hint.is_some_and(|hint| hint.contains(" no socket named @/tmp/dbus-x: ")));
    }

    #[test]
    fn a_successful_command_or_a_name_that_once_existed_gets_no_hint() {
        let processes = Processes { local_sockets: vec![peer("@gone", 1, 1)], ..Processes::default() };
        assert!(abstract_sockets(&processes, Some(ExitStatus::Signal(6))).is_some());
        assert_eq!(abstract_sockets(&processes, Some(ExitStatus::Code(0))), None);
        assert_eq!(abstract_sockets(&processes, None), None);
        assert_eq!(hint(vec![peer("@there", 2, 1)]), None);
    }

    #[test]
    fn a_reachable_path_of_the_same_name_needs_no_hint() {
        let name = || peer("@/tmp/.X11-unix/X0", 1, 1);
        assert_eq!(hint(vec![name(), peer("/tmp/.X11-unix/X0", 1, 0)]), None);
        assert!(hint(vec![name(), peer("/tmp/.X11-unix/X0", 1, 1)]).is_some());
        assert_eq!(hint(vec![]), None);
    }
}
