//! Sockets: the processes that created and use them, the ports that they are bound to, and their
//! flows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

use super::ReportedFlows;
use super::failures::AttemptTimes;
use super::limits::Capacity;
use crate::flow::{FlowKey, ObservationPoint, Protocol, TransportAddress};
use crate::process::{ClosedSocket, ProcessNumber, SocketOperation, SocketUse};

/// Processes stored for one socket, and sockets stored for one flow.
const MAX_USERS: usize = 16;

/// A socket and what is known about it.
#[derive(Debug, Default)]
pub(super) struct KnownSocket {
    pub maker: Option<ProcessNumber>,
    /// In order of first appearance.
    pub users: Vec<ProcessNumber>,
    pub protocol: Option<Protocol>,
    /// Connections that were attempted.
    pub connects: Option<Connects>,
    /// At least one of its packets was captured.
    has_packets: bool,
    /// It is in a network namespace that the target created: its packets are not captured.
    pub elsewhere: bool,
    /// Why its last connection failed.
    errno: Option<i32>,
    /// When it was first bound; if that was not reported, when it was created.
    bound_ns: Option<u64>,
    closed: Option<SocketClose>,
}

/// The close of a socket.
#[derive(Debug, Clone, Copy)]
struct SocketClose {
    time_ns: u64,
    /// [`Sockets::tidied`] at that time.
    tidied: u64,
    /// Its local and its remote end.
    ends: Option<(TransportAddress, TransportAddress)>,
}

/// The time from the first to the last packet of a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSpan {
    pub first_ns: u64,
    pub last_ns: u64,
}

/// The time of a packet may lag by one kernel tick, which is at most 10 ms; this is twice as long.
const TICK_NS: u64 = 20_000_000;

/// Connections that were attempted with one socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connects {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u64,
    pub address: SocketAddr,
    pub process: ProcessNumber,
}

impl Connects {
    pub(super) fn times(&self) -> AttemptTimes {
        AttemptTimes { first_ns: self.first_ns, last_ns: self.last_ns, count: self.count }
    }
}

impl KnownSocket {
    /// Whether it was bound and not yet closed during this time.
    pub(super) fn is_of(&self, span: TimeSpan) -> bool {
        let was_closed = self.closed.is_some_and(|closed| closed.time_ns.saturating_add(TICK_NS) < span.first_ns);
        !was_closed && self.bound_ns.is_none_or(|bound_ns| bound_ns <= span.last_ns.saturating_add(TICK_NS))
    }

    /// All processes that created, used or connected it.
    fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        let connecting = self.connects.map(|connects| connects.process);
        self.users.iter().copied().chain(self.maker).chain(connecting)
    }

    /// Adds a user. Returns false if there is no room for it.
    fn used_by(&mut self, process: ProcessNumber) -> bool {
        let is_known = self.users.contains(&process);
        if !is_known && self.users.len() < MAX_USERS {
            self.users.push(process);
            return true;
        }
        is_known
    }

    /// The connection attempts of a TCP socket without packets, with the errno of the last one, if
    /// known.
    pub(super) fn connects_without_a_packet(&self) -> Option<(Connects, Option<i32>)> {
        let is_tcp = self.protocol == Some(Protocol::TCP);
        self.connects.filter(|_| is_tcp && !self.has_packets).map(|connects| (connects, self.errno))
    }
}

/// All sockets of a session.
#[derive(Debug)]
pub(super) struct Sockets {
    /// The capacities for sockets and for flows. What exceeds them is counted.
    capacities: [Capacity; 2],
    /// Number of calls of [`Self::is_nearly_full`].
    tidied: u64,
    known: HashMap<u64, KnownSocket>,
    of_flows: HashMap<FlowKey, Vec<u64>>,
    bound: HashMap<(u8, u16), BTreeSet<u64>>,
    /// Closed sockets by protocol, local and remote end.
    closed: HashMap<(u8, TransportAddress, TransportAddress), Vec<u64>>,
    /// Protocols and ports that removed sockets were bound to.
    forgotten: HashSet<(u8, u16)>,
    /// Cookie of the session's network namespace, if known.
    pub netns: Option<u64>,
    pub beyond: u64,
}

impl Sockets {
    pub(super) fn new(max: usize, max_flows: usize) -> Self {
        Self {
            capacities: [max, max_flows].map(Capacity::new),
            tidied: 0,
            known: HashMap::new(),
            of_flows: HashMap::new(),
            bound: HashMap::new(),
            closed: HashMap::new(),
            forgotten: HashSet::new(),
            netns: None,
            beyond: 0,
        }
    }

    pub(super) fn apply(
        &mut self,
        process: ProcessNumber,
        time_ns: u64,
        operation: SocketOperation,
        socket: &SocketUse,
    ) {
        let elsewhere = self.is_another(socket.netns);
        let Some(known) = self.known_mut(socket.cookie) else { return };
        known.protocol = socket.protocol.or(known.protocol);
        known.elsewhere |= elsewhere;
        if known.elsewhere {
            return;
        }
        if matches!(operation, SocketOperation::Created | SocketOperation::Bound) {
            known.bound_ns.get_or_insert(time_ns);
        }
        let exceeds_limit = operation != SocketOperation::Created && !known.used_by(process);
        match operation {
            SocketOperation::Created => {
                known.maker = Some(process);
                // Raw and ICMP sockets receive everything of their protocol.
                if let Some(protocol) = known.protocol.filter(|protocol| !protocol.has_ports()) {
                    self.bound.entry((protocol.0, 0)).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Used | SocketOperation::SendFailed(_) => {}
            SocketOperation::Bound => {
                if let (Some(protocol), Some(address)) = (known.protocol, socket.address) {
                    self.bound.entry((protocol.0, address.port())).or_default().insert(socket.cookie);
                }
            }
            SocketOperation::Connect => {
                if let Some(address) = socket.address {
                    let (first_ns, count) =
                        known.connects.map_or((time_ns, 0), |connects| (connects.first_ns, connects.count));
                    known.connects = Some(Connects { first_ns, last_ns: time_ns, count: count + 1, address, process });
                    known.errno = None;
                }
            }
        }
        self.beyond += u64::from(exceeds_limit);
    }

    pub(super) fn note_flow(&mut self, flow: FlowKey, cookie: u64) {
        if let Some(known) = self.known_mut(cookie) {
            known.has_packets = true;
        }
        if self.capacities[1].is_full(self.of_flows.len()) && !self.of_flows.contains_key(&flow) {
            self.beyond += 1;
            return;
        }
        let cookies = self.of_flows.entry(flow).or_default();
        if cookies.contains(&cookie) {
            return;
        }
        if cookies.len() >= MAX_USERS {
            join_alike(cookies, &self.known);
        }
        if cookies.len() < MAX_USERS {
            cookies.push(cookie);
        } else {
            self.beyond += 1;
        }
    }

    /// Notes that a socket was closed. Sockets without a known user are not stored.
    pub(super) fn closed(&mut self, time_ns: u64, closed: &ClosedSocket) {
        let elsewhere = self.is_another(closed.netns);
        if let Some(known) = self.known.get_mut(&closed.cookie) {
            known.elsewhere |= elsewhere;
            known.protocol = closed.protocol.or(known.protocol);
            let here = |end: &TransportAddress| !known.elsewhere && end.port != 0;
            let (local, remote) = (closed.local.filter(here), closed.remote.filter(here));
            let ends = local.zip(remote);
            known.closed = Some(SocketClose { time_ns, tidied: self.tidied, ends });
            if let (Some(protocol), Some((local, remote))) = (known.protocol, ends) {
                let cookies = self.closed.entry((protocol.0, local, remote)).or_default();
                if !cookies.contains(&closed.cookie) {
                    cookies.push(closed.cookie);
                }
            }
            // The kernel assigns a port to a socket that sends without one, and reports no event
            // for that.
            if let (Some(protocol), Some(local), None) = (known.protocol, local, remote) {
                self.bound.entry((protocol.0, local.port)).or_default().insert(closed.cookie);
            }
        }
    }

    /// Notes the errno of a connection that failed. Returns true if the socket is known: its
    /// connection becomes a failed attempt unless packets report it, whose samples may arrive later
    /// than this event.
    pub(super) fn explain(&mut self, cookie: u64, errno: i32) -> bool {
        let known = self.known.get_mut(&cookie).filter(|known| known.protocol == Some(Protocol::TCP));
        known.map(|known| known.errno = Some(errno)).is_some()
    }

    fn known_mut(&mut self, cookie: u64) -> Option<&mut KnownSocket> {
        if self.capacities[0].is_full(self.known.len()) && !self.known.contains_key(&cookie) {
            self.beyond += 1;
            return None;
        }
        Some(self.known.entry(cookie).or_default())
    }

    /// Whether the cookie of a namespace (0 if not known) differs from the session's.
    fn is_another(&self, netns: u64) -> bool {
        netns != 0 && self.netns.is_some_and(|ours| ours != netns)
    }

    /// Whether the socket is known to be in a network namespace that the target created.
    pub(super) fn is_elsewhere(&self, cookie: u64) -> bool {
        self.known.get(&cookie).is_some_and(|known| known.elsewhere)
    }

    /// All sockets.
    pub(super) fn all(&self) -> impl Iterator<Item = &KnownSocket> {
        self.known.values()
    }

    /// The sockets that the packets of a flow came from or went to, those of the side that opened
    /// it first.
    pub(super) fn of_flow(&self, flow: &FlowKey) -> Vec<&KnownSocket> {
        let FlowKey { local, remote, .. } = *flow;
        let turned = FlowKey { local: remote, remote: local, ..*flow };
        // On the loopback the record does not contain which end opened it.
        let keys = [Some(flow), (flow.point == ObservationPoint::Loopback).then_some(&turned)];
        let cookies = keys.into_iter().flatten().filter_map(|key| self.of_flows.get(key)).flatten();
        let mut distinct: Vec<u64> = Vec::new();
        cookies.for_each(|cookie| {
            if !distinct.contains(cookie) {
                distinct.push(*cookie);
            }
        });
        distinct.iter().filter_map(|cookie| self.known.get(cookie)).collect()
    }

    /// The sockets that were bound to the port of one end of a flow during its time; for protocols
    /// without ports, those of the protocol.
    pub(super) fn bound_to(&self, protocol: u8, end: TransportAddress, span: TimeSpan) -> Vec<&KnownSocket> {
        let cookies = self.bound.get(&(protocol, end.port)).into_iter().flatten();
        cookies.filter_map(|cookie| self.known.get(cookie)).filter(|known| known.is_of(span)).collect()
    }

    /// Whether a flow with this end may belong to a socket that was removed.
    pub(super) fn may_be_forgotten(&self, protocol: u8, end: TransportAddress) -> bool {
        self.forgotten.contains(&(protocol, end.port))
    }

    /// The closed sockets that had these ends during the time of the flow.
    pub(super) fn closed_between(
        &self,
        protocol: u8,
        local: TransportAddress,
        remote: TransportAddress,
        span: TimeSpan,
    ) -> Vec<&KnownSocket> {
        let cookies = self.closed.get(&(protocol, local, remote)).into_iter().flatten();
        let known = cookies.filter_map(|cookie| self.known.get(cookie));
        // A socket that is reported closed twice may have had other ends the first time.
        let has_ends = |known: &&KnownSocket| known.closed.is_some_and(|closed| closed.ends == Some((local, remote)));
        known.filter(|known| has_ends(known) && known.is_of(span)).collect()
    }

    /// Whether there is little room left. Counts the calls: all packets of a socket that was closed
    /// before the previous call have been processed.
    pub(super) fn is_nearly_full(&mut self) -> bool {
        self.tidied += 1;
        self.capacities[0].is_due(self.known.len()) || self.capacities[1].is_due(self.of_flows.len())
    }

    /// Removes flows that are not reported, and closed sockets without a reported flow. Returns the
    /// connections of removed sockets that had no packet.
    pub(super) fn tidy(&mut self, reported: &dyn ReportedFlows) -> Vec<(Connects, Option<i32>)> {
        if reported.is_complete() {
            self.of_flows.retain(|flow, _| reported.contains(flow));
        }
        self.of_flows.retain(|_, cookies| {
            join_alike(cookies, &self.known);
            !cookies.is_empty()
        });
        let needed: HashSet<u64> = self.of_flows.values().flatten().copied().collect();
        let (tidied, of_flows) = (self.tidied, &self.of_flows);
        // The ends of a socket matter only for flows whose packets are not linked to a socket.
        let is_wanted = |flow: &FlowKey| reported.contains(flow) && !of_flows.contains_key(flow);
        let has_ended = |cookie: &u64, known: &KnownSocket| {
            let closed = known.closed.filter(|closed| closed.tidied + 1 < tidied);
            closed
                .is_some_and(|closed| !needed.contains(cookie) && !has_ends_of(known.protocol, closed.ends, is_wanted))
        };
        let ended = self.known.extract_if(|cookie, known| has_ended(cookie, known));
        let failed = ended.filter_map(|(_, known)| known.connects_without_a_packet()).collect();
        let (known, forgotten) = (&self.known, &mut self.forgotten);
        self.bound.retain(|port, cookies| {
            let before = cookies.len();
            cookies.retain(|cookie| known.contains_key(cookie));
            if cookies.len() < before {
                forgotten.insert(*port);
            }
            !cookies.is_empty()
        });
        self.closed.retain(|_, cookies| {
            cookies.retain(|cookie| known.contains_key(cookie));
            !cookies.is_empty()
        });
        self.capacities[0].was_tidied(self.known.len());
        self.capacities[1].was_tidied(self.of_flows.len());
        failed
    }

    /// All processes that created, used or connected a socket.
    pub(super) fn processes(&self) -> impl Iterator<Item = ProcessNumber> {
        self.known.values().flat_map(KnownSocket::processes)
    }
}

/// Removes unknown sockets, and closed sockets with the same users as another socket of the flow:
/// successive connections from one port add no information.
fn join_alike(cookies: &mut Vec<u64>, known: &HashMap<u64, KnownSocket>) {
    let mut kept: Vec<&KnownSocket> = Vec::new();
    cookies.retain(|cookie| {
        let Some(socket) = known.get(cookie) else { return false };
        let is_alike = |other: &&KnownSocket| (other.maker, &other.users) == (socket.maker, &socket.users);
        let is_redundant = socket.closed.is_some() && kept.iter().any(is_alike);
        kept.push(socket);
        !is_redundant
    });
}

/// Whether `contains` holds for a flow between these ends, on the link or the loopback.
fn has_ends_of(
    protocol: Option<Protocol>,
    ends: Option<(TransportAddress, TransportAddress)>,
    contains: impl Fn(&FlowKey) -> bool,
) -> bool {
    let Some((protocol, (local, remote))) = protocol.zip(ends) else { return false };
    let flow = |point| FlowKey { point, protocol: protocol.0, fragment: false, local, remote };
    contains(&flow(ObservationPoint::Link)) || contains(&flow(ObservationPoint::Loopback))
}
